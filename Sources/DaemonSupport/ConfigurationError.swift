/// A configuration file that cannot be used; every case names the file, and the key where there is one.
public enum ConfigurationError: Error, Equatable, Sendable, CustomStringConvertible {
  case unreadable(path: String, reason: String)
  case syntax(path: String, line: Int, column: Int, reason: String)
  case missing(path: String, key: String)
  case wrongType(path: String, key: String, line: Int?, wanted: String, found: String)
  case invalid(path: String, key: String, line: Int?, reason: String)
  case unknown(path: String, key: String, line: Int?)

  public var description: String {
    switch self {
    case .unreadable(let path, let reason): "cannot read the configuration \(path): \(reason)"
    case .syntax(let path, let line, let column, let reason):
      "\(path):\(line):\(column): \(reason)"
    case .missing(let path, let key): "\(path): the key '\(key)' is missing"
    case .wrongType(let path, let key, let line, let wanted, let found):
      "\(Self.place(path, line)): '\(key)' has to be \(wanted), not \(found)"
    case .invalid(let path, let key, let line, let reason):
      "\(Self.place(path, line)): '\(key)' \(reason)"
    case .unknown(let path, let key, let line):
      "\(Self.place(path, line)): there is no setting '\(key)'"
    }
  }

  private static func place(_ path: String, _ line: Int?) -> String {
    line.map { "\(path):\($0)" } ?? path
  }
}
