import Raft
import Shadows

/// What an operator sets for a master.
public struct MasterConfiguration: Sendable {
  public var slaves: [SlaveAddress]
  /// s - r at least: how many lost slaves every image survives.
  public var minimumTolerance = 1
  public var maximumThreshold = BaiScheme.maximumThreshold
  /// How new images are split (``ShadowSchemes/names``); each image's record says how it was.
  public var shadowScheme = "bai"
  /// Live slaves that get no shadow of a new image: where lost ones are made anew.
  public var spareSlaves = 1
  /// What may fail as a whole without any new image being lost.
  public var surviveLossOf = FailureDomain.host
  /// (r, s) for every image instead of a random draw for each.
  public var fixedSharing: Sharing?
  /// How long a shadow may keep a reader waiting before another slave is asked too.
  public var hedgeAfter = Duration.milliseconds(100)
  /// The largest original; what arrives may be larger by the container around it.
  public var maximumImageBytes = 256 << 20
  var maximumSealedBytes: Int { maximumImageBytes + 4096 }
  /// Bytes of encrypted images held in memory by uploads at once; more are told to come back.
  public var maximumUploadBytesInMemory = 1 << 30
  /// Images rebuilt ahead of a reader of search results.
  public var fetchesAhead = 3
  public var care = CareConfiguration()
  /// All masters and the witness, this one among them; none: this master is alone.
  public var members: [Member] = []
  public var consensus = RaftConfiguration()

  public init(slaves: [SlaveAddress]) { self.slaves = slaves }
}

/// How a master keeps images at their full number of shadows.
public struct CareConfiguration: Sendable {
  /// False: nothing is made anew or moved, also nothing that drains.
  public var isOn = true
  /// A slave that is silent for longer is no longer counted on: its shadows are rebuilt elsewhere.
  public var repairAfter = Duration.seconds(600)
  /// Bytes of shadows written a second by repair, draining and rebalancing; 0 for no limit.
  public var bytesPerSecond = 64 << 20
  /// Images cared for at once.
  public var parallel = 2
  /// Part of the time (0.01 to 1) in which care works while owners and users are served.
  public var shareWhenBusy = 0.25
  /// Until what failed, or found no slave, is tried again.
  public var retryAfter = Duration.seconds(10)
  /// Between two comparisons of what a slave holds with what it should.
  public var auditInterval = Duration.seconds(24 * 3600)
  /// Shadows move from fuller slaves to emptier ones once the parts of their room that are used differ from
  /// the mean by more than this (0 to 1); 0 turns it off.
  public var balanceThreshold = 0.1

  public init() {}
}
