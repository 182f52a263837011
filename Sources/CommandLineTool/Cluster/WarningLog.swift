import Logging

/// Log lines of the libraries below, as remarks of a command: warnings, and more with `--verbose`.
struct WarningLog: LogHandler {
  var logLevel: Logger.Level
  var metadata: Logger.Metadata = [:]
  let output: Output

  static func logger(output: Output, verbose: Bool) -> Logger {
    Logger(label: "sfmedir") { _ in
      WarningLog(logLevel: verbose ? .debug : .warning, output: output)
    }
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    var line = "sfmedir: \(event.level): \(event.message)"
    let all = metadata.merging(event.metadata ?? [:]) { $1 }
    for (key, value) in all.sorted(by: { $0.key < $1.key }) { line += " \(key)=\(value)" }
    output.remark(printable(line))
  }
}
