import Base
import Logging

/// A logger whose lines a test reads: "level message key=value ...".
public final class CapturedLog: Sendable {
  private let captured = Locked<[String]>([])

  public init() {}

  public var lines: [String] { captured.withLock { $0 } }

  public var text: String { lines.joined(separator: "\n") }

  public var logger: Logger {
    Logger(label: "test") { [self] _ in
      Handler { line in self.captured.withLock { $0.append(line) } }
    }
  }

  public func contains(_ part: String) -> Bool { lines.contains { $0.contains(part) } }

  private struct Handler: LogHandler {
    let write: @Sendable (String) -> Void
    var logLevel = Logger.Level.trace
    var metadata: Logger.Metadata = [:]
    var metadataProvider: Logger.MetadataProvider?

    init(write: @escaping @Sendable (String) -> Void) { self.write = write }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
      let all = metadata.merging(event.metadata ?? [:]) { $1 }
      let pairs = all.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }
      write("\(event.level) \(event.message)\(pairs.joined())")
    }
  }
}
