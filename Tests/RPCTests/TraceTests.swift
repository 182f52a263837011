import Base
import Messages
import Testing

@testable import RPC

/// W3C Trace Context, level 1: sections 3.2 (traceparent) and 3.3 (tracestate).
@Suite struct TraceTests {
  private static let trace = "0af7651916cd43dd8448eb211c80319c"
  private static let span = "b7ad6b7169203331"

  private static func entry(_ key: String, _ value: [UInt8]) -> MetadataEntry {
    var entry = MetadataEntry()
    entry.key = key
    entry.value = value
    return entry
  }

  @Test(arguments: [
    ("00-\(trace)-\(span)-01", true),
    ("00-\(trace)-\(span)-00", true),
    // Bits that this version does not know are no reason to lose a trace.
    ("00-\(trace)-\(span)-ff", true),
    // A version to come may add fields behind a dash.
    ("cc-\(trace)-\(span)-01", true),
    ("cc-\(trace)-\(span)-01-what-the-future-holds", true),
    ("cc-\(trace)-\(span)-01.", false),
    ("00-\(trace)-\(span)-01-more", false),
    ("ff-\(trace)-\(span)-01", false),
    ("00-\(trace.uppercased())-\(span)-01", false),
    ("00-00000000000000000000000000000000-\(span)-01", false),
    ("00-\(trace)-0000000000000000-01", false),
    ("00-\(trace)-\(span)-0", false),
    ("00-\(trace)-\(span)-0g", false),
    ("00_\(trace)-\(span)-01", false),
    ("0-\(trace)-\(span)-001", false),
    (" 00-\(trace)-\(span)-01", false),
    ("", false),
  ])
  func aParentIsReadStrictly(_ text: String, _ isValid: Bool) {
    let read = TraceContext([Self.entry("traceparent", Array(text.utf8))])
    #expect((read != nil) == isValid)
    if let read {
      #expect(read.traceIDText == Self.trace && read.spanIDText == Self.span)
    }
  }

  @Test func onlyTheSampledBitCounts() {
    for (flags, isSampled) in [("00", false), ("01", true), ("02", false), ("03", true)] {
      let parent = Array("00-\(Self.trace)-\(Self.span)-\(flags)".utf8)
      #expect(TraceContext([Self.entry("traceparent", parent)])?.isSampled == isSampled)
    }
  }

  @Test func bytesThatAreNoTextAreNoTrace() {
    for count in 0..<120 {
      #expect(
        TraceContext([Self.entry("traceparent", [UInt8](repeating: 0xff, count: count))]) == nil)
    }
  }

  @Test func twoParentsAreNone() {
    let parent = Self.entry("traceparent", Array("00-\(Self.trace)-\(Self.span)-01".utf8))
    #expect(TraceContext([parent, parent]) == nil)
    #expect(TraceContext([]) == nil)
    #expect(TraceContext([Self.entry("Traceparent", parent.value)]) == nil)
  }

  @Test func theStateGoesOnUnlessItIsTooLong() {
    let parent = Self.entry("traceparent", Array("00-\(Self.trace)-\(Self.span)-01".utf8))
    let state = Array("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE".utf8)
    let read = TraceContext([parent, Self.entry("tracestate", state)])
    #expect(read?.state == state)
    #expect(read?.child().state == state)
    let long = [UInt8](repeating: UInt8(ascii: "a"), count: 513)
    #expect(TraceContext([parent, Self.entry("tracestate", long)])?.state == [])
    #expect(
      TraceContext([parent, Self.entry("tracestate", Array(long.dropLast()))])?.state.count == 512)
  }

  @Test func aChildIsTheSameTraceFromAnotherSpan() throws {
    let begun = TraceContext.begin(isSampled: false)
    #expect(begun.traceID.count == 16 && begun.spanID.count == 8)
    let child = begun.child()
    #expect(child.traceID == begun.traceID && child.spanID != begun.spanID && !child.isSampled)
    #expect(TraceContext(child.metadata) == child)
    var options = CallOptions(timeout: .seconds(1))
    options.metadata = [Self.entry("other", [1])]
    options.trace = begun
    options.trace = child
    #expect(options.trace == child && options.metadata.count == 2)
    options.trace = nil
    #expect(options.trace == nil && options.metadata.map(\.key) == ["other"])
  }
}
