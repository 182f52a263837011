import Base

/// How far a transfer has come; drawing is a pure function of it.
public struct ProgressState: Sendable, Equatable {
  public var filesTotal = 0
  public var filesDone = 0
  public var filesFailed = 0
  public var bytesTotal: UInt64 = 0
  public var bytesDone: UInt64 = 0
  public var elapsedSeconds = 0.0

  public init() {}

  public var bytesPerSecond: Double {
    elapsedSeconds > 0 ? Double(bytesDone) / elapsedSeconds : 0
  }

  /// Nil until there is something to judge by.
  public var secondsLeft: Double? {
    guard elapsedSeconds >= 1, bytesDone > 0, bytesTotal >= bytesDone else { return nil }
    return Double(bytesTotal - bytesDone) / bytesPerSecond
  }

  /// "[=====>    ]  52%  21/40 files  1.8 MiB of 3.6 MiB  1.2 MiB/s  1.5 s left  2 failed",
  /// without the bar where the line is too short for it, and never longer than `width`.
  public func line(width: Int) -> String {
    let figures = plainLine
    let room = width - figures.count - 4
    guard room >= 8 else { return String(figures.prefix(max(0, width))) }
    return bar(cells: min(room, 30)) + "  " + figures
  }

  /// The figures alone, for a log.
  public var plainLine: String {
    var text = "\(Units.percent(bytesDone, of: bytesTotal))  \(filesDone)/\(filesTotal) files"
    text += "  \(Units.bytes(bytesDone)) of \(Units.bytes(bytesTotal))"
    text += "  \(Units.rate(bytesPerSecond: bytesPerSecond))"
    if let left = secondsLeft, filesDone < filesTotal {
      text += "  \(Units.duration(seconds: left)) left"
    }
    if filesFailed > 0 { text += "  \(filesFailed) failed" }
    return text
  }

  func bar(cells: Int) -> String {
    let share = bytesTotal > 0 ? min(1, Double(bytesDone) / Double(bytesTotal)) : 1
    let full = Int(share * Double(cells))
    let head = full < cells && full > 0 ? ">" : ""
    let done = String(repeating: "=", count: full - head.count) + head
    return "[\(done)\(String(repeating: " ", count: cells - done.count))]"
  }
}

/// Keeps a progress line on a terminal, or writes a plain line every few seconds elsewhere.
public final class ProgressReporter: Sendable {
  private let output: Output
  private let state: Locked<ProgressState>
  private let startNanoseconds: UInt64
  private let ticker: Locked<Task<Void, Never>?>

  private static let terminalInterval = Duration.milliseconds(200)
  private static let plainInterval = Duration.seconds(5)

  public init(output: Output) {
    self.output = output
    state = Locked(ProgressState())
    ticker = Locked(nil)
    startNanoseconds = SystemClock().monotonicNanoseconds()
  }

  public func update(_ change: (inout ProgressState) -> Void) { state.withLock { change(&$0) } }

  public var current: ProgressState {
    var state = state.withLock { $0 }
    let elapsed = SystemClock().monotonicNanoseconds() - startNanoseconds
    state.elapsedSeconds = Double(elapsed) / 1e9
    return state
  }

  /// Draws until `finish`; says nothing at all with `--json`.
  public func start() {
    guard !output.json else { return }
    let interval = output.errorIsTerminal ? Self.terminalInterval : Self.plainInterval
    let task = Task { [self] in
      while true {
        do { try await Task.sleep(for: interval) } catch { return }
        draw()
      }
    }
    ticker.withLock { $0 = task }
  }

  private func draw() {
    if output.errorIsTerminal {
      output.writeProgress("\r\u{1B}[K" + current.line(width: output.terminalWidth - 1))
    } else {
      output.remark(current.plainLine)
    }
  }

  /// Takes the line away.
  public func finish() async {
    let task = ticker.withLock { running in
      defer { running = nil }
      return running
    }
    guard let task else { return }
    task.cancel()
    await task.value
    if output.errorIsTerminal { output.writeProgress("\r\u{1B}[K") }
  }
}
