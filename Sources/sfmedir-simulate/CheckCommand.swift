import ArgumentParser
import Foundation
import Simulator

/// The simulator's checker on what clients of a real cluster saw.
struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Checks a recorded history of uploads, removals and reads for linearizability.",
    discussion: """
      The file has one JSON object a line: image, client (a number), input (upload, remove, read), output (stored,
      removed, absent, found, altered; left out where it is not known whether the call took effect), invoked and
      completed (nanoseconds). Each image is judged alone.

      Example:
        sfmedir-simulate check history.jsonl --json

      JSON: a line for each image with image, operations, unknown (operations of unknown outcome), verdict \
      (linearizable, violated, undecided), unplaced (of a violation: lines of the file that no order explains).

      Exit status: 0 linearizable, 1 a violation or no decision, 64 usage, 65 a line that cannot be read.
      """)

  @Argument(help: "The history.")
  var file: String
  @Option(name: .long, help: "Steps of the search for one image, after which it is given up.")
  var steps = 5_000_000
  @Flag(name: .long, help: "A call may have taken effect twice before it was answered.")
  var repeats = false
  @Flag(name: .long, help: "One JSON object for each image.")
  var json = false

  func validate() throws {
    guard steps >= 1 else { throw ValidationError("--steps must be at least 1") }
  }

  func run() throws {
    let history: PresenceHistory
    do {
      history = try PresenceHistory(parsing: String(contentsOfFile: file, encoding: .utf8))
    } catch {
      FileHandle.standardError.write(Data("sfmedir-simulate: \(file): \(error)\n".utf8))
      throw ExitCode(65)
    }
    let findings = history.check(repeats: repeats, maximumSteps: steps)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    for finding in findings {
      if json {
        print(String(decoding: try encoder.encode(finding), as: UTF8.self))
        continue
      }
      print(
        "\(finding.image)  \(finding.operations) operations, \(finding.unknown) of unknown outcome: "
          + finding.verdict.rawValue)
      for line in finding.unplaced {
        print(
          "  client \(line.client): \(line.input.rawValue), \(line.output?.rawValue ?? "no answer"), "
            + "\(line.invoked) to \(line.completed)")
      }
    }
    guard findings.allSatisfy({ $0.verdict == .linearizable }) else { throw ExitCode(1) }
  }
}
