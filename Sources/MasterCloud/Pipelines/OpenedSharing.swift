import Base
import Enrollment
import Glibc
import RPC
import Shadows

/// How an image is shared, with its threshold in the clear.
struct OpenedSharing: Sendable {
  let id: ImageID
  let scheme: any ShadowScheme
  /// r
  let threshold: Int

  /// Throws UNIMPLEMENTED, FAILED_PRECONDITION (no key) and DATA_LOSS.
  init(_ image: StoredImage, keys: KeyRing) throws(RPCError) {
    guard let id = ImageID(image.record.imageID) else {
      preconditionFailure("a stored id of \(image.record.imageID.count) bytes")
    }
    guard let scheme = ShadowSchemes.named(image.scheme) else {
      throw RPCError(
        .unimplemented,
        "image \(id) was split by '\(image.scheme)', which this master does not know",
        reason: "UnknownScheme")
    }
    self.id = id
    self.scheme = scheme.onCores(for: Int(clamping: image.record.sealedBytes))
    threshold = try Self.threshold(
      image.encryptedThreshold, of: id, epoch: image.epoch, keys: keys)
  }

  static func threshold(
    _ bytes: [UInt8], of id: ImageID, epoch: UInt32, keys: KeyRing
  ) throws(RPCError) -> Int {
    do {
      let encrypted = try EncryptedThreshold(parsing: bytes)
      guard let key = keys.key(.threshold, version: encrypted.keyVersion) else {
        throw RPCError(
          .failedPrecondition, "this master lacks threshold key version \(encrypted.keyVersion)",
          reason: "NoKey")
      }
      return try encrypted.open(key: key, imageID: id, epoch: epoch)
    } catch let error as RPCError {
      throw error
    } catch {
      throw RPCError(.dataLoss, "image \(id): \(error)", reason: "ThresholdUnreadable")
    }
  }
}

extension ShadowScheme {
  /// The same scheme on all cores where an image is large: a small one is done before another core has begun.
  func onCores(for byteCount: Int) -> any ShadowScheme {
    guard byteCount >= 8 << 20 else { return self }
    return ShadowSchemes.named(name, coreCount: max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
      ?? self
  }
}
