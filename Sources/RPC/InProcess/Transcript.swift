/// What happened in a simulation, as a number that two equal runs share, and as text where it is wanted.
public struct Transcript: Sendable {
  /// FNV-1a over everything noted.
  public private(set) var digest: UInt64 = 0xcbf2_9ce4_8422_2325
  /// One line an event; empty where no text is kept.
  public private(set) var lines: [String] = []
  private let keepsText: Bool

  init(keepsText: Bool) { self.keepsText = keepsText }

  mutating func note(_ nanoseconds: UInt64, _ text: String) {
    add(nanoseconds)
    for byte in text.utf8 { add(byte) }
    if keepsText { lines.append("\(Self.seconds(nanoseconds)) \(text)") }
  }

  mutating func note(
    _ nanoseconds: UInt64, _ connection: Int, _ from: String, _ to: String, _ parcel: Parcel
  ) {
    add(nanoseconds)
    add(UInt64(connection))
    for byte in from.utf8 { add(byte) }
    for byte in to.utf8 { add(byte) }
    add(parcel)
    if keepsText {
      lines.append(
        "\(Self.seconds(nanoseconds)) #\(connection) \(from) > \(to): \(Self.text(parcel))")
    }
  }

  private mutating func add(_ byte: UInt8) { digest = (digest ^ UInt64(byte)) &* 0x100_0000_01b3 }

  private mutating func add(_ number: UInt64) {
    for shift in stride(from: 0, to: 64, by: 8) { add(UInt8(truncatingIfNeeded: number >> shift)) }
  }

  private mutating func add(_ parcel: Parcel) {
    switch parcel {
    case .open: add(UInt8(1))
    case .accepted: add(UInt8(2))
    case .bytes(let bytes): for byte in bytes { add(byte) }
    case .taken(let count): add(UInt64(count))
    case .end: add(UInt8(3))
    case .failed: add(UInt8(4))
    }
  }

  private static func text(_ parcel: Parcel) -> String {
    switch parcel {
    case .open: "connect"
    case .accepted: "accepted"
    case .bytes(let bytes): "\(bytes.count) bytes, \(firstFrame(bytes))"
    case .taken(let count): "took \(count)"
    case .end: "end"
    case .failed(let error): "\(error)"
    }
  }

  /// A guess where the piece begins within a frame.
  private static func firstFrame(_ bytes: [UInt8]) -> String {
    let header = bytes.withUnsafeBytes { bytes in
      bytes.count < FrameHeader.byteCount
        ? nil : try? FrameHeader(reading: bytes, maximumPayloadBytes: 1 << 24)
    }
    return header.map { "\($0.type) of \($0.payloadBytes) on stream \($0.stream)" } ?? "a rest"
  }

  private static func seconds(_ nanoseconds: UInt64) -> String {
    let micros = String(nanoseconds / 1000 % 1_000_000)
    return "\(nanoseconds / 1_000_000_000)." + String(repeating: "0", count: 6 - micros.count)
      + micros
  }
}
