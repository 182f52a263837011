import Glibc

/// Where a command's results and remarks go, and in which form.
///
/// Results stand on standard output, remarks, progress and errors on standard error.
public struct Output: Sendable {
  public enum Style: Sendable { case plain, bold, dim, red, green, yellow }

  public let json: Bool
  public let errorIsTerminal: Bool
  private let outputHasColours: Bool
  private let errorHasColours: Bool

  public init(json: Bool) {
    self.json = json
    errorIsTerminal = isatty(STDERR_FILENO) == 1
    outputHasColours = Self.wantsColours(descriptor: STDOUT_FILENO)
    errorHasColours = Self.wantsColours(descriptor: STDERR_FILENO)
  }

  private static func wantsColours(descriptor: Int32) -> Bool {
    guard isatty(descriptor) == 1 else { return false }
    if let forbidden = getenv("NO_COLOR"), forbidden.pointee != 0 { return false }
    guard let terminal = getenv("TERM") else { return false }
    return String(cString: terminal) != "dumb"
  }

  // MARK: results

  /// A result for programs; nothing without `--json`.
  public func emit(_ object: @autoclosure () -> JSONObject) {
    if json { Self.write(object().line + "\n", to: STDOUT_FILENO) }
  }

  /// A result for people; nothing with `--json`.
  public func print(_ line: String = "") {
    if !json { Self.write(line + "\n", to: STDOUT_FILENO) }
  }

  public func print(_ table: Table) {
    for (index, line) in table.lines.enumerated() {
      print(index == 0 ? styled(line, .bold) : line)
    }
  }

  public func styled(_ text: String, _ style: Style) -> String {
    outputHasColours ? Self.coloured(text, style) : text
  }

  // MARK: remarks

  /// A remark for people, on standard error; nothing with `--json`.
  public func remark(_ line: String) {
    if !json { Self.write(line + "\n", to: STDERR_FILENO) }
  }

  /// How a command failed; with `--json` one object.
  public func fail(_ failure: CommandFailure) {
    if json {
      var object: JSONObject = ["type": "error"]
      failure.add(to: &object)
      object["exit_status"] = JSONValue(failure.status.rawValue)
      Self.write(object.line + "\n", to: STDERR_FILENO)
      return
    }
    writeMessage(of: failure, after: "sfmedir:")
    writeAdvice(of: failure)
  }

  /// How items failed; with `--json` their own lines have said so already. What can be done about
  /// several of them is said once.
  public func fail(items failures: [CommandFailure]) {
    guard !json else { return }
    for failure in failures { writeMessage(of: failure, after: "failed:") }
    var said: Set<String> = []
    for failure in failures where said.insert(failure.advice).inserted { writeAdvice(of: failure) }
  }

  private func writeMessage(of failure: CommandFailure, after head: String) {
    let head = errorHasColours ? Self.coloured(head, .red) : head
    // A message may quote the last lines of a log.
    let lines = failure.message.split(separator: "\n").map { printable(String($0)) }
    Self.write("\(head) \(lines.joined(separator: "\n"))\n", to: STDERR_FILENO)
  }

  private func writeAdvice(of failure: CommandFailure) {
    if !failure.advice.isEmpty { Self.write("  \(printable(failure.advice))\n", to: STDERR_FILENO) }
  }

  /// Raw text on standard error, for a progress line.
  public func writeProgress(_ text: String) { Self.write(text, to: STDERR_FILENO) }

  /// Characters in a line of the terminal behind standard error.
  public var terminalWidth: Int {
    var size = winsize()
    guard ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
    return Int(size.ws_col)
  }

  static func coloured(_ text: String, _ style: Style) -> String {
    let code =
      switch style {
      case .plain: "0"
      case .bold: "1"
      case .dim: "2"
      case .red: "31"
      case .green: "32"
      case .yellow: "33"
      }
    return "\u{1B}[\(code)m\(text)\u{1B}[0m"
  }

  static func write(_ text: String, to descriptor: Int32) {
    let bytes = Array(text.utf8)
    do {
      try writeAll(bytes, to: descriptor, path: descriptor == STDOUT_FILENO ? "output" : "errors")
    } catch {
      // Remarks that nobody can read any more do not end the work, and a command that has been told to end does that in
      // order: a terminal that closes, or Ctrl-C for 'sfmedir ... | tee', takes the reader away and sends a signal.
      if descriptor == STDERR_FILENO || Interruption.happened { return }
      // A reader that left early ('sfmedir ls | head') is not worth a message; a full disk is.
      if error.number == EPIPE { exit(128 + SIGPIPE) }
      write("sfmedir: \(error)\n", to: STDERR_FILENO)
      exit(ExitStatus.inputOutput.rawValue)
    }
  }
}
