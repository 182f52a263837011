import Base
import Enrollment
import Logging
import Messages
import RPC
import Shadows

/// DynamicShadowsGen (paper, Algorithm 2) and what makes it durable: a sealed image becomes s shadows on
/// s slaves, then a committed placement record.
struct UploadPipeline: Sendable {
  let configuration: MasterConfiguration
  let state: ClusterState
  let log: any ReplicatedLog
  let slaves: SlaveDirectory
  let keys: KeyRing
  let active: ActiveSet<PendingUpload>
  let logger: Logger
  private let writer: ShadowWriter
  private let entropy = SystemEntropy()
  private let scheme: any ShadowScheme

  /// Attempts of one upload: each new one leaves out the slaves that failed.
  private static let attempts = 4

  init(
    configuration: MasterConfiguration, state: ClusterState, log: any ReplicatedLog,
    slaves: SlaveDirectory, keys: KeyRing, active: ActiveSet<PendingUpload>, logger: Logger
  ) {
    guard let scheme = ShadowSchemes.named(configuration.shadowScheme) else {
      preconditionFailure("no scheme '\(configuration.shadowScheme)'")
    }
    self.scheme = scheme
    self.configuration = configuration
    self.state = state
    self.log = log
    self.slaves = slaves
    self.keys = keys
    self.active = active
    self.logger = logger
    writer = ShadowWriter(slaves: slaves)
  }

  /// Stores the sealed image; on return its placement has committed.
  func store(
    _ record: ImageRecord, id: ImageID, sealed: [UInt8], within context: CallContext
  ) async throws -> PutImageReply {
    var failed: Set<String> = []
    var lastError = RPCError(.unavailable, "no attempt was made")
    for _ in 0..<Self.attempts {
      do {
        return try await attempt(record, id, sealed, avoiding: failed, within: context)
      } catch let failure as ShadowWriteFailure {
        failed.formUnion(failure.slaves)
        lastError = failure.rpcError
      } catch let error as RPCError where error.reason == "StaleEpoch" {
        lastError = error
      }
      guard context.remaining > .zero else { break }
    }
    throw lastError
  }

  private func attempt(
    _ record: ImageRecord, _ id: ImageID, _ sealed: [UInt8], avoiding failed: Set<String>,
    within context: CallContext
  ) async throws -> PutImageReply {
    let (sharing, nodes) = try place(avoiding: failed)
    let epoch = try await state.lastEpoch(of: id.bytes) + 1
    var placements: [ShadowPlacement] = []
    for (offset, node) in nodes.enumerated() {
      var placement = ShadowPlacement()
      placement.index = UInt32(offset + 1)
      placement.slave = node
      placement.name = entropy.bytes(16)
      placements.append(placement)
    }
    let upload = PendingUpload(imageID: id.bytes, epoch: epoch)
    active.insert(upload)
    defer { active.remove(upload) }
    // The intent is durable before the first shadow leaves, so that a crash leaves no nameless litter.
    var begin = BeginUpload()
    (begin.imageID, begin.epoch, begin.placements) = (id.bytes, epoch, placements)
    (begin.owner, begin.sealedBytes) = (record.owner, record.sealedBytes)
    let begun = try await log.propose { $0.beginUpload = begin }
    try begun.check()
    if begun.existed { return existing() }
    do {
      let shadows = try await split(sealed, sharing, id, epoch)
      for offset in placements.indices { placements[offset].digest = shadows[offset].digest }
      try await write(shadows.map(\.body), placements, within: context)
      return try await commit(
        record, upload, placements, sharing, bytes: shadows.reduce(0) { $0 + $1.body.count })
    } catch {
      await giveUp(upload)
      throw error
    }
  }

  private func existing() -> PutImageReply {
    var reply = PutImageReply()
    reply.existed = true
    return reply
  }

  /// (r, s) at random among those allowed, and s different slaves.
  private func place(avoiding failed: Set<String>) throws(RPCError) -> (Sharing, [String]) {
    let candidates = slaves.candidates(for: .upload).filter { !failed.contains($0.node) }
    let locations = candidates.map(\.location)
    let survived = configuration.surviveLossOf
    func survives(_ sharing: Sharing) -> Bool {
      sharing.shadowCount
        - survived.largestShare(of: sharing.shadowCount, among: locations) >= sharing.threshold
    }
    let sharing: Sharing
    if let fixed = configuration.fixedSharing {
      guard candidates.count >= fixed.shadowCount else {
        throw RPCError(
          .unavailable,
          "\(candidates.count) slaves take shadows, \(fixed.shadowCount) are needed",
          reason: "NotEnoughSlaves")
      }
      sharing = fixed
    } else {
      let policy = ThresholdPolicy(
        maximumThreshold: configuration.maximumThreshold,
        minimumTolerance: configuration.minimumTolerance, liveSlaveCount: candidates.count,
        spareSlaves: configuration.spareSlaves)
      do {
        // Where none of those that are allowed survives it, any will do to say so.
        sharing =
          try (try? policy.draw(entropy: entropy, where: survives)) ?? policy.draw(entropy: entropy)
      } catch {
        throw RPCError(.unavailable, "\(error)", reason: "NotEnoughSlaves")
      }
    }
    guard survives(sharing) else {
      throw RPCError(
        .unavailable,
        "no image of the \(candidates.count) slaves that take shadows would survive the loss of a"
          + " \(survived.rawValue)",
        reason: "NotEnoughDomains")
    }
    let chosen = SlaveChoice(spreading: survived).choose(
      sharing.shadowCount, from: candidates, entropy: entropy)
    return (sharing, chosen.map(\.node))
  }

