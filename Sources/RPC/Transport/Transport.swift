import Base

/// The connection above a transport. All calls come on the loop's thread.
protocol TransportOwner: AnyObject {
  /// The other side is known (nil: it has no certificate) and bytes may flow.
  func transportIsReady(_ peer: Identity?)
  /// Bytes of the peer, valid during the call.
  func transportReceived(_ bytes: UnsafeRawBufferPointer)
  /// True where it is known whose the next bytes are: ``transportFill(_:)`` then saves a copy.
  var transportWantsFilling: Bool { get }
  /// Lets `read` put bytes where they belong; it returns how many it put there.
  func transportFill(_ read: (UnsafeMutableRawBufferPointer) -> Int)
  /// Bytes left: there is room for more.
  func transportHasRoom()
  /// Over, with the reason; the last call.
  func transportClosed(_ error: RPCError)
}

/// Ordered bytes to and from one peer. Confined to its loop.
class Transport: RoundFlusher {
  /// Set before ``start()`` and kept while the transport runs; nil once it is over.
  final var owner: (any TransportOwner)?
  /// Told once when the transport is over, its last words included.
  final var onOver: (() -> Void)?
  final let loop: EventLoop
  final var output: OutputQueue
  private final var flushIsAsked = false

  init(loop: EventLoop) {
    self.loop = loop
    output = OutputQueue(buffers: loop.buffers)
  }

  /// Bytes written and not yet given to the operating system.
  var pendingBytes: Int { output.count }
  /// Whom the bytes come from, for logs.
  var peerName: String { "" }
  func start() {}
  /// Ends the transport without telling its owner; subclasses call it last.
  func close() {
    output.removeAll()
    let told = onOver
    onOver = nil
    told?()
  }
  /// Ends it without telling its owner, but lets what was written arrive first: closing a socket that holds
  /// unread bytes resets the connection, and the last words would be lost.
  func closeAfterLastWords() { close() }
  /// Sends what the queue holds; for subclasses.
  func flush() {}
  /// Why the peer must not stay, where credentials were exchanged since it came.
  func peerRefusal() -> RPCError? { nil }
  /// True where the handshake continued an earlier session.
  var isResumed: Bool { false }

  private static let lingerMilliseconds: UInt64 = 1000
  private static let mostLingerings = 30

  /// For ``closeAfterLastWords()``: closes once the peer takes nothing more for a second, and after half a
  /// minute in any case.
  final func linger(_ rounds: Int = 1) {
    let pending = pendingBytes
    _ = loop.schedule(afterMilliseconds: Self.lingerMilliseconds) { [self] in
      if pendingBytes < pending, rounds < Self.mostLingerings {
        linger(rounds + 1)
      } else {
        close()
      }
    }
  }

  /// After output was appended: it leaves at the end of the round, together with what else comes.
  final func outputWasAppended() {
    if flushIsAsked { return }
    flushIsAsked = true
    loop.flushAtRoundEnd(self)
  }

  final func flushRound() {
    flushIsAsked = false
    flush()
  }
}
