import Base
import Shadows
import Testing

/// What is Bai's scheme's own.
@Suite struct BaiSchemeTests {
  let scheme = BaiScheme()

  /// A secret of one block gets a second, random one; one of none gets two.
  @Test func shortSecretsAreLengthened() throws {
    for byteCount in [0, 1, 512, 513, 1024] {
      #expect(try scheme.bodyByteCount(secretByteCount: byteCount, threshold: 4) == 2 * 32 + 256)
    }
    #expect(try scheme.bodyByteCount(secretByteCount: 1025, threshold: 4) == 3 * 32 + 384)
  }

  @Test func storedBytes() throws {
    let entropy = SeededEntropy(seed: 8)
    let shadows = try scheme.split(
      secret: entropy.bytes(20_000), threshold: 6, shadowCount: 10, imageID: sequentialID, epoch: 3,
      entropy: entropy)
    let expansion = Double(shadows.reduce(0) { $0 + $1.byteCount }) / 20_000
    #expect((expansion * 1000).rounded() == 2365)
  }
}
