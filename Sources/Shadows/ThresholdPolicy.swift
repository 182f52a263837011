import Base

/// How many shadows an image gets, and how many of them give it back.
public struct Sharing: Hashable, Sendable {
  /// r
  public let threshold: Int
  /// s
  public let shadowCount: Int

  public init(threshold: Int, shadowCount: Int) {
    self.threshold = threshold
    self.shadowCount = shadowCount
  }
}

/// No sharing is allowed with the slaves that are alive.
public struct NoSharingAllowed: Error, Equatable, Sendable, CustomStringConvertible {
  public let policy: ThresholdPolicy

  public init(policy: ThresholdPolicy) { self.policy = policy }

  public var description: String {
    "no threshold is allowed with \(policy.liveSlaveCount) live slaves"
      + " (\(policy.allowAllSlaves ? "all" : "all but one") of them usable), a minimum tolerance of"
      + " \(policy.minimumTolerance) and thresholds of at most \(policy.maximumThreshold)"
  }
}

/// The operator's bounds on (r, s).
public struct ThresholdPolicy: Hashable, Sendable {
  /// Largest r; at most 8, half the order of a block, whatever is asked for.
  public var maximumThreshold: Int
  /// Smallest s - r, the losses that every image survives; at least 1.
  public var minimumTolerance: Int
  /// SCS_max
  public var liveSlaveCount: Int
  /// Whether an image may have a shadow on every live slave, s = SCS_max.
  public var allowAllSlaves: Bool

  public init(
    maximumThreshold: Int = 8, minimumTolerance: Int = 1, liveSlaveCount: Int,
    allowAllSlaves: Bool = false
  ) {
    self.maximumThreshold = maximumThreshold
    self.minimumTolerance = minimumTolerance
    self.liveSlaveCount = liveSlaveCount
    self.allowAllSlaves = allowAllSlaves
  }

  /// Every (r, s) with 2 <= r < s, s below the number of live slaves (or equal, where allowed).
  public var allowed: [Sharing] {
    // An index has one byte, so that a larger cluster still has 255 shadows at most.
    let largestCount = min(255, allowAllSlaves ? liveSlaveCount : liveSlaveCount - 1)
    let largestThreshold = min(maximumThreshold, BaiScheme.maximumThreshold)
    let tolerance = max(1, minimumTolerance)
    guard largestThreshold >= 2, largestCount >= 3, tolerance <= largestCount else { return [] }
    return (2...largestThreshold).flatMap { threshold in
      stride(from: threshold + tolerance, through: largestCount, by: 1).map {
        Sharing(threshold: threshold, shadowCount: $0)
      }
    }
  }

  /// Uniform over ``allowed``; throws where that is empty.
  public func draw(entropy: some Entropy) throws(NoSharingAllowed) -> Sharing {
    let allowed = self.allowed
    guard !allowed.isEmpty else { throw NoSharingAllowed(policy: self) }
    return allowed[Int(entropy.uniform(below: UInt64(allowed.count)))]
  }
}
