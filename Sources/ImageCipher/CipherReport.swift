import Base

/// The figures by which image ciphers are usually judged, each beside its expected value and
/// acceptance limits, for the chaos layer alone and for the sealed cipher text.
///
/// Good figures are necessary and no evidence of security: every good generator has them. A single
/// draw of the change rate or intensity falls outside its 5 % limits one time in twenty by design.
public struct CipherReport: Equatable, Sendable {
  /// One figure with its limits.
  public struct Figure: Equatable, Sendable {
    public let name: String
    public let value: Double
    public let expected: Double
    public let accepted: ClosedRange<Double>
    public var isAccepted: Bool { accepted.contains(value) }
  }

  /// What was measured on one kind of cipher text.
  public struct Layer: Equatable, Sendable {
    public let statistics: ByteStatistics
    /// After changing the lowest bit of one byte of the picture, with the same random input.
    public let pixelChange: ByteDifference
    /// After changing one bit of the key, with the same nonce.
    public let keyChange: ByteDifference

    public init(
      statistics: ByteStatistics, pixelChange: ByteDifference, keyChange: ByteDifference
    ) {
      self.statistics = statistics
      self.pixelChange = pixelChange
      self.keyChange = keyChange
    }

    /// Every figure with its limits.
    public var figures: [Figure] {
      let limits = CipherLimits(byteCount: statistics.byteCount)
      return [
        limits.entropy(statistics.entropy),
        limits.chiSquare(statistics.chiSquare),
        limits.correlation("horizontal correlation", statistics.horizontalCorrelation),
        limits.correlation("vertical correlation", statistics.verticalCorrelation),
        limits.correlation("diagonal correlation", statistics.diagonalCorrelation),
        limits.changeRate("NPCR, pixel change (%)", pixelChange),
        limits.changeIntensity("UACI, pixel change (%)", pixelChange),
        limits.changeRate("NPCR, key change (%)", keyChange),
        limits.changeIntensity("UACI, key change (%)", keyChange),
      ]
    }
  }

  /// The picture before encryption.
  public let plain: ByteStatistics
  /// What leaves the chaos layer.
  public let chaos: Layer
  /// The payload of the container.
  public let sealed: Layer
  /// The container does not open under the key with one bit changed.
  public let wrongKeyIsRejected: Bool

  /// Encrypts the picture three times and measures.
  ///
  /// - Parameters:
  ///   - pixels: 8-bit samples in whole rows; at least two rows of two.
  ///   - rowBytes: bytes a row.
  ///   - key: 32 bytes, a key made for the measurement.
  ///   - entropy: draws the nonce's random part, the changed byte and the changed key bit.
  public init(pixels: [UInt8], rowBytes: Int, key: SecretBytes, entropy: some Entropy) {
    plain = ByteStatistics(of: pixels, rowBytes: rowBytes)
    let random = entropy.bytes(QMS1.randomBytes)
    var changedPixels = pixels
    changedPixels[Int(entropy.uniform(below: UInt64(pixels.count)))] ^= 1
    let keyBit = Int(entropy.uniform(below: UInt64(8 * key.count)))
    let changedKey = key.withBytes { bytes in
      var changed = bytes
      changed[keyBit / 8] ^= 1 << UInt8(keyBit % 8)
      defer { zero(&changed) }
      return SecretBytes(changed)
    }
    let nonce = Self.nonce(pixels, rowBytes, key, random)
    let changedNonce = Self.nonce(changedPixels, rowBytes, key, random)
    let original = Ciphertexts(pixels, rowBytes, key, nonce)
    let afterPixel = Ciphertexts(changedPixels, rowBytes, key, changedNonce)
    let afterKey = Ciphertexts(pixels, rowBytes, changedKey, nonce)
    func layer(_ bytes: (Ciphertexts) -> [UInt8]) -> Layer {
      Layer(
        statistics: ByteStatistics(of: bytes(original), rowBytes: rowBytes),
        pixelChange: ByteDifference(bytes(original), bytes(afterPixel)),
        keyChange: ByteDifference(bytes(original), bytes(afterKey)))
    }
    chaos = layer(\.chaos)
    sealed = layer(\.sealed)
    wrongKeyIsRejected =
      (try? QMS1.decrypt(original.container, key: changedKey)) == nil
  }

  private static func nonce(
    _ pixels: [UInt8], _ rowBytes: Int, _ key: SecretBytes, _ random: [UInt8]
  ) -> [UInt8] {
    let header = QMS1.Header(
      describing: pixels.count, as: Ciphertexts.picture(pixels, rowBytes))
    return QMS1.hedgedNonce(
      key: key, random: random, header: header.bytesWithoutNonce, plaintext: pixels)
  }
}

/// One encryption, cut to the picture's length: the padding is no part of the picture.
private struct Ciphertexts {
  let chaos: [UInt8]
  let sealed: [UInt8]
  let container: [UInt8]

  static func picture(_ pixels: [UInt8], _ rowBytes: Int) -> QMS1.Picture {
    QMS1.Picture(
      width: UInt32(rowBytes), height: UInt32(pixels.count / rowBytes), channels: 1,
      bitsPerSample: 8)
  }

  init(_ pixels: [UInt8], _ rowBytes: Int, _ key: SecretBytes, _ nonce: [UInt8]) {
    let picture = Self.picture(pixels, rowBytes)
    container = QMS1.encrypt(
      plaintext: pixels, key: key, width: picture.width, height: picture.height,
      channels: picture.channels, bitsPerSample: picture.bitsPerSample, nonce: nonce)
    sealed = Array(container.dropFirst(QMS1.Header.byteCount).prefix(pixels.count))
    let padding = (QMS1.blockBytes - pixels.count % QMS1.blockBytes) % QMS1.blockBytes
    var payload = pixels + [UInt8](repeating: 0, count: padding)
    payload.withUnsafeMutableBytes {
      ChaosLayer(key: ImageKeys(dataKey: key, nonce: nonce).chaosKey)
        .apply(.encrypting, to: $0, cores: QMS1.availableCores)
    }
    chaos = Array(payload.prefix(pixels.count))
  }
}
