import Testing

@testable import CommandLineTool

@Suite struct UnitsTests {
  @Test(arguments: [
    (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1_048_524, "1023.9 KiB"),
    (1_048_575, "1.0 MiB"), (1 << 30, "1.0 GiB"), (UInt64.max, "16.0 EiB"),
  ]) func bytes(_ count: UInt64, _ text: String) { #expect(Units.bytes(count) == text) }

  @Test(arguments: [
    (0.0, 0, "0"), (0.05, 1, "0.1"), (0.04, 1, "0.0"), (-0.04, 1, "0.0"), (-1.25, 1, "-1.3"),
    (1.005, 2, "1.00"), (12.0, 3, "12.000"), (.nan, 1, "-"), (.infinity, 1, "-"),
  ]) func fixed(_ value: Double, _ digits: Int, _ text: String) {
    #expect(Units.fixed(value, digits: digits) == text)
  }

  @Test(arguments: [
    (0.0, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (125.4, "2 min 05 s"),
    (3599.6, "1 h 00 min"), (11_220.0, "3 h 07 min"), (187_200.0, "2 d 04 h"), (-1.0, "-"),
    (.infinity, "-"),
  ]) func duration(_ seconds: Double, _ text: String) {
    #expect(Units.duration(seconds: seconds) == text)
  }

  @Test func percentNeverSaysDoneTooEarly() {
    #expect(Units.percent(0, of: 0) == "100%")
    #expect(Units.percent(0, of: 10) == "0%")
    #expect(Units.percent(999_999_999, of: 1_000_000_000) == "99%")
    #expect(Units.percent(10, of: 10) == "100%")
    #expect(Units.percent(11, of: 10) == "100%")
  }

  @Test func rateAndTime() {
    #expect(Units.rate(bytesPerSecond: 1536) == "1.5 KiB/s")
    #expect(Units.rate(bytesPerSecond: .nan) == "-")
    #expect(Units.time(milliseconds: 0) == "-")
    #expect(Units.time(milliseconds: 1_700_000_000_999) == "2023-11-14 22:13:20Z")
    #expect(Units.time(milliseconds: .max) == "-")
  }

  @Test func namesOfOthersDoNotDriveTheTerminal() {
    #expect(printable("a\u{1B}[31mb\nc\u{202E}d\u{7F}é") == "a?[31mb?c?d?é")
  }

  @Test func longTextsLoseTheirMiddle() {
    #expect(shortened("abcdefghij", to: 10) == "abcdefghij")
    #expect(shortened("abcdefghijk", to: 10) == "abcde…hijk")
    #expect(shortened("abcdefghijk", to: 3) == "abc")
    #expect(shortened("abc", to: 0) == "")
  }
}

@Suite struct TableTests {
  @Test func columnsAreAligned() {
    var table = Table([.init("node"), .init("size", .right), .init("remark")])
    table.add(["scs-1", "12 B", ""])
    table.add(["a-much-longer-name", "1.5 KiB", "read-only"])
    #expect(
      table.lines == [
        "node                   size  remark",
        "scs-1                  12 B",
        "a-much-longer-name  1.5 KiB  read-only",
      ])
  }

  @Test func controlCharactersDoNotBreakLines() {
    var table = Table([.init("file")])
    table.add(["a\nb"])
    #expect(table.lines == ["file", "a?b"])
  }

  @Test func anEmptyTableIsItsHeading() {
    #expect(Table([.init("a"), .init("b")]).lines == ["a  b"])
  }
}

@Suite struct ProgressTests {
  private func state(done: UInt64, files: Int, seconds: Double) -> ProgressState {
    var state = ProgressState()
    state.filesTotal = 40
    state.filesDone = files
    state.bytesTotal = 4096
    state.bytesDone = done
    state.elapsedSeconds = seconds
    return state
  }

  @Test func lineHasBarRateAndTimeLeft() {
    let line = state(done: 1024, files: 10, seconds: 2).line(width: 100)
    #expect(
      line
        == "[======>                       ]  "
        + "25%  10/40 files  1.0 KiB of 4.0 KiB  512 B/s  6.0 s left")
  }

  @Test func narrowTerminalsGetNoBarAndNoSecondLine() {
    for width in 0...120 {
      let line = state(done: 1024, files: 10, seconds: 2).line(width: width)
      #expect(line.count <= width, "width \(width): \(line)")
      #expect(line.contains("[") == (width >= 69), "width \(width): \(line)")
    }
  }

  @Test func nothingIsForeseenAtTheBeginning() {
    #expect(state(done: 0, files: 0, seconds: 10).secondsLeft == nil)
    #expect(state(done: 100, files: 0, seconds: 0.5).secondsLeft == nil)
    #expect(state(done: 2048, files: 0, seconds: 3).secondsLeft == 3)
    #expect(ProgressState().line(width: 60).hasSuffix("100%  0/0 files  0 B of 0 B  0 B/s"))
  }

  @Test func failuresAreSaid() {
    var state = state(done: 4096, files: 40, seconds: 4)
    state.filesFailed = 2
    #expect(
      state.plainLine == "100%  40/40 files  4.0 KiB of 4.0 KiB  1.0 KiB/s  2 failed")
    #expect(state.bar(cells: 10) == "[==========]")
  }

  @Test func barsAreAsLongAsTheyShouldBe() {
    for done in stride(from: UInt64(0), through: 5000, by: 7) {
      let bar = state(done: done, files: 0, seconds: 1).bar(cells: 12)
      #expect(bar.count == 14, "\(done) bytes: \(bar)")
    }
  }
}
