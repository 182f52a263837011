import Base
import Enrollment
import RPC
import Shadows

/// ImgReconstruct (paper, Algorithm 3): r shadows from the slaves that answer first, each checked before use.
struct FetchPipeline: Sendable {
  let reader: ShadowReader
  let state: ClusterState
  let keys: KeyRing

  /// The encrypted image, identical to what was stored.
  ///
  /// - Parameter mayBeOld: the record is of some age; a shadow that is not where it says speaks against nobody.
  func fetch(
    _ image: StoredImage, mayBeOld: Bool = false, within context: CallContext
  ) async throws -> [UInt8] {
    do {
      return try await attempt(image, mayBeOld, within: context)
    } catch let error as RPCError where error.reason == "NotEnoughShadows" {
      // Shadows that moved meanwhile are not where this record says.
      guard let now = try await state.image(image.record.imageID), now != image else {
        throw error
      }
      return try await attempt(now, mayBeOld, within: context)
    }
  }

  private func attempt(
    _ image: StoredImage, _ mayBeOld: Bool, within context: CallContext
  ) async throws -> [UInt8] {
    let sharing = try OpenedSharing(image, keys: keys)
    let (id, scheme, threshold) = (sharing.id, sharing.scheme, sharing.threshold)
    let shadows = try await reader.collect(
      sharing, of: image, notes: !mayBeOld, within: context)
    let digests = image.digests
    let expected = image.record.sealedDigest
    do {
      return try await offload {
        let sealed = try scheme.join(
          shadows: shadows, threshold: threshold, expectedDigests: digests)
        // The shadows were right, each by itself; the whole is checked as the paper's step 12 would.
        guard sha256(sealed) == expected else {
          throw RPCError(
            .dataLoss, "the rebuilt image has another digest", reason: "DigestMismatch")
        }
        return sealed
      }
    } catch let error as ShadowError {
      throw RPCError(.dataLoss, "image \(id): \(error)", reason: "ContradictoryShadows")
    }
  }
}
