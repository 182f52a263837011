import Base
import CWire
import Glibc

/// What a transport tells the connection above it; always on the loop's thread.
enum TransportEvent {
  /// The other side is known (nil: it has no certificate) and bytes may flow.
  case ready(Identity?)
  case received(UnsafeRawBufferPointer)
  /// Bytes left: there is room for more.
  case drained
  /// Over, with the reason; the last event.
  case closed(RPCError)
}

/// Ordered bytes to and from one peer. Confined to its loop.
protocol Transport: AnyObject {
  var onEvent: ((TransportEvent) -> Void)? { get set }
  /// Bytes accepted by ``write(_:)`` and not yet given to the operating system.
  var pendingBytes: Int { get }
  /// Whom the bytes come from, for logs.
  var peerName: String { get }
  func start()
  func write(_ bytes: [UInt8])
  /// Ends the transport without an event.
  func close()
  /// Ends it without an event, but lets what was written arrive first: closing a socket that holds
  /// unread bytes resets the connection, and the last words would be lost.
  func closeAfterLastWords()
}

/// TLS over a TCP socket.
final class SocketTransport: Transport {
  var onEvent: ((TransportEvent) -> Void)?
  let peerName: String
  private let loop: EventLoop
  private let descriptor: Int32
  private let tls: TLSStream
  private var connecting: Bool
  private var isHandshaking = true
  private var isOpen = false
  private var isClosed = false
  private var isLingering = false
  private var output: [UInt8] = []
  private var outputStart = 0
  private var wantsWritable = false
  private var flushIsScheduled = false

  private static let readBytes = 64 << 10
  /// Reads of one turn: a fast peer must not hold up the loop's other connections.
  private static let readsPerTurn = 32
  private let scratch = UnsafeMutableRawBufferPointer.allocate(
    byteCount: SocketTransport.readBytes, alignment: 16)

  /// - Parameter connecting: the TCP handshake is still under way.
  init(loop: EventLoop, descriptor: Int32, tls: TLSStream, connecting: Bool) {
    self.loop = loop
    self.descriptor = descriptor
    self.tls = tls
    self.connecting = connecting
    var name = [CChar](repeating: 0, count: 80)
    sfm_peer_name(descriptor, &name, name.count)
    peerName = String(
      decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  deinit {
    precondition(isClosed || !isOpen, "a socket was dropped without close()")
    scratch.deallocate()
  }

  var pendingBytes: Int { output.count - outputStart }

  func start() {
    isOpen = true
    let events = EPOLLIN.rawValue | (connecting ? EPOLLOUT.rawValue : 0)
    wantsWritable = connecting
    guard loop.add(descriptor, events: events, { [self] in handle($0) }) else {
      fail(RPCError(.resourceExhausted, "epoll has no room for another socket"))
      return
    }
    if !connecting { handshake() }
  }

  func write(_ bytes: [UInt8]) {
    guard !isClosed else { return }
    output.append(contentsOf: bytes)
    guard !flushIsScheduled else { return }
    flushIsScheduled = true
    loop.executeAtTickEnd { [self] in
      flushIsScheduled = false
      flush()
    }
  }

  func close() {
    guard !isClosed else { return }
    isClosed = true
    onEvent = nil
    if isOpen {
      if !isHandshaking { tls.shutdown() }
      loop.remove(descriptor)
    }
    sfm_close(descriptor)
  }

  private static let lingerMilliseconds: UInt64 = 1000

  func closeAfterLastWords() {
    guard isOpen, !isClosed, !isHandshaking else {
      close()
      return
    }
    onEvent = nil
    isLingering = true
    _ = loop.schedule(afterMilliseconds: Self.lingerMilliseconds) { [self] in close() }
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
    let handler = onEvent
    close()
    handler?(.closed(error))
  }

  private func handle(_ events: UInt32) {
    if connecting {
      let result = sfm_connect_result(descriptor)
      if result < 0 {
        fail(RPCError(.unavailable, "cannot connect: \(systemMessage(result))"))
        return
      }
      guard events & (EPOLLOUT.rawValue | EPOLLIN.rawValue) != 0 else { return }
      connecting = false
    }
    if isHandshaking {
      handshake()
      return
    }
    // Reading comes first: where the peer has gone, its last words say why and a write would only fail.
    if events & ~EPOLLOUT.rawValue != 0 { read() }
    if events & EPOLLOUT.rawValue != 0 {
      flush()
      endOutputIfLingering()
    }
  }

  private func handshake() {
    switch tls.handshake() {
    case .done:
      isHandshaking = false
      wantWritable(false)
      switch tls.peer() {
      case .stranger: onEvent?(.ready(nil))
      case .identity(let identity): onEvent?(.ready(identity))
      case .unreadable(let why): fail(RPCError(.unauthenticated, why))
      }
      // The first frames may have come with the end of the handshake: no event would tell of them.
      if !isClosed { read() }
    case .wantsRead: wantWritable(false)
    case .wantsWrite: wantWritable(true)
    case .closed: fail(RPCError(.unavailable, "the peer closed during the TLS handshake"))
    case .failed(let why): fail(RPCError(.unauthenticated, "TLS handshake failed: \(why)"))
    }
  }

  private func read() {
    for _ in 0..<Self.readsPerTurn {
      if isClosed { return }
      switch tls.read(into: scratch) {
      case .done(let count):
        onEvent?(.received(UnsafeRawBufferPointer(start: scratch.baseAddress, count: count)))
      case .wantsRead: return
      case .wantsWrite:
        wantWritable(true)
        return
      case .closed:
        fail(RPCError(.unavailable, "the peer closed the connection"))
        return
      case .failed(let why):
        fail(RPCError(.unavailable, "TLS failed: \(why)"))
        return
      }
    }
    // More may be buffered inside OpenSSL, where epoll does not see it.
    _ = loop.schedule(afterMilliseconds: 0) { [weak self] in self?.read() }
  }

  private func flush() {
    guard !isClosed, !isHandshaking else { return }
    while outputStart < output.count {
      let outcome = output.withUnsafeBytes {
        tls.write(UnsafeRawBufferPointer(rebasing: $0[outputStart...]))
      }
      switch outcome {
      case .done(let count): outputStart += count
      case .wantsWrite, .wantsRead:
        compact()
        wantWritable(true)
        onEvent?(.drained)
        return
      case .closed:
        fail(RPCError(.unavailable, "the peer closed the connection"))
        return
      case .failed(let why):
        fail(RPCError(.unavailable, "TLS failed: \(why)"))
        return
      }
    }
    output.removeAll(keepingCapacity: output.capacity <= 1 << 20)
    outputStart = 0
    wantWritable(false)
    onEvent?(.drained)
  }

  private func compact() {
    guard outputStart > output.count / 2 else { return }
    output.removeFirst(outputStart)
    outputStart = 0
  }

  private func wantWritable(_ wanted: Bool) {
    guard wanted != wantsWritable, !isClosed else { return }
    wantsWritable = wanted
    loop.modify(descriptor, events: EPOLLIN.rawValue | (wanted ? EPOLLOUT.rawValue : 0))
  }
}
