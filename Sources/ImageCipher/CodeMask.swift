import Base

/// The paper's trapdoor: a secret permutation of a hash code's bits followed by a secret XOR mask,
/// one for each version of K_IDX and of the model (docs/formats/code-mask.md).
///
/// Hamming distances stay as they are, so the masters search masked codes. That is also its limit:
/// it hides codes at rest and is no encryption. About 16 known pairs of plain and masked code
/// reveal it (9 to 13 pairs half of the time, by code length; 5 to 7 pairs where they may be
/// chosen), everyone who holds K_IDX can undo it, and every distance, so every cluster of similar
/// images, is visible to the masters. No security claim rests on it.
public struct CodeMask: Sendable {
  public static let codeLengths = [8, 16, 32, 64]
  private static let label = "SFMedIR/code-mask/1"

  public let codeBits: Int
  /// Where every bit goes, one byte each, then the mask as eight bytes in network byte order.
  private let table: SecretBytes

  /// - Parameters:
  ///   - key: K_IDX, 32 bytes.
  ///   - keyVersion: the version of K_IDX.
  ///   - modelVersion: the model's name, as its signed record has it.
  ///   - codeBits: 8, 16, 32 or 64.
  public init(key: SecretBytes, keyVersion: UInt32, modelVersion: String, codeBits: Int) {
    precondition(
      Self.codeLengths.contains(codeBits), "a code has 8, 16, 32 or 64 bits, not \(codeBits)")
    precondition(key.count == 32, "an index key has 32 bytes, not \(key.count)")
    self.codeBits = codeBits
    var root = key.withBytes { HKDF.extract(salt: Array(Self.label.utf8), inputKeyMaterial: $0) }
    defer { zero(&root) }
    let model = Array(modelVersion.utf8)
    var context: [UInt8] = []
    context.append(bigEndian: keyVersion)
    context.append(UInt8(codeBits))
    context.append(bigEndian: UInt32(model.count))
    context += model
    var stream = DrawStream(
      key: HKDF.expand(
        pseudorandomKey: root, info: Array("permutation".utf8) + context, byteCount: 32))
    var bytes = Array(UInt8(0)..<UInt8(codeBits))
    for index in stride(from: codeBits - 1, through: 1, by: -1) {
      bytes.swapAt(index, stream.uniform(below: index + 1))
    }
    stream.wipe()
    var xor = HKDF.expand(
      pseudorandomKey: root, info: Array("xor".utf8) + context, byteCount: 8)
    bytes += xor
    table = SecretBytes(bytes)
    zero(&xor)
    zero(&bytes)
  }

  /// The masked code in the low ``codeBits`` bits; higher bits of `code` belong to no code and
  /// are dropped.
  public func mask(_ code: UInt64) -> UInt64 {
    table.withBytes { table in
      var masked: UInt64 = 0
      for bit in 0..<codeBits { masked |= (code >> UInt64(bit) & 1) << UInt64(table[bit]) }
      return (masked ^ xorMask(table)) & codeSpace
    }
  }

  /// The inverse of ``mask(_:)``; higher bits are dropped here too.
  public func unmask(_ masked: UInt64) -> UInt64 {
    table.withBytes { table in
      let permuted = masked ^ xorMask(table)
      var code: UInt64 = 0
      for bit in 0..<codeBits { code |= (permuted >> UInt64(table[bit]) & 1) << UInt64(bit) }
      return code
    }
  }

  private var codeSpace: UInt64 { UInt64.max >> UInt64(64 - codeBits) }

  private func xorMask(_ table: [UInt8]) -> UInt64 {
    guard let mask = UInt64(bigEndian: table, at: codeBits) else {
      preconditionFailure("a mask table has \(codeBits + 8) bytes, not \(table.count)")
    }
    return mask
  }
}

/// Numbers from HMAC-SHA256 in counter mode: block i is HMAC(key, BE32 i), read as eight BE32
/// draws in order.
private struct DrawStream {
  private var key: [UInt8]
  private var block: [UInt8] = []
  private var used = 0
  private var counter: UInt32 = 0

  init(key: [UInt8]) { self.key = key }

  /// Unbiased: draws in the last, incomplete round of `bound` numbers are thrown away.
  mutating func uniform(below bound: Int) -> Int {
    let space = UInt64(1) << 32
    let limit = space - space % UInt64(bound)
    while true {
      let draw = UInt64(next())
      if draw < limit { return Int(draw % UInt64(bound)) }
    }
  }

  mutating func wipe() {
    zero(&key)
    zero(&block)
  }

  private mutating func next() -> UInt32 {
    if let draw = UInt32(bigEndian: block, at: used) {
      used += 4
      return draw
    }
    var position: [UInt8] = []
    position.append(bigEndian: counter)
    counter += 1
    zero(&block)
    block = hmacSHA256(key: key, parts: [position])
    used = 0
    return next()
  }
}
