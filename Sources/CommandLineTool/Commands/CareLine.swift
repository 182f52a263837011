import Base
import Messages

/// How far repair and draining have come, in one line.
final class CareLine: Sendable {
  private let output: Output
  private let lastShown = Locked<UInt64>(0)

  private static let plainInterval: UInt64 = 5_000_000_000

  init(output: Output) { self.output = output }

  /// "12 of 80 shadows, 15%, 4.2 MiB/s, about 2 min 05 s left, 3 wait for a slave"
  static func text(of care: CareStatus) -> String {
    let total = care.doneShadows + care.pendingShadows
    if total == 0, care.waitingShadows > 0 {
      return "\(Units.count(Int(clamping: care.waitingShadows), "shadow")) wait for a slave"
    }
    var text = "\(care.doneShadows) of \(Units.count(Int(clamping: total), "shadow"))"
    text += ", \(Units.percent(care.doneShadows, of: total))"
    if care.bytesPerSecond > 0 {
      text += ", \(Units.rate(bytesPerSecond: Double(care.bytesPerSecond)))"
    }
    if care.secondsLeft > 0 {
      text += ", about \(Units.duration(seconds: Double(care.secondsLeft))) left"
    }
    if care.waitingShadows > 0 {
      text += ", \(care.waitingShadows) wait for a slave"
    }
    return text
  }

  /// Draws over the last one on a terminal; elsewhere a line every few seconds.
  func show(_ care: CareStatus) {
    guard !output.json else { return }
    let text = Self.text(of: care)
    if output.errorIsTerminal {
      output.writeProgress("\r\u{1B}[K" + text.prefix(output.terminalWidth - 1))
      return
    }
    let now = SystemClock().monotonicNanoseconds()
    let isDue = lastShown.withLock { last in
      guard now - last >= Self.plainInterval else { return false }
      last = now
      return true
    }
    if isDue { output.remark(text) }
  }

  func finish() {
    if !output.json, output.errorIsTerminal { output.writeProgress("\r\u{1B}[K") }
  }
}
