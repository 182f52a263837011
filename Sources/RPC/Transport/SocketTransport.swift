import Base
import CWire
import Glibc

/// TLS over a TCP socket.
final class SocketTransport: Transport, DescriptorHandler, Warmable {
  private let descriptor: Int32
  private let tls: TLSStream
  private var connecting: Bool
  private var isHandshaking = true
  private var isOpen = false
  private var isClosed = false
  private var isLingering = false
  private var wantsWritable = false
  private var isWarm = false
  private var recentEvents = 0
  private var readIsScheduled = false
  private lazy var name = Self.peerName(descriptor)
  /// Tests only.
  private let faults = TransportFaults.ofProcess
  private var held = HeldBytes()

  /// Reads of one turn: a fast peer must not hold up the loop's other connections.
  private static let readsPerTurn = 64
  /// Given to TLS at once.
  private static let pieceBytes = 64 << 10

  /// - Parameter connecting: the TCP handshake is still under way.
  init(loop: EventLoop, descriptor: Int32, tls: TLSStream, connecting: Bool) {
    self.descriptor = descriptor
    self.tls = tls
    self.connecting = connecting
    super.init(loop: loop)
  }

  deinit { precondition(isClosed || !isOpen, "a socket was dropped without close()") }

  override var pendingBytes: Int { output.count + tls.unsentBytes }
  override var peerName: String { name }
  override var isResumed: Bool { tls.isResumed }

