import Base
import Logging

/// Servers and channels of one process that meet without sockets: for tests of services, and for programs that
/// hold both sides of a call.
///
/// Everything above the bytes is the same as over a socket: frames, credit, deadlines, permissions, refusals of
/// peers of another cluster or role. There is no TLS; who the sides are is said when they are made.
public final class InProcessNetwork: Sendable {
  private let listeners = InProcessListeners()

  public init() {}

  /// Makes a server, which is not to be started, reachable at the address until it is shut down.
  ///
  /// - Parameter admitsStrangers: callers without an identity, who reach open methods only.
  /// - Throws: UNAVAILABLE where another server listens there.
  public func listen(
    _ server: Server, as identity: Identity, at address: Address, admitsStrangers: Bool = false
  ) throws(RPCError) {
    try listeners.add(
      InProcessListener(server: server, identity: identity, admitsStrangers: admitsStrangers),
      at: address)
  }

  /// A channel to whoever listens at the address when it connects.
  ///
  /// - Parameter identity: the caller; nil for one without a certificate.
  public func channel(
    to address: Address, as identity: Identity?, expecting expectation: PeerExpectation,
    group: EventLoopGroup, logger: Logger, limits: ConnectionLimits = ConnectionLimits(),
    interceptors: [any ClientInterceptor] = []
  ) -> Channel {
    let connector = InProcessConnector(name: "\(address) in process") { [listeners] loop in
      InProcessLink(
        name: "\(address) in process", clientIdentity: identity, clientLoop: loop,
        toServer: Lane(), toClient: Lane()
      ) { listeners.find(address) }
    }
    return Channel(
      address: address, connector: connector, expecting: expectation, loop: group.nextLoop(),
      logger: logger, limits: limits, interceptors: interceptors)
  }

  /// Makes channels of that identity.
  public func dialer(
    as identity: Identity?, group: EventLoopGroup, logger: Logger,
    limits: ConnectionLimits = ConnectionLimits()
  ) -> Dialer {
    Dialer { [self] address, expectation in
      channel(
        to: address, as: identity, expecting: expectation, group: group, logger: logger,
        limits: limits)
    }
  }
}

/// Who listens where.
final class InProcessListeners: Sendable {
  private let byAddress = Locked<[Address: InProcessListener]>([:])

  func add(_ listener: InProcessListener, at address: Address) throws(RPCError) {
    let isFree = byAddress.withLock { all in
      if let other = all[address]?.server, !other.isShutDown { return false }
      all[address] = listener
      return true
    }
    if !isFree {
      throw RPCError(.unavailable, "cannot listen on \(address): another server does")
    }
  }

  func find(_ address: Address) -> InProcessListener? { byAddress.withLock { $0[address] } }
}

/// Makes links to one address.
struct InProcessConnector: Connector {
  let name: String
  let makeLink: @Sendable (EventLoop) -> InProcessLink

  func endpoints(_ done: @escaping @Sendable (Result<[Endpoint], RPCError>) -> Void) {
    done(.success([.number(0)]))
  }

  func transport(to endpoint: Endpoint, on loop: EventLoop) throws(RPCError) -> Transport {
    makeLink(loop).makeClient()
  }
}
