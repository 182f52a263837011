import Base

/// When a client makes a call again by itself, and how long it waits before it does.
public struct RetryPolicy: Sendable {
  /// Attempts of one call, hedges included; moving away from an address that cannot be reached, and
  /// looking for the leader, are not counted.
  public var maximumAttempts = 4
  /// Before the second attempt; each later wait is `delayFactor` times as long, with jitter of a fifth.
  public var firstDelayMilliseconds = 50.0
  public var delayFactor = 2.0
  public var maximumDelayMilliseconds = 2000.0
  /// How often one call lets itself be sent on to the leader.
  public var maximumRedirects = 3
  /// How often one call waits for a leader to be elected.
  public var maximumLeaderWaits = 8
  /// Whether a call that reaches no address at all waits as one does for which no leader is known: where the one that led
  /// is gone, the others will elect another.
  public var waitsForLostLeader = false
  /// Every failure takes a token, every success gives `budgetRatio` of one back, and nothing is made again
  /// unless more than half of these are there: servers in trouble are not asked several times as much.
  public var budgetTokens = 20.0
  public var budgetRatio = 0.1

  public init() {}

  /// Nanoseconds before the retry with this number (0 is the first); `unit` is uniform in 0..<1.
  func delayNanoseconds(beforeRetry number: Int, unit: Double) -> UInt64 {
    var delay = firstDelayMilliseconds
    for _ in 0..<min(number, 32) where delay < maximumDelayMilliseconds { delay *= delayFactor }
    // Jitter, so that the calls that one failure ended do not all come back together.
    return UInt64(min(delay, maximumDelayMilliseconds) * (0.8 + 0.4 * unit) * 1_000_000)
  }
}

/// When an address is left out for a while.
public struct HealthPolicy: Sendable {
  /// Failed calls in a row after which it is left out; one that cannot be reached is so at once.
  public var maximumFailures = 5
  /// How long it is left out the first time, before it is probed; twice as long each further time.
  public var firstEjectionMilliseconds = 200.0
  public var maximumEjectionMilliseconds = 10_000.0
  /// How long a probe waits for a connection.
  public var probeTimeout = Duration.seconds(5)

  public init() {}

  func ejectionNanoseconds(number: Int, unit: Double) -> UInt64 {
    var delay = firstEjectionMilliseconds
    for _ in 1..<max(1, min(number, 32)) where delay < maximumEjectionMilliseconds { delay *= 2 }
    return UInt64(min(delay, maximumEjectionMilliseconds) * (0.8 + 0.4 * unit) * 1_000_000)
  }
}

/// A second attempt elsewhere while the first is slow; the first good answer wins and the other is cancelled.
public struct Hedging: Sendable {
  /// How long one attempt is waited for before the next is made.
  public var delay: Duration
  /// All attempts of the call together, the first included.
  public var attempts: Int

  public init(after delay: Duration, attempts: Int = 2) {
    self.delay = delay
    self.attempts = attempts
  }
}

/// A token bucket, as gRPC's retry throttling (gRFC A6), that a client's retries and hedges share.
///
/// So calls that all fail are made again at most `capacity / 2 + ratio * successes` times, however many they are.
struct RetryBudget: Equatable {
  let capacity: Double
  let ratio: Double
  private(set) var tokens: Double

  init(capacity: Double, ratio: Double) {
    self.capacity = capacity
    self.ratio = ratio
    tokens = capacity
  }

  var allowsMore: Bool { tokens > capacity / 2 }

  mutating func succeeded() { tokens = min(capacity, tokens + ratio) }

  /// A call failed, or a hedge doubles one: servers that are all slow fail nothing, and would otherwise get
  /// every call twice.
  mutating func spend() { tokens = max(0, tokens - 1) }
}

/// Reproducible dice for spreading load; never for secrets.
struct Dice {
  private var generator: SplitMix64

  init(seed: UInt64) { generator = SplitMix64(seed: seed) }

  /// 0 ..< 1
  mutating func unit() -> Double { Double(generator.next() >> 11) * 0x1p-53 }

  /// 0 ..< count, with a bias that no load notices.
  mutating func below(_ count: Int) -> Int {
    Int(generator.next().multipliedFullWidth(by: UInt64(count)).high)
  }
}

/// What a client has done so far.
public struct ClientCounters: Sendable, Equatable {
  /// Attempts begun, first ones included; an address that could not be reached counts.
  public var attempts: UInt64 = 0
  /// Attempts made again after a failure and a wait.
  public var retries: UInt64 = 0
  /// Attempts moved at once to another address, because the first had begun nothing.
  public var failovers: UInt64 = 0
  /// Second attempts beside a slow one.
  public var hedges: UInt64 = 0
  /// Retries and hedges that were not made for want of budget.
  public var budgetRefusals: UInt64 = 0
  /// Attempts sent on to the leader.
  public var redirects: UInt64 = 0
  /// Waits for a leader to be elected.
  public var leaderWaits: UInt64 = 0
  /// Times that an address was left out.
  public var ejections: UInt64 = 0
  /// Connections made to see whether an address is back.
  public var probes: UInt64 = 0

  public init() {}
}
