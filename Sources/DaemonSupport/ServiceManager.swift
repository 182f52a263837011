import Glibc

/// What a daemon tells systemd (sd_notify(3)), without its library; says nothing where nobody listens.
public struct ServiceManager: Sendable {
  private let socketPath: String?
  /// How often systemd wants to hear that the daemon is alive; nil where it does not.
  public let watchdogMicroseconds: UInt64?

  /// From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
  public init(environment: (String) -> String? = ServiceManager.environment) {
    let path = environment("NOTIFY_SOCKET")
    socketPath = path.flatMap { $0.hasPrefix("/") || $0.hasPrefix("@") ? $0 : nil }
    let owner = environment("WATCHDOG_PID")
    let isOurs = owner == nil || owner == String(getpid())
    let interval = environment("WATCHDOG_USEC").flatMap { UInt64($0) } ?? 0
    watchdogMicroseconds = isOurs && interval > 0 ? interval : nil
  }

  @Sendable public static func environment(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
  }

  /// One line for `systemctl status`; a line feed would begin another variable.
  public func status(_ text: String) {
    notify("STATUS=\(String(text.map { $0.isNewline ? " " : $0 }))")
  }

  /// Sends one datagram of `KEY=value` lines; false where it did not reach anybody.
  @discardableResult
  public func notify(_ state: String) -> Bool {
    guard let socketPath else { return false }
    let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    var path = Array(socketPath.utf8)
    let capacity = MemoryLayout.size(ofValue: address.sun_path)
    guard path.count < capacity else { return false }
    // "@" stands for the zero byte of Linux's abstract names, which have no terminator.
    let isAbstract = path[0] == UInt8(ascii: "@")
    if isAbstract { path[0] = 0 }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
    let length = socklen_t(
      MemoryLayout.offset(of: \sockaddr_un.sun_path)! + path.count + (isAbstract ? 0 : 1))
    let message = Array(state.utf8)
    let sent = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        sendto(descriptor, message, message.count, Int32(MSG_NOSIGNAL), $0, length)
      }
    }
    return sent == message.count
  }
}
