import Testing

@testable import RPC

@Suite struct ShortenedTests {
  /// A character of a peer's text has no bound: a letter and 1000 accents are one.
  @Test func theBoundIsInBytesAndScalarsStayWhole() {
    let accents = "e" + String(repeating: "\u{301}", count: 1000)
    #expect(accents.count == 1)
    #expect(accents.shortened(toBytes: 4) == "e\u{301}")
    #expect(Array("\u{1F480}\u{1F480}".shortened(toBytes: 7).utf8).count == 4)
    #expect("\u{1F480}".shortened(toBytes: 3) == "")
    #expect("abc".shortened(toBytes: 3) == "abc")
    #expect("abcd".shortened(toBytes: 3) == "abc")
    #expect("".shortened(toBytes: 0) == "")
  }
}
