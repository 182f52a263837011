import Base
import CWire
import Glibc
import Messages
import TestSupport
import Testing

@testable import RPC

/// Methods that only tests have.
enum AbuseMethods {
  /// Ends well without reading or sending anything.
  static let nothing = Method<Empty, Empty>(
    "test/Nothing", clientStreams: true, serverStreams: true)
  /// Reads nothing until it is let go, cancelled or not.
  static let stuck = Method<Empty, Empty>("test/Stuck", clientStreams: true, serverStreams: true)
  /// The same with one message.
  static let stuckOnce = Method<Empty, Empty>(
    "test/StuckOnce", clientStreams: false, serverStreams: false)
  /// Takes a message that can be small on the wire and large in memory.
  static let swell = Method<ListImagesReply, Empty>(
    "test/Swell", clientStreams: false, serverStreams: false)
  /// Answers with a hundred thousand bytes.
  static let large = Method<Empty, ListShadowsReply>(
    "test/Large", clientStreams: false, serverStreams: false)

  static let permissions = PermissionTable(
    Dictionary(
      uniqueKeysWithValues: [
        nothing.name, stuck.name, stuckOnce.name, swell.name, large.name,
        SlaveCloudMethods.listShadows.name,
        SlaveCloudMethods.putShadow.name, SlaveCloudMethods.getShadow.name,
        ImageUserMethods.queryImages.name,
      ].map { ($0, [.master]) }))

  /// - Parameter release: lets the stuck ones go.
  static func routes(_ router: inout Router, release: Gate) {
    CallTests.echoRoutes(&router)
    router.streaming(nothing) { _ in }
    router.streaming(stuck) { _ in await Task { await release.wait() }.value }
    router.unary(stuckOnce) { _, _ in
      await Task { await release.wait() }.value
      return Empty()
    }
    router.immediate(swell) { _, _ in Empty() }
    router.unary(large) { _, _ in
      var reply = ListShadowsReply()
      reply.names = [[UInt8](repeating: 1, count: 100_000)]
      return reply
    }
  }
}

/// A server under attack: its log, its counters, and what must be true once it is over.
final class Fortress: Sendable {
  let harness: Harness
  let log = CapturedLog()
  /// Lets stuck handlers go.
  let release: Gate

  /// Handshakes may take long where they are not what is tested: the machine has more to do.
  static var limits: ConnectionLimits {
    var limits = ConnectionLimits()
    limits.handshakeMilliseconds = 120_000
    return limits
  }

  init(
    limits: ConnectionLimits = Fortress.limits,
    configure: (inout ServerConfiguration) -> Void = { _ in }
  ) throws {
    let release = Gate()
    self.release = release
    harness = try Harness(limits: limits, log: log) { configuration in
      configuration.permissions = AbuseMethods.permissions
      configure(&configuration)
    } routes: {
      AbuseMethods.routes(&$0, release: release)
    }
  }

  var server: Server { harness.server }

  func count(_ counter: String) -> UInt64 { server.connectionCounters[counter, default: 0] }

  func attacker() throws -> TLSContext {
    try .client(harness.authority.credentials(.master, "attacker"))
  }

  /// Waits until connections ended for this reason, so many in all, and the log says so.
  func ended(_ counter: String, _ number: UInt64) async {
    await eventually { self.count(counter) >= number }
    #expect(count(counter) == number)
    await eventually { self.log.contains("counter=\(counter)") }
  }

  /// Somebody else is served as if nothing were.
  func serves() async throws {
    let channel = try harness.channel()
    let reply = try await channel.unary(
      SlaveCloudMethods.listShadows, ListShadowsRequest(), CallOptions(timeout: .seconds(60)))
    #expect(reply.names.count == 2)
    channel.close()
  }

