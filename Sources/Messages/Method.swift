/// What becomes of the server when a call is made twice with the same arguments; marked in the schema.
public enum Idempotency: Sendable {
  /// Once more may do once more.
  case unknown
  /// As if it had been made once.
  case idempotent
  /// A question: nothing changes, however often it is asked.
  case noSideEffects
}

/// One callable method: its full name and the types and shape of its two sides.
public struct Method<Request: WireMessage, Reply: WireMessage>: Sendable {
  /// "sfmedir.v1.Service/Name"
  public let name: String
  public let clientStreams: Bool
  public let serverStreams: Bool
  public let idempotency: Idempotency

  public init(
    _ name: String, clientStreams: Bool, serverStreams: Bool, idempotency: Idempotency = .unknown
  ) {
    self.name = name
    self.clientStreams = clientStreams
    self.serverStreams = serverStreams
    self.idempotency = idempotency
  }
}
