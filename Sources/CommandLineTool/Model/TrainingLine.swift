import Base
import HashTraining

/// Keeps one line about the epoch under way on a terminal; elsewhere a line is written for each epoch.
final class TrainingLine {
  private let output: Output
  private var lastDraw: UInt64 = 0
  private var isDrawn = false
  private var lastLeft = ""
  private var began: (nanoseconds: UInt64, done: Double)?
  private let clock = SystemClock()
  private static let drawNanoseconds: UInt64 = 200_000_000

  init(_ output: Output) { self.output = output }

  static func text(_ report: EpochReport) -> String {
    let width = "\(report.epochs)".count
    let epoch =
      String(repeating: " ", count: max(0, width - "\(report.epoch)".count)) + "\(report.epoch)"
    var text = "\(report.stage) \(epoch)/\(report.epochs)"
    text += "  loss \(Units.fixed(report.loss, digits: 4))"
    text += "  ori \(Units.fixed(report.original, digits: 4))"
    if report.adversarial != 0 { text += "  adl \(Units.fixed(report.adversarial, digits: 4))" }
    text += "  quant \(Units.fixed(report.quantization, digits: 3))"
    text += "  bit \(Units.fixed(report.balance, digits: 3))"
    text += "  \(Units.fixed(report.imagesPerSecond, digits: 0)) images/s"
    return text
  }

  func show(_ state: TrainingProgress) {
    let now = clock.monotonicNanoseconds()
    if began == nil { began = (now, state.done) }
    lastLeft = left(state, now: now)
    guard output.errorIsTerminal, !output.json, now - lastDraw > Self.drawNanoseconds else {
      return
    }
    lastDraw = now
    let line = Self.text(state.report) + lastLeft
    output.writeProgress("\r\u{1B}[K" + String(line.prefix(max(0, output.terminalWidth - 1))))
    isDrawn = true
  }

  /// Of the whole run, by how long it took so far.
  private func left(_ state: TrainingProgress, now: UInt64) -> String {
    guard let began, state.done > began.done else { return "" }
    let pace = Double(now - began.nanoseconds) / (state.done - began.done)
    return "  " + Units.duration(seconds: (1 - state.done) * pace / 1e9) + " left"
  }

  func done(_ report: EpochReport) {
    end()
    output.remark(Self.text(report) + "  \(Units.duration(seconds: report.seconds))" + lastLeft)
    output.emit([
      "type": "epoch", "stage": .string(report.stage), "epoch": JSONValue(report.epoch),
      "epochs": JSONValue(report.epochs), "client": JSONValue(report.client),
      "loss": .number(report.loss), "l_ori": .number(report.original),
      "l_adl": .number(report.adversarial), "l_quant": .number(report.quantization),
      "l_bit": .number(report.balance), "rate": .number(report.rate),
      "gradient_norm": .number(report.gradientNorm),
      "images_per_s": JSONValue(report.imagesPerSecond), "seconds": JSONValue(report.seconds),
    ])
  }

  /// Takes the line away.
  func end() {
    if isDrawn { output.writeProgress("\r\u{1B}[K") }
    isDrawn = false
  }
}
