import Glibc
import RPC
import TOMLKit

/// A TOML file whose every key must be asked for: what nobody reads is a mistake of the operator's.
///
/// Read what is needed with the getters of ``ConfigurationSection``, then call ``finish()``.
public struct ConfigurationFile: ConfigurationSection {
  public static let maximumBytes = 1 << 20

  public let path: String
  public let scope: ConfigurationScope

  public init(path: String) throws(ConfigurationError) {
    try self.init(path: path, text: Self.read(path))
  }

  /// For tests: as if the text stood in a file.
  public init(path: String, text: String) throws(ConfigurationError) {
    self.path = path
    try Self.checkTableHeaders(path, text)
    do {
      let root = try TOMLTable(string: text)
      scope = ConfigurationScope(
        path: path, prefix: "", values: ConfigurationValue.entries(of: root),
        record: ConfigurationRecord(text: text))
    } catch let error as TOMLParseError {
      throw .syntax(
        path: path, line: error.source.begin.line, column: error.source.begin.column,
        reason: error.description)
    } catch {
      throw .unreadable(path: path, reason: "\(error)")
    }
  }

  /// Call once everything is read: a key that nobody asked for is unknown.
  public func finish() throws(ConfigurationError) {
    let unread = scope.allKeys().filter { !scope.record.read.contains($0.used) }
    guard let first = unread.min(by: { $0.shown < $1.shown }) else { return }
    throw .unknown(path: path, key: first.shown, line: scope.record.line(of: first.name))
  }

  /// The parser asserts, instead of failing, where no name follows "[[" (marzer/tomlplusplus#301), so
  /// that is looked for before. Lists inside lists are no settings of ours: nothing valid is lost.
  private static func checkTableHeaders(
    _ path: String, _ text: String
  ) throws(ConfigurationError) {
    let lines = text.split(omittingEmptySubsequences: false) { $0.isNewline }
    for (index, line) in lines.enumerated() {
      let start = line.drop { $0 == " " || $0 == "\t" }
      guard start.first == "[" else { continue }
      let brackets = start.hasPrefix("[[") ? 2 : 1
      let name = start.dropFirst(brackets).drop { $0 == " " || $0 == "\t" }
      let isName = name.unicodeScalars.first.map {
        $0.isASCII && ($0.properties.isAlphabetic || "0123456789_-\"'".unicodeScalars.contains($0))
      }
      guard isName == true else {
        throw .syntax(
          path: path, line: index + 1, column: line.count - name.count + 1,
          reason: "a table's name has to follow the bracket")
      }
    }
  }

  private static func read(_ path: String) throws(ConfigurationError) -> String {
    func failure() -> ConfigurationError {
      .unreadable(path: path, reason: String(cString: strerror(errno)))
    }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw failure() }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: maximumBytes + 1)
    var count = 0
    while count < bytes.count {
      let got = bytes.withUnsafeMutableBytes {
        Glibc.read(descriptor, $0.baseAddress! + count, $0.count - count)
      }
      if got < 0 && errno == EINTR { continue }
      guard got >= 0 else { throw failure() }
      if got == 0 { break }
      count += got
    }
    guard count <= maximumBytes else {
      throw .unreadable(path: path, reason: "more than \(maximumBytes) bytes")
    }
    let content = bytes[..<count]
    // The parser takes a C string: what follows a zero byte would be ignored in silence.
    guard !content.contains(0), let text = String(validating: content, as: UTF8.self) else {
      throw .unreadable(path: path, reason: "it is not UTF-8 text")
    }
    return text
  }
}

/// A table of a configuration: `[rpc]`, or one of a list such as `[[slaves]]`.
public struct ConfigurationTable: ConfigurationSection {
  public let scope: ConfigurationScope
}

/// Which keys were read, and the text for finding their lines.
final class ConfigurationRecord {
  var read: Set<String> = []
  private let lines: [Substring]

  init(text: String) { lines = text.split(separator: "\n", omittingEmptySubsequences: false) }

  /// The line on which the key seems to be set, from 1; nil where the text alone does not tell.
  func line(of key: String) -> Int? {
    let matches = lines.indices.filter { index in
      let line = lines[index].drop { $0 == " " || $0 == "\t" || $0 == "[" }
      guard line.hasPrefix(key) else { return false }
      let rest = line.dropFirst(key.count).drop { $0 == " " || $0 == "\t" }
      return rest.first == "=" || rest.first == "]"
    }
    return matches.count == 1 ? matches[0] + 1 : nil
  }
}

/// A table with its place in the file.
public struct ConfigurationScope {
  let path: String
  /// "rpc." for the table `[rpc]`, "slaves[2]." for the third of the tables `[[slaves]]`.
  let prefix: String
  let values: [String: ConfigurationValue]
  let record: ConfigurationRecord

  func take(_ key: String) -> ConfigurationValue? {
    record.read.insert(prefix + key)
    return values[key]
  }

  /// Every key below, with the name that counts as read when it is asked for.
  func allKeys() -> [(used: String, shown: String, name: String)] {
    values.flatMap { key, value -> [(used: String, shown: String, name: String)] in
      let own = [(used: prefix + key, shown: prefix + key, name: key)]
      guard record.read.contains(prefix + key) else { return own }
      switch value {
      case .table(let table): return own + inner(key, table).allKeys()
      case .array(let elements):
        return own
          + elements.enumerated().flatMap { index, element in
            guard case .table(let table) = element else {
              return [(used: String, shown: String, name: String)]()
            }
            return inner("\(key)[\(index)]", table).allKeys()
          }
      default: return own
      }
    }
  }

  /// - Parameter name: the table's key, with its place where it is one of a list.
  func inner(_ name: String, _ table: [String: ConfigurationValue]) -> ConfigurationScope {
    ConfigurationScope(
      path: path, prefix: "\(prefix)\(name).", values: table, record: record)
  }
}

/// TOML's values as far as a configuration uses them.
indirect enum ConfigurationValue {
  case string(String)
  case integer(Int)
  case number(Double)
  case boolean(Bool)
  case array([ConfigurationValue])
  case table([String: ConfigurationValue])
  case date

  static func entries(of table: TOMLTable) -> [String: ConfigurationValue] {
    Dictionary(
      zip(table.keys, table.values.map { ConfigurationValue($0) }), uniquingKeysWith: { $1 })
  }

  private init(_ value: TOMLValue) {
    if let text = value.string {
      self = .string(text)
    } else if let number = value.int {
      self = .integer(number)
    } else if let number = value.double {
      self = .number(number)
    } else if let flag = value.bool {
      self = .boolean(flag)
    } else if let array = value.array {
      self = .array((0..<array.count).map { ConfigurationValue(array[$0].tomlValue) })
    } else if let table = value.table {
      self = .table(Self.entries(of: table))
    } else {
      self = .date
    }
  }

  var typeName: String {
    switch self {
    case .string: "a text"
    case .integer: "an integer"
    case .number: "a number with a point"
    case .boolean: "true or false"
    case .array: "a list"
    case .table: "a table"
    case .date: "a date or a time"
    }
  }
}
