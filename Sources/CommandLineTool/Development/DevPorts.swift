import Glibc

/// Free ports on 127.0.0.1.
enum DevPorts {
  /// Different free ports, below the range from which the kernel takes ports for outgoing
  /// connections: one of those could else be taken while its daemon is down.
  static func choose(_ count: Int) throws -> [UInt16] {
    let lowest: UInt16 = 20_000
    let highest = max(lowest + 1024, firstEphemeralPort()) - 1
    var ports: [UInt16] = []
    for _ in 0..<100 * count where ports.count < count {
      let port = UInt16.random(in: lowest...highest)
      if !ports.contains(port), isFree(port), claim(port) { ports.append(port) }
    }
    guard ports.count == count else {
      throw CommandFailure(
        .unavailable, "there are no \(count) free ports from \(lowest) to \(highest)",
        advice: "end other programs that listen there")
    }
    return ports
  }

  /// Between the choice and the daemon's own bind another cluster's choice may fall on the same port: each is claimed by
  /// a name that only one socket of this machine can have, until this process ends.
  private static func claim(_ port: UInt16) -> Bool {
    let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return false }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    // A first byte of 0: Linux's abstract names, which leave no file behind.
    let name = [0] + Array("sfmedir-dev-port-\(port)".utf8)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name) }
    let length = MemoryLayout<sa_family_t>.size + name.count
    let isClaimed = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(length)) == 0
      }
    }
    if !isClaimed { close(descriptor) }
    return isClaimed
  }

  static func isFree(_ port: UInt16) -> Bool {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var one: Int32 = 1
    // As the daemons do: connections that linger from an earlier listener do not count.
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    return withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
  }

  private static func firstEphemeralPort() -> UInt16 {
    let path = "/proc/sys/net/ipv4/ip_local_port_range"
    let text = (try? ProcessTable.text(path)) ?? ""
    return text.split(whereSeparator: \.isWhitespace).first.flatMap { UInt16($0) } ?? 32_768
  }
}