  private static func peerName(_ descriptor: Int32) -> String {
    var name = [CChar](repeating: 0, count: 80)
    sfm_peer_name(descriptor, &name, name.count)
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  override func start() {
    isOpen = true
    let events = EPOLLIN.rawValue | (connecting ? EPOLLOUT.rawValue : 0)
    wantsWritable = connecting
    guard loop.add(descriptor, events: events, self) else {
      fail(RPCError(.resourceExhausted, "epoll has no room for another socket"))
      return
    }
    if !connecting { handshake() }
  }

  override func close() {
    guard !isClosed else { return }
    isClosed = true
    if isOpen {
      if !isHandshaking { tls.shutdown() }
      loop.remove(descriptor)
    }
    sfm_close(descriptor)
    owner = nil
    super.close()
  }

  override func closeAfterLastWords() {
    guard isOpen, !isClosed, !isHandshaking else {
      close()
      return
    }
    owner = nil
    isLingering = true
    linger()
    flush()
    endOutputIfLingering()
  }

  private func endOutputIfLingering() {
    guard isLingering, !isClosed, pendingBytes == 0 else { return }
    tls.shutdown()
    sfm_shutdown_writing(descriptor)
  }

  private func fail(_ error: RPCError) {
    guard !isClosed else { return }
    let owner = owner
    close()
    owner?.transportClosed(error)
  }

  private static let peerClosed = RPCError(
    .unavailable, "the peer closed the connection", reason: CloseReason.peerClosed)

  func descriptorIsReady(_ events: UInt32) {
    if connecting {
      let result = sfm_connect_result(descriptor)
      if result < 0 {
        fail(RPCError(.unavailable, "cannot connect: \(systemMessage(result))"))
        return
      }
      guard events & (EPOLLOUT.rawValue | EPOLLIN.rawValue) != 0 else { return }
      connecting = false
    }
    tls.socketIsReadable()
    if isHandshaking {
      handshake()
      return
    }
    recentEvents += 1
    if recentEvents >= Self.busyEvents, !isWarm {
      isWarm = true
      tls.keepBuffers(true)
      loop.keepWarm(self)
    }
    // Reading comes first: where the peer has gone, its last words say why and a write would only fail.
    if events & ~EPOLLOUT.rawValue != 0 { read() }
    if events & EPOLLOUT.rawValue != 0 {
      flush()
      endOutputIfLingering()
    }
  }

  func loopEnds() {
    fail(RPCError(.unavailable, "the event loop ended", reason: CloseReason.cut))
  }

  /// So many events between two looks make a connection busy.
  private static let busyEvents = 16

  func staysWarm() -> Bool {
    let isBusy = !isClosed && recentEvents >= Self.busyEvents
    recentEvents = 0
    if !isBusy, !isClosed { tls.keepBuffers(false) }
    isWarm = isBusy
    return isBusy
  }

  private func handshake() {
    switch tls.handshake() {
    case .done:
      isHandshaking = false
      wantWritable(tls.unsentBytes > 0)
      switch tls.peer() {
      case .stranger: owner?.transportIsReady(nil)
      case .identity(let identity): owner?.transportIsReady(identity)
      case .unreadable(let why):
        fail(RPCError(.unauthenticated, why, reason: CloseReason.handshakeFailed))
      }
      // The first frames may have come with the end of the handshake: no event would tell of them.
      if !isClosed { read() }
    case .wantsRead: wantWritable(false)
    case .wantsWrite: wantWritable(true)
    case .closed:
      fail(
        RPCError(
          .unavailable, "the peer closed during the TLS handshake",
          reason: CloseReason.handshakeFailed))
    case .failed(let why):
      fail(
        RPCError(
          .unauthenticated, "TLS handshake failed: \(why)", reason: CloseReason.handshakeFailed))
    }
  }

  private func read() {
    for _ in 0..<Self.readsPerTurn {
      if isClosed { return }
      var outcome = TLSStream.Outcome.wantsRead
      if let owner, owner.transportWantsFilling {
        owner.transportFill { destination in
          outcome = tls.read(into: destination)
          if case .done(let count) = outcome { return count }
          return 0
        }
        if case .done = outcome { continue }
      } else {
        outcome = tls.read(into: loop.buffers.read)
      }
      switch outcome {
      case .done(let count):
        owner?.transportReceived(
          UnsafeRawBufferPointer(start: loop.buffers.read.baseAddress, count: count))
        loop.runReadyJobs()
        // The other side may work on the first answers while this one makes the next.
        if output.fillsRecord { flush() }
      case .wantsRead:
        sendAnswersOfTLS()
        return
      case .wantsWrite:
        wantWritable(true)
        return
      case .closed:
        fail(Self.peerClosed)
        return
      case .failed(let why):
        fail(RPCError(.unavailable, "TLS failed: \(why)", reason: CloseReason.tlsFailed))
        return
      }
    }
    sendAnswersOfTLS()
    // More may be buffered inside OpenSSL, where epoll does not see it.
    guard !readIsScheduled else { return }
    readIsScheduled = true
    _ = loop.schedule(afterMilliseconds: 0) { [weak self] in
      self?.readIsScheduled = false
      self?.read()
    }
  }

  /// Reading can make TLS answer (a key update).
  private func sendAnswersOfTLS() {
    if !isClosed, tls.unsentBytes > 0 { flush() }
  }

  /// How much of the output may leave now.
  private func releasedBytes(_ faults: TransportFaults) -> Int {
    let now = loop.nowNanoseconds()
    held.release(now: now)
    let delay = faults.delay(to: name, now: now).map { delay in
      let jitter = loop.jitter(in: 0...1) * Double(delay.jitterMilliseconds)
      return UInt64((Double(delay.milliseconds) + jitter) * 1e6)
    }
    if let due = held.note(total: output.count, now: now, delayNanoseconds: delay) {
      _ = loop.schedule(atNanoseconds: due) { [weak self] in
        self?.flush()
        self?.endOutputIfLingering()
      }
    }
    return held.released
  }

  override func flush() {
    guard !isClosed, !isHandshaking else { return }
    var failure: TLSStream.Outcome?
    var mayLeave = faults.map(releasedBytes) ?? .max
    repeat {
      let sent = tls.send()
      guard case .done = sent else {
        failure = sent
        break
      }
    } while mayLeave > 0
      && output.takeNext(
        limit: min(Self.pieceBytes, mayLeave),
        { bytes, more in
          let outcome = tls.encrypt(bytes, more: more && mayLeave > bytes.count)
          if faults != nil {
            held.took(bytes.count)
            mayLeave -= bytes.count
          }
          if case .done = outcome {} else { failure = outcome }
        })
      && failure == nil
    switch failure {
    case nil: wantWritable(false)
    case .wantsWrite: wantWritable(true)
    case .failed(let why):
      fail(RPCError(.unavailable, "TLS failed: \(why)", reason: CloseReason.tlsFailed))
      return
    case .closed, .done, .wantsRead:
      fail(Self.peerClosed)
      return
    }
    owner?.transportHasRoom()
  }

  private func wantWritable(_ wanted: Bool) {
    guard wanted != wantsWritable, !isClosed else { return }
    wantsWritable = wanted
    loop.modify(descriptor, events: EPOLLIN.rawValue | (wanted ? EPOLLOUT.rawValue : 0))
  }

  override func peerRefusal() -> RPCError? {
    guard !isHandshaking, tls.peerWasRevoked() else { return nil }
    return RPCError(
      .unauthenticated, "the peer's certificate was revoked", reason: CloseReason.revoked)
  }
}
