import Base
import Enrollment
import Logging
import Messages
import RPC
import Shadows

/// ImgReconstruct (paper, Algorithm 3): r shadows from the slaves that answer first, each checked before use.
struct FetchPipeline: Sendable {
  let configuration: MasterConfiguration
  let slaves: SlaveDirectory
  let keys: KeyRing
  let logger: Logger

  /// The encrypted image, identical to what was stored.
  func fetch(_ image: StoredImage, within context: CallContext) async throws -> [UInt8] {
    guard let id = ImageID(image.record.imageID) else {
      preconditionFailure("a stored id of \(image.record.imageID.count) bytes")
    }
    guard let scheme = ShadowSchemes.named(image.scheme) else {
      throw RPCError(
        .unimplemented,
        "image \(id) was split by '\(image.scheme)', which this master does not know",
        reason: "UnknownScheme")
    }
    let threshold = try threshold(of: image, id)
    let shadows = try await collect(image, id, scheme.format, threshold, within: context)
    let digests = Dictionary(
      uniqueKeysWithValues: image.placements.map { (Int($0.index), $0.digest) })
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

  private func threshold(of image: StoredImage, _ id: ImageID) throws(RPCError) -> Int {
    do {
      let encrypted = try EncryptedThreshold(parsing: image.encryptedThreshold)
      guard let key = keys.key(.threshold, version: encrypted.keyVersion) else {
        throw RPCError(
          .failedPrecondition, "this master lacks threshold key version \(encrypted.keyVersion)",
          reason: "NoKey")
      }
      return try encrypted.open(key: key, imageID: id, epoch: image.epoch)
    } catch let error as RPCError {
      throw error
    } catch {
      throw RPCError(.dataLoss, "image \(id): \(error)", reason: "ThresholdUnreadable")
    }
  }

  // MARK: collecting shadows

  private enum Arrival: Sendable {
    case shadow(Shadow)
    case failed(ShadowPlacement, RPCError)
    case corrupt(ShadowPlacement)
    /// Nothing new for a while: ask one more.
    case slow
  }

  /// r verified shadows: r slaves are asked at once, one more whenever one fails, lies or is slow.
  private func collect(
    _ image: StoredImage, _ id: ImageID, _ format: ShadowFormat, _ threshold: Int,
    within context: CallContext
  ) async throws -> [Shadow] {
    // Those that answer first; among them at random, so that reads spread.
    let order =
      image.placements.filter { slaves.isReachable($0.slave) }.shuffled()
      + image.placements.filter { !slaves.isReachable($0.slave) }.shuffled()
    return try await withThrowingTaskGroup(of: Arrival.self) { group in
      var remaining = order[...]
      var shadows: [Shadow] = []
      var problems: [String] = []
      var corrupt = 0
      var running = 0
      func askNext() {
        guard let placement = remaining.popFirst() else { return }
        running += 1
        group.addTask { await fetch(placement, of: image, id, format, within: context) }
      }
      func watch() {
        let delay = configuration.hedgeAfter
        group.addTask {
          try? await Task.sleep(for: delay)
          return .slow
        }
      }
      for _ in 0..<threshold { askNext() }
      watch()
      while shadows.count < threshold, running > 0 {
        switch try await group.next() {
        case .shadow(let shadow)?:
          running -= 1
          shadows.append(shadow)
        case .failed(let placement, let error)?:
          running -= 1
          problems.append("\(placement.slave): \(error.message)")
          askNext()
        case .corrupt(let placement)?:
          running -= 1
          corrupt += 1
          problems.append("\(placement.slave): corrupt shadow \(placement.index)")
          slaves.reportCorruptShadow(on: placement.slave, image: id, index: placement.index)
          askNext()
        case .slow?:
          askNext()
          if !remaining.isEmpty { watch() }
        case nil: break
        }
      }
      group.cancelAll()
      guard shadows.count == threshold else {
        if context.remaining == .zero {
          throw RPCError(.deadlineExceeded, "the deadline passed while shadows were collected")
        }
        // Slaves that are away may come back; shadows that are wrong will not.
        let gone = image.placements.count - corrupt < threshold
        throw RPCError(
          gone ? .dataLoss : .unavailable,
          "image \(id): \(shadows.count) good shadows, \(threshold) are needed"
            + " (\(problems.sorted().joined(separator: "; ")))",
          reason: "NotEnoughShadows")
      }
      return shadows
    }
  }

  private func fetch(
    _ placement: ShadowPlacement, of image: StoredImage, _ id: ImageID, _ format: ShadowFormat,
    within context: CallContext
  ) async -> Arrival {
    do {
      let call = try await slaves.channel(to: placement.slave).open(
        SlaveCloudMethods.getShadow, CallOptions(within: context, atMost: .seconds(30)))
      var request = GetShadowRequest()
      request.name = placement.name
      try await call.sendLast(request)
      guard let header = try await call.receiveMessage() else {
        return .failed(placement, RPCError(.dataLoss, "an empty answer"))
      }
      let body = try await call.receiveBulk(
        count: header.bodyBytes, maximum: shadowBytesMaximum(image))
      return await verify(body, placement, image, id, format)
    } catch {
      // The slave's own checksum failed: it knows that it lost this one.
      if error.code == .dataLoss || error.code == .notFound { return .corrupt(placement) }
      if error.code == .unavailable { slaves.reportFailure(of: placement.slave, error) }
      return .failed(placement, error)
    }
  }

  /// A shadow is at most about the secret with the overhead of the smallest r; a slave may claim any length.
  private func shadowBytesMaximum(_ image: StoredImage) -> Int {
    2 * Int(clamping: image.record.sealedBytes) + 4096
  }

  private func verify(
    _ body: [UInt8], _ placement: ShadowPlacement, _ image: StoredImage, _ id: ImageID,
    _ format: ShadowFormat
  ) async -> Arrival {
    let verified: Shadow?? = try? await offload { () -> Shadow? in
      let header = try ShadowHeader(
        format: format, index: Int(placement.index), epoch: image.epoch, imageID: id,
        secretByteCount: Int(clamping: image.record.sealedBytes))
      let shadow = Shadow(header: header, body: body)
      return constantTimeEqual(shadow.digest(), placement.digest) ? shadow : nil
    }
    // No header, or another digest: both mean that these are not the bytes that were stored.
    guard let shadow = verified.flatMap({ $0 }) else { return .corrupt(placement) }
    return .shadow(shadow)
  }
}
