import Base
import Messages

/// Where a call stands in a trace: W3C Trace Context, level 1, as metadata `traceparent` and `tracestate`.
public struct TraceContext: Equatable, Sendable {
  public static let parentKey = "traceparent"
  public static let stateKey = "tracestate"
  private static let parentBytes = 55
  private static let maximumStateBytes = 512

  /// 16 bytes, not all zero.
  public let traceID: [UInt8]
  /// 8 bytes, not all zero: the caller's span.
  public let spanID: [UInt8]
  /// Whether somebody upstream records this trace.
  public let isSampled: Bool
  /// Vendors' own; handed on as it came, at most 512 bytes.
  public let state: [UInt8]

  init(traceID: [UInt8], spanID: [UInt8], isSampled: Bool, state: [UInt8] = []) {
    self.traceID = traceID
    self.spanID = spanID
    self.isSampled = isSampled
    self.state = state
  }

  /// A trace that begins here.
  public static func begin(isSampled: Bool = true) -> TraceContext {
    TraceContext(
      traceID: nonzero(16), spanID: nonzero(8), isSampled: isSampled)
  }

  /// The same trace, seen from a span of this process.
  public func child() -> TraceContext {
    TraceContext(
      traceID: traceID, spanID: Self.nonzero(8), isSampled: isSampled, state: state)
  }

  private static func nonzero(_ count: Int) -> [UInt8] {
    while true {
      let bytes = (0..<count).map { _ in UInt8.random(in: 0...255) }
      if bytes.contains(where: { $0 != 0 }) { return bytes }
    }
  }

  /// Nil where there is none, more than one, or not a valid one: a trace is never worth refusing a call.
  public init?(_ metadata: [MetadataEntry]) {
    let parents = metadata.filter { $0.key == Self.parentKey }
    guard parents.count == 1 else { return nil }
    let states = metadata.filter { $0.key == Self.stateKey }
    let state = states.count == 1 ? states[0].value : []
    self.init(
      parent: parents[0].value, state: state.count <= Self.maximumStateBytes ? state : [])
  }

  /// "00-<32 hex>-<16 hex>-<2 hex>"; a higher version may have more behind that.
  init?(parent text: [UInt8], state: [UInt8]) {
    let dash = UInt8(ascii: "-")
    guard text.count >= Self.parentBytes, text[2] == dash, text[35] == dash, text[52] == dash,
      let version = Self.bytes(text[0..<2]), version[0] != 0xff,
      let trace = Self.bytes(text[3..<35]), let span = Self.bytes(text[36..<52]),
      let flags = Self.bytes(text[53..<55]),
      trace.contains(where: { $0 != 0 }), span.contains(where: { $0 != 0 })
    else { return nil }
    if version[0] == 0 {
      guard text.count == Self.parentBytes else { return nil }
    } else if text.count > Self.parentBytes {
      guard text[Self.parentBytes] == dash else { return nil }
    }
    self.init(traceID: trace, spanID: span, isSampled: flags[0] & 1 == 1, state: state)
  }

  /// Lower-case hexadecimal only, as the specification says.
  private static func bytes(_ text: ArraySlice<UInt8>) -> [UInt8]? {
    var result: [UInt8] = []
    var high: UInt8?
    for character in text {
      let digit: UInt8
      switch character {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = character - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = character - UInt8(ascii: "a") + 10
      default: return nil
      }
      if let first = high {
        result.append(first << 4 | digit)
        high = nil
      } else {
        high = digit
      }
    }
    return result
  }

  public var traceIDText: String { traceID.hex }
  public var spanIDText: String { spanID.hex }

  /// As metadata of a call.
  public var metadata: [MetadataEntry] {
    var parent = MetadataEntry()
    parent.key = Self.parentKey
    parent.value = Array("00-\(traceIDText)-\(spanIDText)-\(isSampled ? "01" : "00")".utf8)
    guard !state.isEmpty else { return [parent] }
    var entry = MetadataEntry()
    entry.key = Self.stateKey
    entry.value = state
    return [parent, entry]
  }
}
