import Base
import Enrollment
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
    self.scheme = scheme
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
