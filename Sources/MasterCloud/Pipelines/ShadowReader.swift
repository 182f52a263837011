import Base
import Logging
import Messages
import RPC
import Shadows

/// Reads shadows from slaves; none is given on whose digest differs from the recorded one.
struct ShadowReader: Sendable {
  let slaves: SlaveDirectory
  let state: ClusterState
  let bad: BadShadows
  /// How long a shadow may keep a reader waiting before another slave is asked too.
  let hedgeAfter: Duration
  let logger: Logger

  enum Arrival: Sendable {
    case shadow(Shadow)
    case failed(ShadowPlacement, RPCError)
    case corrupt(ShadowPlacement)
    /// Nothing new for a while: ask one more.
    case slow
  }

  /// r verified shadows: r slaves are asked at once, one more whenever one fails, lies or is slow.
  ///
  /// - Parameters:
  ///   - excluded: indices that nobody is asked for.
  ///   - notes: what is found corrupt is held against its slave.
  func collect(
    _ sharing: OpenedSharing, of image: StoredImage, excluding excluded: Set<UInt32> = [],
    notes: Bool = true, within context: CallContext
  ) async throws -> [Shadow] {
    let order = order(image.placements.filter { !excluded.contains($0.index) })
    let threshold = sharing.threshold
    return try await withThrowingTaskGroup(of: Arrival.self) { group in
      var remaining = order[...]
      var shadows: [Shadow] = []
      var problems: [String] = []
      var corrupt = 0
      var running = 0
      func askNext() {
        guard let placement = remaining.popFirst() else { return }
        running += 1
        group.addTask { await read(placement, of: image, sharing, notes: notes, within: context) }
      }
      func watch() {
        let delay = hedgeAfter
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
          "image \(sharing.id): \(shadows.count) good shadows, \(threshold) are needed"
            + " (\(problems.sorted().joined(separator: "; ")))",
          reason: "NotEnoughShadows")
      }
      return shadows
    }
  }

  /// Those first that are likely to answer and to be right; among equals at random, so that reads spread.
  private func order(_ placements: [ShadowPlacement]) -> [ShadowPlacement] {
    func rank(_ placement: ShadowPlacement) -> Int {
      if !slaves.isReachable(placement.slave) { return 2 }
      return bad.contains(placement.name, on: placement.slave) ? 1 : 0
    }
    let ranked = placements.shuffled().map { (rank: rank($0), placement: $0) }
    return (0...2).flatMap { rank in ranked.filter { $0.rank == rank }.map(\.placement) }
  }

  /// One shadow; a corrupt one is noted, so that care mends it.
  func read(
    _ placement: ShadowPlacement, of image: StoredImage, _ sharing: OpenedSharing,
    notes: Bool = true, within context: CallContext
  ) async -> Arrival {
    let arrival = await fetch(placement, of: image, sharing, within: context)
    switch arrival {
    case .corrupt: if notes { await note(placement, sharing.id) }
    case .shadow: bad.remove(placement.name, on: placement.slave)
    case .failed, .slow: break
    }
    return arrival
  }

  private func fetch(
    _ placement: ShadowPlacement, of image: StoredImage, _ sharing: OpenedSharing,
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
        count: header.bodyBytes, maximum: Self.maximumBytes(image))
      return await verify(body, placement, image, sharing)
    } catch {
      // The slave's own checksum failed: it knows that it lost this one.
      if error.code == .dataLoss || error.code == .notFound { return .corrupt(placement) }
      if error.code == .unavailable { slaves.reportFailure(of: placement.slave, error) }
      return .failed(placement, error)
    }
  }

  /// A shadow is at most about the secret with the overhead of the smallest r; a slave may claim any length.
  private static func maximumBytes(_ image: StoredImage) -> Int {
    2 * Int(clamping: image.record.sealedBytes) + 4096
  }

  private func verify(
    _ body: [UInt8], _ placement: ShadowPlacement, _ image: StoredImage, _ sharing: OpenedSharing
  ) async -> Arrival {
    let verified: Shadow?? = try? await offload { () -> Shadow? in
      let header = try ShadowHeader(
        format: sharing.scheme.format, index: Int(placement.index), epoch: image.epoch,
        imageID: sharing.id, secretByteCount: Int(clamping: image.record.sealedBytes))
      let shadow = Shadow(header: header, body: body)
      return constantTimeEqual(shadow.digest(), placement.digest) ? shadow : nil
    }
    // No header, or another digest: both mean that these are not the bytes that were stored.
    guard let shadow = verified.flatMap({ $0 }) else { return .corrupt(placement) }
    return .shadow(shadow)
  }

  /// A shadow came back other than it was stored, unless it has moved or gone meanwhile, which is how that looks from here too.
  private func note(_ placement: ShadowPlacement, _ id: ImageID) async {
    guard (try? await state.shadow(named: placement.name, on: placement.slave)) != nil,
      bad.insert(placement.name, on: placement.slave)
    else { return }
    logger.error(
      "corrupt shadow",
      metadata: [
        "slave": "\(placement.slave)", "image": "\(id)", "shadow": "\(placement.index)",
      ])
  }
}
