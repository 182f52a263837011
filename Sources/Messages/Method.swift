/// One callable method: its full name and the types and shape of its two sides.
public struct Method<Request: WireMessage, Reply: WireMessage>: Sendable {
  /// "sfmedir.v1.Service/Name"
  public let name: String
  public let clientStreams: Bool
  public let serverStreams: Bool

  public init(_ name: String, clientStreams: Bool, serverStreams: Bool) {
    self.name = name
    self.clientStreams = clientStreams
    self.serverStreams = serverStreams
  }
}
