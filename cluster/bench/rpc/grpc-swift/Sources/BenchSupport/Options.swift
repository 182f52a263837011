import Glibc

/// The command and its `--name value` pairs.
///
/// Every mistake ends the program with status 2 and its reason: the benchmark's driver passes fixed
/// arguments, so there is nothing to recover. A name that nobody asks for is a mistake too.
public struct Options {
  public let command: String
  private var values: [String: String] = [:]

  /// - Parameter arguments: `CommandLine.arguments`.
  public init(_ arguments: [String]) {
    command = arguments.count > 1 ? arguments[1] : ""
    var rest = arguments.dropFirst(2)
    while let name = rest.popFirst() {
      guard name.hasPrefix("--"), let value = rest.popFirst() else {
        fail("unexpected argument \(name)")
      }
      values[String(name.dropFirst(2))] = value
    }
  }

  public mutating func text(_ name: String) -> String {
    guard let value = values.removeValue(forKey: name) else { fail("--\(name) is missing") }
    return value
  }

  public mutating func count(
    _ name: String, in range: ClosedRange<Int>, default fallback: Int? = nil
  ) -> Int {
    if let fallback, values[name] == nil { return fallback }
    let value = text(name)
    guard let number = Int(value), range.contains(number) else {
      fail("--\(name) \(value) is not in \(range)")
    }
    return number
  }

  public mutating func seconds(_ name: String) -> Double {
    let value = text(name)
    guard let number = Double(value), (0...3600).contains(number) else {
      fail("--\(name) \(value) is not in 0...3600")
    }
    return number
  }

  public func done() {
    if let name = values.keys.sorted().first { fail("--\(name) is not known") }
  }
}

/// Ends the program with status 2.
public func fail(_ message: String) -> Never {
  write("\(CommandLine.arguments.first ?? "echo"): \(message)\n", to: 2)
  exit(2)
}

/// One line on standard output, unbuffered: the driver waits for it at the end of a pipe.
public func announce(_ line: String) {
  write(line + "\n", to: 1)
}

/// Returns when standard input ends.
public func waitForEndOfInput() {
  while getchar() != EOF {}
}

private func write(_ text: String, to descriptor: Int32) {
  var rest = Array(text.utf8)[...]
  while !rest.isEmpty {
    let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
    guard count > 0 else { return }
    rest = rest.dropFirst(count)
  }
}
