import Base
import Glibc

/// Slow links for tests: what this process sends to a peer is held back for a while, in order.
///
/// Off unless the environment variable `SFMEDIR_TRANSPORT_FAULTS` names a file. Each of its lines is
/// `PEER DELAY JITTER`: an address or `*`, milliseconds, and up to so many more, drawn evenly. The file is looked at
/// again within a tenth of a second of its change; where it is absent or a line makes no sense, nothing is held back.
/// Handshakes are not held back, and what is when a connection is closed goes with it, last words after a second.
final class TransportFaults: Sendable {
  struct Delay: Equatable, Sendable {
    var milliseconds: UInt64
    var jitterMilliseconds: UInt64
  }

  private struct State {
    var delays: [String: Delay] = [:]
    var nextLook: UInt64 = 0
    var identity: [Int] = []
  }

  /// Of this process; nil: nothing is ever held back.
  static let ofProcess: TransportFaults? =
    getenv("SFMEDIR_TRANSPORT_FAULTS").map { TransportFaults(path: String(cString: $0)) }

  private static let lookNanoseconds: UInt64 = 100_000_000
  private static let maximumFileBytes = 64 << 10
  private static let maximumMilliseconds: UInt64 = 60_000

  private let path: String
  private let state = Locked(State())

  init(path: String) { self.path = path }

  /// - Parameter peer: `address:port`.
  /// - Returns: nil where nothing is held back.
  func delay(to peer: String, now: UInt64) -> Delay? {
    let host = peer.lastIndex(of: ":").map { String(peer[..<$0]) } ?? peer
    return state.withLock { state in
      if now >= state.nextLook {
        state.nextLook = now + Self.lookNanoseconds
        look(&state)
      }
      return state.delays[host] ?? state.delays["*"]
    }
  }

  private func look(_ state: inout State) {
    var found = stat()
    guard stat(path, &found) == 0 else {
      (state.delays, state.identity) = ([:], [])
      return
    }
    let identity = [
      Int(found.st_ino), Int(found.st_size), found.st_mtim.tv_sec, found.st_mtim.tv_nsec,
    ]
    guard identity != state.identity else { return }
    state.identity = identity
    state.delays = Self.delays(in: text())
  }

  private func text() -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "" }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: Self.maximumFileBytes)
    let count = read(descriptor, &bytes, bytes.count)
    return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
  }

  static func delays(in text: String) -> [String: Delay] {
    var delays: [String: Delay] = [:]
    for line in text.split(separator: "\n") {
      let words = line.split(separator: " ")
      guard words.count == 3, let delay = UInt64(words[1]), let jitter = UInt64(words[2]),
        delay <= maximumMilliseconds, jitter <= maximumMilliseconds
      else { continue }
      delays[String(words[0])] = Delay(milliseconds: delay, jitterMilliseconds: jitter)
    }
    return delays
  }
}

/// Which of the bytes on their way out may leave, and when the others may.
struct HeldBytes {
  private var waiting: [(due: UInt64, count: Int)] = []
  /// May leave now.
  private(set) var released = 0

  var isEmpty: Bool { waiting.isEmpty }

  /// Takes note of what was appended since the last time.
  ///
  /// - Returns: when it may leave, in nanoseconds; nil where there is nothing new, or it may leave at once.
  mutating func note(total: Int, now: UInt64, delayNanoseconds: UInt64?) -> UInt64? {
    let new = total - released - waiting.reduce(0) { $0 + $1.count }
    guard new > 0 else { return nil }
    // In order: what comes later never leaves earlier.
    let due = max(now + (delayNanoseconds ?? 0), waiting.last?.due ?? 0)
    guard due > now else {
      released += new
      return nil
    }
    waiting.append((due, new))
    return due
  }

  mutating func release(now: UInt64) {
    while let first = waiting.first, first.due <= now {
      released += first.count
      waiting.removeFirst()
    }
  }

  mutating func took(_ count: Int) { released -= count }
}
