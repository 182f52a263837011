import Shadows

/// What an operator sets for a master.
public struct MasterConfiguration: Sendable {
  public var slaves: [SlaveAddress]
  /// s - r at least: how many lost slaves every image survives.
  public var minimumTolerance = 1
  public var maximumThreshold = BaiScheme.maximumThreshold
  /// How new images are split (``ShadowSchemes/names``); each image's record says how it was.
  public var shadowScheme = "bai"
  /// Let an image have a shadow on every live slave; otherwise one is always left out.
  public var allowAllSlaves = false
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

  public init(slaves: [SlaveAddress]) { self.slaves = slaves }
}
