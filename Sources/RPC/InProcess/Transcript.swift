/// What happened in a simulation, as a number that two equal runs share, and as text where it is wanted.
public struct Transcript: Sendable {
  /// FNV-1a over everything noted, eight bytes at a time.
  public private(set) var digest: UInt64 = 0xcbf2_9ce4_8422_2325
  /// One line an event; empty where no text is kept.
  public private(set) var lines: [String] = []
  private let keepsText: Bool

  init(keepsText: Bool) { self.keepsText = keepsText }

  mutating func note(_ nanoseconds: UInt64, _ text: String) {
    add(nanoseconds)
    add(text)
    if keepsText { lines.append("\(Self.seconds(nanoseconds)) \(text)") }
  }

  mutating func note(
    _ nanoseconds: UInt64, _ connection: Int, _ from: String, _ to: String, _ parcel: Parcel
  ) {
    add(nanoseconds)
    add(UInt64(connection))
    add(from)
    add(to)
    add(parcel)
    if keepsText {
      lines.append(
        "\(Self.seconds(nanoseconds)) #\(connection) \(from) > \(to): \(Self.text(parcel))")
    }
  }

  private mutating func add(_ number: UInt64) {
    digest = (digest ^ number) &* 0x100_0000_01b3
    // The low bits must hear of the high ones.
    digest ^= digest >> 32
  }

  private mutating func add(_ text: String) { add(Array(text.utf8)) }

  private mutating func add(_ bytes: [UInt8]) {
    add(UInt64(bytes.count))
    bytes.withUnsafeBytes { bytes in
      var position = 0
      while position + 8 <= bytes.count {
        add(bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self))
        position += 8
      }
      for byte in bytes[position...] { add(UInt64(byte)) }
    }
  }

  private mutating func add(_ parcel: Parcel) {
    switch parcel {
    case .open: add(1)
    case .accepted: add(2)
    case .bytes(let bytes): add(bytes)
    case .taken(let count): add(UInt64(count))
    case .end: add(3)
    case .failed: add(4)
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
