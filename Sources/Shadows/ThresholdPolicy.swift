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
      + " (\(policy.spareSlaves) of them spared), a minimum tolerance of"
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
  /// Live slaves without a shadow of the image, SCS_max - s at least: where lost shadows can be made anew.
  public var spareSlaves: Int

  public init(
    maximumThreshold: Int = 8, minimumTolerance: Int = 1, liveSlaveCount: Int,
    spareSlaves: Int = 1
  ) {
    self.maximumThreshold = maximumThreshold
    self.minimumTolerance = minimumTolerance
    self.liveSlaveCount = liveSlaveCount
    self.spareSlaves = spareSlaves
  }

  /// Every (r, s) with 2 <= r < s and s at most the number of live slaves without the spared ones.
  public var allowed: [Sharing] {
    // An index has one byte, so that a larger cluster still has 255 shadows at most.
    let largestCount = min(255, liveSlaveCount - max(0, spareSlaves))
    let largestThreshold = min(maximumThreshold, BaiScheme.maximumThreshold)
    let tolerance = max(1, minimumTolerance)
    guard largestThreshold >= 2, largestCount >= 3, tolerance <= largestCount else { return [] }
    return (2...largestThreshold).flatMap { threshold in
      stride(from: threshold + tolerance, through: largestCount, by: 1).map {
        Sharing(threshold: threshold, shadowCount: $0)
      }
    }
  }

  /// Uniform over those ``allowed`` that the caller can use; throws where there is none.
  public func draw(
    entropy: some Entropy, where isUsable: (Sharing) -> Bool = { _ in true }
  ) throws(NoSharingAllowed) -> Sharing {
    let allowed = self.allowed.filter(isUsable)
    guard !allowed.isEmpty else { throw NoSharingAllowed(policy: self) }
    return allowed[Int(entropy.uniform(below: UInt64(allowed.count)))]
  }
}
