import Simulator
import Testing

@Suite struct PresenceHistoryTests {
  private typealias Line = PresenceHistory.Line

  private func line(
    _ input: PresenceModel.Input, _ output: PresenceModel.Output?, _ invoked: UInt64,
    _ completed: UInt64, image: String = "a"
  ) -> Line {
    Line(
      image: image, client: 1, input: input, output: output, invoked: invoked, completed: completed)
  }

  private func verdict(_ lines: Line...) -> PresenceHistory.Verdict? {
    PresenceHistory(lines: lines).check().first?.verdict
  }

  @Test func storedRemovedAndStoredAgain() {
    #expect(
      verdict(
        line(.read, .absent, 0, 1), line(.upload, .stored, 2, 3), line(.read, .found, 4, 5),
        line(.upload, .stored, 6, 7), line(.remove, .removed, 8, 9), line(.remove, .absent, 10, 11),
        line(.read, .absent, 12, 13), line(.upload, .stored, 14, 15), line(.read, .found, 16, 17))
        == .linearizable)
  }

  @Test func anAcknowledgedImageThatIsLost() {
    #expect(verdict(line(.upload, .stored, 0, 1), line(.read, .absent, 2, 3)) == .violated)
    #expect(verdict(line(.upload, .stored, 0, 1), line(.remove, .absent, 2, 3)) == .violated)
  }

  @Test func aRemovalThatComesBack() {
    #expect(
      verdict(
        line(.upload, .stored, 0, 1), line(.remove, .removed, 2, 3), line(.read, .found, 4, 5))
        == .violated)
  }

  @Test func twoRemovalsOfOneImage() {
    #expect(
      verdict(
        line(.upload, .stored, 0, 1), line(.remove, .removed, 2, 9), line(.remove, .removed, 2, 9))
        == .violated)
    #expect(
      verdict(
        line(.upload, .stored, 0, 1), line(.remove, .removed, 2, 9), line(.remove, .absent, 2, 9))
        == .linearizable)
  }

  @Test func whatIsNotKnownExplainsEither() {
    for output in [PresenceModel.Output.found, .absent] {
      #expect(verdict(line(.upload, nil, 0, 1), line(.read, output, 2, 3)) == .linearizable)
      #expect(
        verdict(
          line(.upload, .stored, 0, 1), line(.remove, nil, 2, 3), line(.read, output, 4, 5))
          == .linearizable)
    }
    // It takes effect once: gone, stored anew, and gone again is more than one removal does.
    #expect(
      verdict(
        line(.upload, .stored, 0, 1), line(.remove, nil, 2, 3), line(.read, .absent, 4, 5),
        line(.upload, .stored, 6, 7), line(.read, .absent, 8, 9)) == .violated)
    // And not before it was called.
    #expect(verdict(line(.read, .found, 0, 1), line(.upload, nil, 2, 3)) == .violated)
  }

  @Test func readsThatDisagreeWhileAnUploadRuns() {
    #expect(
      verdict(
        line(.upload, .stored, 0, 9), line(.read, .absent, 1, 2), line(.read, .found, 3, 4))
        == .linearizable)
    #expect(
      verdict(
        line(.upload, .stored, 0, 9), line(.read, .found, 1, 2), line(.read, .absent, 3, 4))
        == .violated)
  }

  @Test func alteredBytes() {
    #expect(verdict(line(.upload, .stored, 0, 1), line(.read, .altered, 2, 3)) == .violated)
  }

  @Test func aCallThatWasMadeTwice() {
    func verdicts(_ lines: Line...) -> [PresenceHistory.Verdict?] {
      [false, true].map { PresenceHistory(lines: lines).check(repeats: $0).first?.verdict }
    }
    // Its first attempt removed the image, its second one found nothing.
    #expect(
      verdicts(line(.upload, .stored, 0, 1), line(.remove, .absent, 2, 5))
        == [.violated, .linearizable])
    #expect(
      verdicts(
        line(.upload, .stored, 0, 1), line(.remove, .removed, 2, 9), line(.read, .absent, 3, 4),
        line(.upload, .stored, 5, 6), line(.read, .found, 7, 8), line(.read, .absent, 10, 11))
        == [.violated, .linearizable])
    // Neither attempt is made after the answer.
    #expect(
      verdicts(
        line(.upload, .stored, 0, 1), line(.remove, .removed, 2, 3), line(.upload, .stored, 4, 5),
        line(.read, .absent, 6, 7)) == [.violated, .violated])
    #expect(
      verdicts(
        line(.upload, .stored, 0, 1), line(.remove, .absent, 2, 3), line(.read, .found, 4, 5))
        == [.violated, .violated])
  }

  @Test func manyOfUnknownOutcome() {
    var lines: [Line] = []
    for time in stride(from: UInt64(0), to: 240, by: 6) {
      lines += [line(.upload, nil, time, time + 1), line(.remove, nil, time + 2, time + 3)]
      lines.append(line(.read, time % 12 == 0 ? .found : .absent, time + 4, time + 5))
    }
    #expect(PresenceHistory(lines: lines).check().first?.verdict == .linearizable)
  }

  @Test func eachImageAlone() {
    let findings = PresenceHistory(lines: [
      line(.upload, .stored, 0, 1, image: "b"), line(.read, .absent, 2, 3, image: "a"),
      line(.read, .absent, 4, 5, image: "b"), line(.read, nil, 6, 7, image: "a"),
    ]).check()
    #expect(findings.map(\.image) == ["a", "b"])
    #expect(findings.map(\.verdict) == [.linearizable, .violated])
    #expect(findings.map(\.operations) == [1, 2])
    #expect(findings[1].unplaced == [line(.read, .absent, 4, 5, image: "b")])
  }

  @Test func lines() throws {
    let text = """
      {"image":"a","client":3,"input":"upload","output":"stored","invoked":5,"completed":9}

      {"image":"a","client":4,"input":"remove","output":null,"invoked":6,"completed":8,"more":1}
      """
    let history = try PresenceHistory(parsing: text)
    #expect(history.lines.map(\.client) == [3, 4])
    #expect(history.lines.map(\.output) == [.stored, nil])
    #expect(throws: PresenceHistory.BadLine.self) { try PresenceHistory(parsing: "\n{}") }
    #expect(throws: PresenceHistory.BadLine.self) {
      let line = #"{"image":"a","client":3,"input":"read","output":"absent","invoked":5,"#
      _ = try PresenceHistory(parsing: line + #""completed":4}"#)
    }
  }
}
