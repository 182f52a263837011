import Logging

extension ServiceClient {
  /// The way to the masters: calls go to the one that leads, and look for it where another one is asked.
  /// - Parameter masters: at least one.
  public static func masters(
    _ masters: [Endpoint], tls: TLSContext, cluster: String, group: EventLoopGroup,
    logger: Logger, limits: ConnectionLimits = ConnectionLimits(),
    interceptors: [any ClientInterceptor] = []
  ) -> ServiceClient {
    var configuration = mastersConfiguration(limits)
    configuration.retries.maximumAttempts = 3
    // A master that took a lost one's place: its certificate has to name it, a master of this cluster, like any other's.
    configuration.findLeader = { leader in
      guard Identity.isName(leader.node), let address = Address(leader.address) else { return nil }
      return Endpoint(address, node: leader.node)
    }
    return ServiceClient(
      masters, tls: tls, expecting: PeerExpectation(cluster: cluster, role: .master),
      group: group, logger: logger, configuration: configuration,
      interceptors: interceptors)
  }

  /// For questions whose answers may be of some age: calls go to whichever master answers.
  /// - Parameter masters: at least one.
  public static func anyMaster(
    _ masters: [Endpoint], tls: TLSContext, cluster: String, group: EventLoopGroup,
    logger: Logger, limits: ConnectionLimits = ConnectionLimits()
  ) -> ServiceClient {
    var configuration = mastersConfiguration(limits)
    configuration.followsLeader = false
    configuration.retries.waitsForLostLeader = false
    configuration.retries.maximumAttempts = 3
    return ServiceClient(
      masters, tls: tls, expecting: PeerExpectation(cluster: cluster, role: .master),
      group: group, logger: logger, configuration: configuration)
  }

  /// Makes no call again that a master has begun; ``masters(_:tls:cluster:group:logger:limits:interceptors:)`` does.
  /// An election takes a few hundred milliseconds: who waits for one asks often.
  public static func mastersConfiguration(_ limits: ConnectionLimits) -> Configuration {
    var configuration = Configuration()
    configuration.followsLeader = true
    configuration.retries.maximumAttempts = 1
    configuration.retries.firstDelayMilliseconds = 15
    configuration.retries.delayFactor = 1.3
    configuration.retries.maximumDelayMilliseconds = 100
    configuration.retries.maximumLeaderWaits = 60
    configuration.retries.waitsForLostLeader = true
    configuration.health.firstEjectionMilliseconds = 50
    configuration.health.maximumEjectionMilliseconds = 500
    configuration.health.probeTimeout = .seconds(1)
    configuration.limits = limits
    configuration.limits.maximumReconnectMilliseconds = 300
    // One that is cut off or stopped says nothing, while another one may lead: whoever waits for it must find out.
    configuration.limits.keepaliveMilliseconds = min(limits.keepaliveMilliseconds, 1000)
    configuration.limits.keepaliveTimeoutMilliseconds = min(
      limits.keepaliveTimeoutMilliseconds, 1000)
    return configuration
  }
}
