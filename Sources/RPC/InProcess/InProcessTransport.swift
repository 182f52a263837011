/// One end of a connection to another part of this process: ordered bytes, a bound on what is under way,
/// an end that the other side sees. What TLS proves on a socket, whoever the sides are, is given.
final class InProcessTransport: Transport {
  private enum State {
    /// The client waits to be accepted; the server's end has not been started.
    case connecting
    case open
    /// Closed by its owner; what was written still leaves.
    case lingering
    case closed
  }

  private let link: InProcessLink
  private let isClient: Bool
  private var state = State.connecting
  private var peer: Identity?
  private var endIsSent = false
  /// Bytes that the other end has not taken.
  private(set) var bytesUnderWay = 0

  /// As much as the buffers of a socket hold, about.
  static let capacityBytes = 256 << 10
  /// Carried at once.
  private static let pieceBytes = 64 << 10

  init(loop: EventLoop, link: InProcessLink, isClient: Bool) {
    self.link = link
    self.isClient = isClient
    super.init(loop: loop)
  }

  private var outward: Lane { isClient ? link.toServer : link.toClient }
  override var peerName: String { "\(link.name) (\(peer?.uri ?? "no certificate"))" }

  override func start() {
    if isClient {
      outward.carry(.open)
    } else {
      outward.carry(.accepted)
      state = .open
      peer = link.clientIdentity
      owner?.transportIsReady(peer)
    }
  }

  /// The other end's parcels, in order. On the loop.
  func arrived(_ parcel: Parcel) {
    switch parcel {
    case .open: preconditionFailure("a link is opened once, and before it has a server's end")
    case .accepted:
      guard state == .connecting else { return }
      state = .open
      peer = link.serverIdentity
      owner?.transportIsReady(peer)
    case .bytes(let bytes): received(bytes)
    case .taken(let count):
      bytesUnderWay -= count
      precondition(bytesUnderWay >= 0, "\(-bytesUnderWay) bytes more were taken than sent")
      if output.count > 0 { outputWasAppended() }
    case .end:
      fail(
        RPCError(.unavailable, "the peer closed the connection", reason: CloseReason.peerClosed))
    case .failed(let error): fail(error)
    }
  }

  private func received(_ bytes: [UInt8]) {
    guard state == .open || state == .lingering else { return }
    bytes.withUnsafeBytes { bytes in
      var position = 0
      // The owner may close at any of these.
      while position < bytes.count, state == .open, let owner {
        if owner.transportWantsFilling {
          owner.transportFill { room in
            let piece = bytes[position..<min(position + room.count, bytes.count)]
            room.copyMemory(from: UnsafeRawBufferPointer(rebasing: piece))
            position += piece.count
            return piece.count
          }
        } else {
          let piece = bytes[position..<min(position + LoopBuffers.readBytes, bytes.count)]
          position += piece.count
          owner.transportReceived(UnsafeRawBufferPointer(rebasing: piece))
        }
        loop.runReadyJobs()
      }
    }
    if state != .closed { outward.carry(.taken(bytes.count)) }
  }

  override func flush() {
    guard state == .open || state == .lingering else { return }
    while output.count > 0, bytesUnderWay < Self.capacityBytes {
      let count = min(output.count, Self.pieceBytes, Self.capacityBytes - bytesUnderWay)
      let piece = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        let room = UnsafeMutableRawBufferPointer(buffer)
        while filled < count {
          _ = output.takeNext(limit: count - filled) { bytes, _ in
            UnsafeMutableRawBufferPointer(rebasing: room[filled...]).copyMemory(from: bytes)
            filled += bytes.count
          }
        }
      }
      bytesUnderWay += count
      outward.carry(.bytes(piece))
    }
    owner?.transportHasRoom()
    endIfLingering()
  }

  override func closeAfterLastWords() {
    guard state == .open else {
      close()
      return
    }
    owner = nil
    state = .lingering
    linger()
    flush()
  }

  /// The other end closes on this, and then so does this one.
  private func endIfLingering() {
    guard state == .lingering, output.count == 0 else { return }
    sendEnd()
  }

  private func sendEnd() {
    guard !endIsSent else { return }
    endIsSent = true
    outward.carry(.end)
  }

  override func close() {
    guard state != .closed else { return }
    state = .closed
    owner = nil
    sendEnd()
    link.endIsClosed(isClient: isClient)
    super.close()
  }

  private func fail(_ error: RPCError) {
    guard state != .closed else { return }
    let owner = owner
    close()
    owner?.transportClosed(error)
  }
}