  private struct SplitShadow: Sendable {
    var body: [UInt8]
    var digest: [UInt8]
  }

  private func split(
    _ sealed: [UInt8], _ sharing: Sharing, _ id: ImageID, _ epoch: UInt32
  ) async throws -> [SplitShadow] {
    let (scheme, entropy) = (scheme.onCores(for: sealed.count), entropy)
    return try await offload {
      try scheme.split(
        secret: sealed, threshold: sharing.threshold, shadowCount: sharing.shadowCount,
        imageID: id, epoch: epoch, entropy: entropy
      ).map { SplitShadow(body: $0.body, digest: $0.digest()) }
    }
  }

  /// Sends every shadow to its slave at once; each answers after fsync.
  private func write(
    _ bodies: [[UInt8]], _ placements: [ShadowPlacement], within context: CallContext
  ) async throws {
    let failures = await withTaskGroup(of: (String, RPCError)?.self) { group in
      for (body, placement) in zip(bodies, placements) {
        group.addTask { await write(body, placement, within: context) }
      }
      var failures: [(String, RPCError)] = []
      for await failure in group {
        if let failure { failures.append(failure) }
      }
      return failures
    }
    guard failures.isEmpty else {
      // The caller's own deadline or cancellation says nothing about the slaves.
      guard context.remaining > .zero, !Task.isCancelled else {
        throw RPCError(.deadlineExceeded, "the deadline passed while shadows were written")
      }
      throw ShadowWriteFailure(failures: failures)
    }
  }

  private func write(
    _ body: [UInt8], _ placement: ShadowPlacement, within context: CallContext
  ) async -> (String, RPCError)? {
    do {
      try await writer.write(
        body, named: placement.name, to: placement.slave,
        CallOptions(within: context, atMost: .seconds(30)))
      return nil
    } catch {
      return (placement.slave, error)
    }
  }

  private func commit(
    _ record: ImageRecord, _ upload: PendingUpload, _ placements: [ShadowPlacement],
    _ sharing: Sharing, bytes: Int
  ) async throws -> PutImageReply {
    guard let (version, key) = keys.current(.threshold), let id = ImageID(upload.imageID) else {
      throw RPCError(.failedPrecondition, "this master holds no threshold key", reason: "NoKey")
    }
    let encrypted = EncryptedThreshold(
      threshold: sharing.threshold, key: key, keyVersion: version, imageID: id,
      epoch: upload.epoch, entropy: entropy)
    var commit = CommitUpload()
    commit.record = record
    commit.epoch = upload.epoch
    commit.encryptedThreshold = encrypted.bytes
    commit.thresholdKeyVersion = version
    commit.scheme = scheme.name
    commit.placements = placements
    let outcome = try await log.propose { [commit] in $0.commitUpload = commit }
    try outcome.check()
    if outcome.existed { return existing() }
    var reply = PutImageReply()
    reply.shadows = UInt32(sharing.shadowCount)
    reply.shadowBytes = UInt64(bytes)
    return reply
  }

  /// Best effort: what fails here, the sweep finds.
  private func giveUp(_ upload: PendingUpload) async {
    var abort = AbortUpload()
    (abort.imageID, abort.epoch) = (upload.imageID, upload.epoch)
    do {
      _ = try await log.propose { [abort] in $0.abortUpload = abort }
    } catch {
      logger.warning("an upload is left to the sweep", metadata: ["reason": "\(error)"])
    }
  }
}

/// Some slaves did not take their shadow; the upload may be tried again on others.
struct ShadowWriteFailure: Error, RPCErrorConvertible {
  let failures: [(slave: String, error: RPCError)]

  init(failures: [(String, RPCError)]) {
    self.failures = failures.map { ($0.0, $0.1) }
  }

  var slaves: [String] { failures.map(\.slave) }

  var rpcError: RPCError {
    let list = failures.map { "\($0.slave): \($0.error.message)" }.joined(separator: "; ")
    return RPCError(.unavailable, "shadows could not be written: \(list)", reason: "SlavesFailed")
  }
}
