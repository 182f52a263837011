import CWire
import Glibc

/// A host and a port, "host:port" or "[IPv6]:port".
public struct Address: Hashable, Sendable, CustomStringConvertible {
  public let host: String
  public let port: UInt16

  public init(host: String, port: UInt16) {
    self.host = host
    self.port = port
  }

  /// Nil where the text is not such an address.
  public init?(_ text: String) {
    guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...])
    else { return nil }
    var host = text[..<colon]
    if host.hasPrefix("[") && host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
    } else if host.contains(":") {
      return nil
    }
    guard !host.isEmpty else { return nil }
    self.init(host: String(host), port: port)
  }

  public var description: String {
    host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
  }

  /// Blocks while a name is looked up: never call it on an event loop.
  func resolve(passive: Bool) throws(RPCError) -> [sfm_address] {
    let found = lookUp(passive: passive, numericOnly: false)
    guard !found.isEmpty else { throw RPCError(.unavailable, "\(host) is not a known address") }
    return found
  }

  /// The addresses where the host is one already, without waiting for anybody; else nil.
  func numeric() -> [sfm_address]? {
    let found = lookUp(passive: false, numericOnly: true)
    return found.isEmpty ? nil : found
  }

  private func lookUp(passive: Bool, numericOnly: Bool) -> [sfm_address] {
    var found = [sfm_address](repeating: sfm_address(), count: 8)
    let count = sfm_resolve(
      host, port, passive ? 1 : 0, numericOnly ? 1 : 0, &found, Int32(found.count))
    return Array(found.prefix(max(0, Int(count))))
  }
}

/// The operating system's sentence for a negated error number.
func systemMessage(_ negated: Int32) -> String {
  var buffer = [CChar](repeating: 0, count: 128)
  guard strerror_r(-negated, &buffer, buffer.count) == 0 else { return "error \(-negated)" }
  return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
