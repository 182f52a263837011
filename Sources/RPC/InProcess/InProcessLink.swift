/// Two ends of a connection within this process, and the two lanes between them.
///
/// Each end belongs to the loop of its side, and so does what is said here to be that side's.
final class InProcessLink: @unchecked Sendable {
  let name: String
  let clientIdentity: Identity?
  /// Who answers; known to the client once the link is accepted.
  private(set) var serverIdentity: Identity?
  let toServer: Lane
  let toClient: Lane
  private let clientLoop: EventLoop
  /// The client's side.
  private var client: InProcessTransport?
  /// Where the connection is served. Found when the first parcel arrives, by whoever brings it.
  private var serverLoop: EventLoop?
  /// The server's side.
  private var server: InProcessTransport?
  private var findListener: (() -> InProcessListener?)?

  /// - Parameter listener: finds who listens; asked once, when the link is opened.
  init(
    name: String, clientIdentity: Identity?, clientLoop: EventLoop, toServer: Lane, toClient: Lane,
    listener: @escaping () -> InProcessListener?
  ) {
    self.name = name
    self.clientIdentity = clientIdentity
    self.clientLoop = clientLoop
    self.toServer = toServer
    self.toClient = toClient
    findListener = listener
    // The ends hold the link, and the link the lanes.
    toServer.handOver = { [weak self] in self?.handOverToServer($0) }
    toClient.handOver = { [weak self] in self?.handOverToClient($0) }
  }

  /// The client's end. Client's loop.
  func makeClient() -> InProcessTransport {
    let end = InProcessTransport(loop: clientLoop, link: self, isClient: true)
    client = end
    return end
  }

  /// Both ends have closed, or the only one.
  var isOver: Bool { client == nil && server == nil }

  private func handOverToServer(_ parcel: Parcel) {
    if case .open = parcel {
      let listener = findListener?()
      findListener = nil
      do throws(RPCError) {
        guard let listener, let server = listener.server else { throw Server.nobodyListens }
        let loop = try server.loopForConnection()
        serverLoop = loop
        Self.later(on: loop) { [self] in accept(listener, server, loop) }
      } catch {
        toClient.carry(.failed(error))
      }
    } else if let serverLoop {
      Self.later(on: serverLoop) { [self] in server?.arrived(parcel) }
    }
  }

  private func accept(_ listener: InProcessListener, _ server: Server, _ loop: EventLoop) {
    guard clientIdentity != nil || listener.admitsStrangers else {
      toClient.carry(
        .failed(
          RPCError(
            .unauthenticated, "the server admits nobody without a certificate",
            reason: CloseReason.handshakeFailed)))
      return
    }
    serverIdentity = listener.identity
    let end = InProcessTransport(loop: loop, link: self, isClient: false)
    self.server = end
    server.serve(end)
  }

  private func handOverToClient(_ parcel: Parcel) {
    Self.later(on: clientLoop) { [self] in client?.arrived(parcel) }
  }

  /// Never within the work of the sender: a socket does not answer while it is written to either.
  private static func later(on loop: EventLoop, _ action: @escaping @Sendable () -> Void) {
    if loop.inLoop { loop.executeAtRoundEnd(action) } else { loop.execute(action) }
  }

  /// That end's loop.
  func endIsClosed(isClient: Bool) {
    if isClient { client = nil } else { server = nil }
  }

  /// For simulations, where every loop is on one thread: the connection breaks for that end.
  func fail(isClient: Bool, _ error: RPCError) {
    guard let loop = isClient ? clientLoop : serverLoop else { return }
    loop.execute { [self] in (isClient ? client : server)?.arrived(.failed(error)) }
  }
}

/// A server, and who it says it is.
struct InProcessListener: Sendable {
  /// Nobody listens any more where its owner has dropped it.
  weak var server: Server?
  let identity: Identity
  let admitsStrangers: Bool
}
