import Foundation
import Testing

/// Stories with an exact end: commands, a line of dashes, and all that came of them. SFMEDIR_REWRITE=1 writes the ends
/// anew; whoever does that reads them.
@Suite struct TranscriptTests {
  static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "Transcripts")
  static let names = try! FileManager.default.contentsOfDirectory(atPath: folder.path)
    .filter { $0.hasSuffix(".txt") }.sorted()
  static let isRewriting = ProcessInfo.processInfo.environment["SFMEDIR_REWRITE"] != nil

  @Test(arguments: names) func story(_ name: String) throws {
    let file = Self.folder.appending(path: name)
    let text = try String(contentsOf: file, encoding: .utf8)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    let end = lines.firstIndex(of: "----") ?? lines.count
    let commands = Array(lines[..<end]).reversed().drop { $0.isEmpty }.reversed()
    let trace = try Script.trace(of: Array(commands))
    if Self.isRewriting {
      let written = (commands + ["----"] + trace).joined(separator: "\n") + "\n"
      if written != text { try Data(written.utf8).write(to: file) }
      return
    }
    let expected =
      Array(lines[min(end + 1, lines.count)...].reversed().drop { $0.isEmpty })
      .reversed() as [String]
    if trace != expected {
      let first = zip(trace, expected).prefix { $0 == $1 }.count
      Issue.record(
        """
        \(name) departs at line \(end + 2 + first):
        expected \(first < expected.count ? expected[first] : "the end")
        happened \(first < trace.count ? trace[first] : "the end")
        """)
    }
  }
}
