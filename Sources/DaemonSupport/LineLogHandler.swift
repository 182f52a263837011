import Base
import Glibc
import Logging

/// One line a record on standard error: time, level, message, key=value.
///
/// Under journald the line begins with `<priority>` and has no time, which journald adds.
/// What comes from outside cannot forge a line: control characters are escaped.
public struct LineLogHandler: LogHandler {
  public var logLevel: Logger.Level
  public var metadata: Logger.Metadata = [:]
  public var metadataProvider: Logger.MetadataProvider?
  private let forJournal: Bool
  private let clock: any Clock
  private let write: @Sendable (String) -> Void

  /// A metadata value longer than this is cut.
  static let maximumValueCharacters = 500
  /// Nobody should log these; should somebody do, they still do not come out.
  static let hiddenKeys: Set<String> = ["token", "secret", "password", "passphrase", "private_key"]

  /// - Parameters:
  ///   - forJournal: by default whether journald reads standard error (JOURNAL_STREAM).
  ///   - write: takes a line with its line feed.
  public init(
    logLevel: Logger.Level, forJournal: Bool = getenv("JOURNAL_STREAM") != nil,
    clock: any Clock = SystemClock(),
    write: @escaping @Sendable (String) -> Void = LineLogHandler.writeToStandardError
  ) {
    self.logLevel = logLevel
    self.forJournal = forJournal
    self.clock = clock
    self.write = write
  }

  public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  public func log(event: LogEvent) {
    var all = metadata
    if let provided = metadataProvider?.get() { all.merge(provided) { $1 } }
    if let own = event.metadata { all.merge(own) { $1 } }
    var line = forJournal ? "<\(Self.priority(event.level))>" : Self.time(clock) + " "
    if !forJournal { line += Self.name(event.level) + " " }
    line += Self.escaped("\(event.message)", quotes: false)
    for key in all.keys.sorted() {
      let value = Self.hiddenKeys.contains(key) ? "<hidden>" : "\(all[key]!)"
      line += " \(Self.escaped(key, quotes: false))=\(Self.quoted(value))"
    }
    if let error = event.error { line += " error=\(Self.quoted("\(error)"))" }
    write(line + "\n")
  }

  /// A single write, so that lines of several threads do not mix.
  @Sendable public static func writeToStandardError(_ line: String) {
    var line = line
    line.withUTF8 { bytes in
      var offset = 0
      while offset < bytes.count {
        let count = Glibc.write(2, bytes.baseAddress! + offset, bytes.count - offset)
        if count < 0 && errno == EINTR { continue }
        // A log that nobody can read must not stop the daemon.
        guard count > 0 else { return }
        offset += count
      }
    }
  }

  private static func quoted(_ value: String) -> String {
    var value = value
    if value.count > maximumValueCharacters {
      value = value.prefix(maximumValueCharacters) + "..."
    }
    let plain = !value.isEmpty && !value.contains { " \"=\\".contains($0) }
    return plain ? escaped(value, quotes: false) : "\"\(escaped(value, quotes: true))\""
  }

  private static func escaped(_ text: String, quotes: Bool) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\n": result += "\\n"
      case "\"" where quotes, "\\" where quotes: result += "\\\(scalar)"
      default:
        let category = scalar.properties.generalCategory
        if category == .control || category == .lineSeparator || category == .paragraphSeparator
          || category == .format
        {
          result += "\\u{\(String(scalar.value, radix: 16))}"
        } else {
          result.unicodeScalars.append(scalar)
        }
      }
    }
    return result
  }

  /// syslog's severities.
  private static func priority(_ level: Logger.Level) -> Int {
    switch level {
    case .trace, .debug: 7
    case .info: 6
    case .notice: 5
    case .warning: 4
    case .error: 3
    case .critical: 2
    }
  }

  /// Seven characters wide, or eight.
  private static func name(_ level: Logger.Level) -> String {
    let name = level.rawValue
    return name + String(repeating: " ", count: max(0, 8 - name.utf8.count))
  }

  /// "2026-01-31T23:59:59.123Z"
  static func time(_ clock: any Clock) -> String {
    let milliseconds = clock.wallMilliseconds()
    var seconds = time_t(milliseconds / 1000)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    func digits(_ value: Int32, _ count: Int) -> String {
      let text = String(value)
      return String(repeating: "0", count: max(0, count - text.utf8.count)) + text
    }
    return
      "\(digits(parts.tm_year + 1900, 4))-\(digits(parts.tm_mon + 1, 2))-\(digits(parts.tm_mday, 2))"
      + "T\(digits(parts.tm_hour, 2)):\(digits(parts.tm_min, 2)):\(digits(parts.tm_sec, 2))"
      + ".\(digits(Int32(milliseconds % 1000), 3))Z"
  }
}