  /// After the attack: others are served, and then nothing is left of anybody.
  func survived(serving: Bool = true) async throws {
    if serving { try await serves() }
    await eventually { self.server.connectionCount == 0 }
    await eventually { self.server.runningCalls == 0 }
    #expect(server.unreadBytes == 0)
    #expect(server.waitingBytes == 0)
    // The listener alone; connections that say why linger for a moment.
    await eventually { openSockets(of: self.server.port) == 1 }
    await harness.stop()
    #expect(openSockets(of: server.port) == 0)
  }
}

/// Descriptors of this process with this port on one side. Other tests have other ports.
func openSockets(of port: UInt16) -> Int {
  (0..<4096).count { descriptor in
    var address = sockaddr_in()
    for function in [getsockname, getpeername] {
      var length = socklen_t(MemoryLayout<sockaddr_in>.size)
      let result = withUnsafeMutablePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          function(Int32(descriptor), $0, &length)
        }
      }
      if result == 0, address.sin_family == AF_INET, UInt16(bigEndian: address.sin_port) == port {
        return true
      }
    }
    return false
  }
}

/// A TCP connection without TLS. Used by one task.
final class RawSocket {
  private var descriptor: Int32

  /// - Parameter receiveBytes: what the kernel keeps for a peer that does not read; 0: its own choice.
  init(port: UInt16, receiveBytes: Int32 = 0) throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    try #require(descriptor >= 0)
    if receiveBytes > 0 {
      var size = receiveBytes
      setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, 4)
    }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    let result = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    try #require(result == 0, "connect: \(errno)")
    _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
  }

  deinit { close() }

  /// The descriptor, for TLS; still closed here.
  var number: Int32 { descriptor }

  func send(_ bytes: ArraySlice<UInt8>) {
    bytes.withUnsafeBytes {
      _ = Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
    }
  }

  /// Reads away what comes; true once the other side has closed or reset.
  func isClosedByPeer() -> Bool {
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = recv(descriptor, &buffer, buffer.count, 0)
      if count > 0 { continue }
      return count == 0 || errno != EAGAIN
    }
  }

  func close() {
    if descriptor >= 0 { Glibc.close(descriptor) }
    descriptor = -1
  }

  /// Drops the connection with a reset instead of an end.
  func reset() {
    var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
    setsockopt(
      descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
    close()
  }
}

/// A TLS peer that reads only where it is told to. Used by one task.
final class DeafPeer {
  let socket: RawSocket
  private let stream: TLSStream

  /// Shakes hands; reads nothing after that.
  init(_ fortress: Fortress, tls: TLSContext, receiveBytes: Int32 = 4096) async throws {
    socket = try RawSocket(port: fortress.server.port, receiveBytes: receiveBytes)
    stream = try #require(TLSStream(context: tls, descriptor: socket.number))
    var outcome = stream.handshake()
    await eventually { [stream] in
      stream.socketIsReadable()
      outcome = stream.handshake()
      return outcome != .wantsRead && outcome != .wantsWrite
    }
    guard case .done = outcome else {
      Issue.record("no handshake: \(outcome)")
      return
    }
  }

  /// False where the server has closed.
  func send(_ bytes: [UInt8]) async -> Bool {
    guard case .done = bytes.withUnsafeBytes({ stream.encrypt($0, more: false) }) else {
      return false
    }
    var outcome = stream.send()
    await eventually { [stream] in
      if outcome == .wantsWrite { outcome = stream.send() }
      return outcome != .wantsWrite
    }
    if case .done = outcome { return true }
    return false
  }
}

/// The first bytes that a client says.
func clientHello(_ tls: TLSContext) throws -> [UInt8] {
  var pair: [Int32] = [-1, -1]
  try #require(makeSocketPair(&pair))
  defer { for descriptor in pair { closeSocket(descriptor) } }
  let stream = try #require(TLSStream(context: tls, descriptor: pair[0]))
  _ = stream.handshake()
  var bytes = [UInt8](repeating: 0, count: 8192)
  let count = recv(pair[1], &bytes, bytes.count, 0)
  try #require(count > 100)
  return Array(bytes.prefix(count))
}

