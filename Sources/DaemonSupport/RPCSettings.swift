import Logging
import RPC

/// The table `[rpc]` of a daemon's configuration: what it bounds, and its event loops.
public struct RPCSettings: Sendable, Equatable {
  public var maximumConnections: Int
  public var maximumHandshakes: Int
  public var maximumRunningCalls: Int
  public var maximumUnreadMebibytes: Int
  public var handshakeSeconds: Int
  /// Silence before a ping, and silence after it that ends the connection.
  public var keepaliveSeconds: Int
  public var slowReaderSeconds: Int
  /// 0: connections may live for ever.
  public var maximumConnectionAgeMinutes: Int
  public var streamWindowKibibytes: Int
  public var connectionWindowKibibytes: Int
  /// Nil: one for each processor.
  public var eventLoops: Int?
  public var busyPollMicroseconds: Int

  /// A window smaller than the largest message, with what is charged for its frame, would never let it pass.
  static let smallestWindowKibibytes = 1088
  private static let largestWindowKibibytes = 1 << 20

  /// The RPC's own defaults.
  public init() {
    let server = ServerConfiguration(address: Address(host: "", port: 0), cluster: "")
    maximumConnections = server.maximumConnections
    maximumHandshakes = server.maximumHandshakes
    maximumRunningCalls = server.maximumRunningCalls
    maximumUnreadMebibytes = server.maximumUnreadBytes >> 20
    handshakeSeconds = Int(server.limits.handshakeMilliseconds) / 1000
    keepaliveSeconds = Int(server.limits.keepaliveMilliseconds) / 1000
    slowReaderSeconds = Int(server.limits.slowReaderMilliseconds) / 1000
    maximumConnectionAgeMinutes = Int(server.limits.maximumAgeMilliseconds) / 60_000
    streamWindowKibibytes = server.limits.streamWindowBytes >> 10
    connectionWindowKibibytes = server.limits.connectionWindowBytes >> 10
    busyPollMicroseconds = Int(EventLoopGroup.defaultBusyPollMicroseconds)
  }

  init(_ table: ConfigurationTable) throws(ConfigurationError) {
    self.init()
    func number(
      _ key: String, _ fallback: Int, _ range: ClosedRange<Int>
    ) throws(ConfigurationError) -> Int {
      try table.integer(key, default: fallback, in: range)
    }
    maximumConnections = try number("maximum_connections", maximumConnections, 1...1_000_000)
    maximumHandshakes = try number("maximum_handshakes", maximumHandshakes, 1...1_000_000)
    maximumRunningCalls = try number("maximum_running_calls", maximumRunningCalls, 1...1_000_000)
    maximumUnreadMebibytes = try number("maximum_unread_mib", maximumUnreadMebibytes, 1...1 << 20)
    handshakeSeconds = try number("handshake_seconds", handshakeSeconds, 1...600)
    keepaliveSeconds = try number("keepalive_seconds", keepaliveSeconds, 1...3600)
    slowReaderSeconds = try number("slow_reader_seconds", slowReaderSeconds, 1...3600)
    maximumConnectionAgeMinutes = try number(
      "maximum_connection_age_minutes", maximumConnectionAgeMinutes, 0...60 * 24 * 365)
    let windows = Self.smallestWindowKibibytes...Self.largestWindowKibibytes
    streamWindowKibibytes = try number("stream_window_kib", streamWindowKibibytes, windows)
    connectionWindowKibibytes = try number(
      "connection_window_kib", connectionWindowKibibytes, windows)
    guard connectionWindowKibibytes >= streamWindowKibibytes else {
      throw table.invalid(
        "connection_window_kib",
        "is \(connectionWindowKibibytes), less than stream_window_kib, \(streamWindowKibibytes)")
    }
    if table.has("event_loops") { eventLoops = try table.integer("event_loops", in: 1...256) }
    busyPollMicroseconds = try number("busy_poll_microseconds", busyPollMicroseconds, 0...1000)
  }

  /// For servers, and for channels to others.
  public var limits: ConnectionLimits {
    var limits = ConnectionLimits()
    limits.handshakeMilliseconds = UInt64(handshakeSeconds) * 1000
    limits.keepaliveMilliseconds = UInt64(keepaliveSeconds) * 1000
    limits.keepaliveTimeoutMilliseconds = UInt64(keepaliveSeconds) * 1000
    limits.slowReaderMilliseconds = UInt64(slowReaderSeconds) * 1000
    limits.maximumAgeMilliseconds = UInt64(maximumConnectionAgeMinutes) * 60_000
    limits.streamWindowBytes = streamWindowKibibytes << 10
    limits.connectionWindowBytes = connectionWindowKibibytes << 10
    return limits
  }

  func makeEventLoops() -> EventLoopGroup {
    let busyPoll = UInt64(busyPollMicroseconds)
    guard let eventLoops else { return EventLoopGroup(busyPollMicroseconds: busyPoll) }
    return EventLoopGroup(count: eventLoops, busyPollMicroseconds: busyPoll)
  }
}

extension CommonConfiguration {
  /// How this daemon serves: its address, its limits, audit and traces in its log.
  public func serverConfiguration(logger: Logger) -> ServerConfiguration {
    var server = ServerConfiguration(address: listen, cluster: cluster)
    server.limits = rpc.limits
    server.maximumConnections = rpc.maximumConnections
    server.maximumHandshakes = rpc.maximumHandshakes
    server.maximumRunningCalls = rpc.maximumRunningCalls
    server.maximumUnreadBytes = rpc.maximumUnreadMebibytes << 20
    let audit = Logger(label: "audit") { _ in logger.handler }
    server.interceptors = [AuditInterceptor(logger: audit), TracingInterceptor(logger: logger)]
    return server
  }
}
