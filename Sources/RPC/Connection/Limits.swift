/// Bounds of one connection; both sides announce theirs in the first frame.
public struct ConnectionLimits: Sendable {
  /// Largest frame payload accepted, and so the largest message, in bytes.
  public var maximumFrameBytes = 1 << 20
  /// What may be under way unread on one call, in bytes (payload and a fixed charge a frame).
  public var streamWindowBytes = 2 << 20
  /// The same for all calls of the connection together.
  public var connectionWindowBytes = 16 << 20
  /// Calls open at once.
  public var maximumStreams = 256
  /// A bulk frame is cut at this size, in bytes, so that a small call waits behind one piece only.
  public var bulkPieceBytes = 128 << 10
  /// Bytes that wait in the transport above which calls stop adding to it.
  public var outputHighWaterBytes = 256 << 10
  /// From the TCP connection to the first frame.
  public var handshakeMilliseconds: UInt64 = 10_000
  /// Silence after which a ping is sent; and silence after the ping that ends the connection.
  public var keepaliveMilliseconds: UInt64 = 10_000
  public var keepaliveTimeoutMilliseconds: UInt64 = 10_000
  /// How long a server waits for a reader to take one piece before it ends the call.
  public var slowReaderMilliseconds: UInt64 = 30_000
  /// Client: the longest pause before another attempt to connect, where earlier ones failed.
  public var maximumReconnectMilliseconds: UInt64 = 5000
  /// Server: after this, and up to a tenth more or less, a connection takes no new calls; 0: never.
  public var maximumAgeMilliseconds: UInt64 = 6 * 3_600_000
  /// How long calls of a connection that has reached its age may still take.
  public var ageGraceMilliseconds: UInt64 = 3_600_000
  /// The same for both, for a peer without a certificate: it has one call to make.
  public var strangerAgeMilliseconds: UInt64 = 60_000
  /// Longest deadline that a server accepts.
  public var maximumTimeoutMilliseconds: UInt64 = 3_600_000

  public init() {}

  /// Range of what a hello says of frames and windows, in bytes.
  static let announced = 16 << 10...1 << 30

  var areAnnounceable: Bool {
    [maximumFrameBytes, streamWindowBytes, connectionWindowBytes]
      .allSatisfy { Self.announced.contains($0) }
  }

  /// Bytes charged for each message or bulk frame beside its payload: empty frames cost memory too.
  static let frameCharge = 64
  /// Bytes waiting in the transport at which a peer that never reads is given up: answers to pings,
  /// refusals and credit are not held back by the mark above.
  static let outputLimitBytes = 4 << 20
  static let maximumMetadataEntries = 64
  static let maximumMetadataBytes = 16 << 10
  static let protocolVersion: UInt32 = 1
}