/// Stands between client and server, and after so many bytes of the client does something to both.
final class Relay: Sendable {
  enum Fault: Sendable { case reset, vanish }

  let port: UInt16
  private let isOver = Locked(false)
  private let mayFail = Locked(false)

  init(to server: UInt16, after limit: Int, _ fault: Fault) throws {
    var address = try Address(host: "127.0.0.1", port: 0).resolve(passive: true)[0]
    let listener = listenSocket(&address)
    try #require(listener >= 0)
    port = localPort(listener)
    let (over, mayFail) = (isOver, mayFail)
    startThread {
      defer { closeSocket(listener) }
      var client = acceptSocket(listener)
      while client < 0 {
        if over.withLock({ $0 }) { return }
        giveWay()
        client = acceptSocket(listener)
      }
      guard let other = try? RawSocket(port: server) else {
        closeSocket(client)
        return
      }
      Self.carry(client, other, limit, fault, mayFail, over)
      closeSocket(client)
    }
  }

  /// The reset comes when the bytes have passed and this was called: one that overtakes bytes undoes them.
  func fail() { mayFail.withLock { $0 = true } }

  /// Lets go of both sides.
  func stop() { isOver.withLock { $0 = true } }

  private static func carry(
    _ client: Int32, _ server: RawSocket, _ limit: Int, _ fault: Fault,
    _ mayFail: Locked<Bool>, _ over: Locked<Bool>
  ) {
    var left = limit
    var buffer = [UInt8](repeating: 0, count: 16 << 10)
    while !over.withLock({ $0 }) {
      if left == 0 {
        if fault == .reset, mayFail.withLock({ $0 }) {
          server.reset()
          return
        }
        giveWay()
        continue
      }
      let sent = recv(client, &buffer, min(left, buffer.count), 0)
      if sent == 0 { return }
      if sent > 0 {
        server.send(buffer.prefix(sent))
        left -= sent
      }
      let answered = recv(server.number, &buffer, buffer.count, 0)
      if answered == 0 { return }
      if answered > 0 { _ = Glibc.send(client, buffer, answered, Int32(MSG_NOSIGNAL)) }
      if sent < 0, answered < 0 { giveWay() }
    }
  }
}

/// A thread that looks at two sockets gives the processor away between looks.
private func giveWay() { usleep(500) }

private func startThread(_ body: @escaping @Sendable () -> Void) {
  final class Box: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  var thread = pthread_t()
  let failure = pthread_create(
    &thread, nil,
    { pointer in
      Unmanaged<Box>.fromOpaque(pointer!).takeRetainedValue().body()
      return nil
    }, Unmanaged.passRetained(Box(body)).toOpaque())
  precondition(failure == 0, "no thread: \(failure)")
  pthread_detach(thread)
}

/// Resident memory of this process, in bytes.
func residentBytes() -> Int {
  guard let file = fopen("/proc/self/statm", "r") else { return 0 }
  defer { fclose(file) }
  var text = [CChar](repeating: 0, count: 128)
  guard fgets(&text, Int32(text.count), file) != nil else { return 0 }
  let fields = String(
    decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self
  )
  .split(separator: " ")
  return (Int(fields[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE)))
}

/// Sanitizers take memory of their own for everything.
var isSanitized: Bool {
  dlsym(nil, "__asan_init") != nil || dlsym(nil, "__tsan_init") != nil
}

/// Threads of event loops in this process; those of a group that is gone end soon.
func loopThreads() -> Int {
  guard let folder = opendir("/proc/self/task") else { return 0 }
  defer { closedir(folder) }
  var count = 0
  while let entry = readdir(folder) {
    let name = withUnsafeBytes(of: entry.pointee.d_name) {
      String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
    }
    guard let file = fopen("/proc/self/task/\(name)/comm", "r") else { continue }
    var text = [CChar](repeating: 0, count: 32)
    if fgets(&text, Int32(text.count), file) != nil, strncmp(text, "loop-", 5) == 0 { count += 1 }
    fclose(file)
  }
  return count
}
