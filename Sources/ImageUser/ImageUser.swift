import Base
import ImagePipeline
import Logging
import Messages
import RPC

/// The medical image user, MU: finds images like the one that a clinician shows, and opens them.
///
/// No opened image touches a disk here.
public final class ImageUser: Sendable {
  let model: HashModel
  let keys: KeySource
  let master: ServiceClient
  let reads: MasterReads
  let limits: ImageUserLimits
  let logger: Logger
  /// Queries being decoded and hashed.
  let computing: AdmissionGate
  /// Images in memory, of all calls.
  let imagesInMemory: AdmissionGate
  private let status: NodeStatus
  private let listing: ImageListing

  public init(
    identity: Identity, certificateExpiresAtMilliseconds: @escaping @Sendable () -> UInt64,
    model: HashModel, keys: KeySource, master: ServiceClient, anyMaster: ServiceClient? = nil,
    limits: ImageUserLimits = ImageUserLimits(),
    logger: Logger
  ) {
    self.model = model
    self.keys = keys
    self.master = master
    reads = MasterReads(leader: master, any: anyMaster)
    self.limits = limits
    self.logger = logger
    computing = AdmissionGate(
      name: "queries being hashed", places: limits.workers, bytes: limits.memoryBytes,
      queueLimit: limits.queueLimit)
    imagesInMemory = AdmissionGate(
      name: "images in memory", places: limits.queueLimit, bytes: limits.memoryBytes,
      queueLimit: limits.queueLimit)
    status = NodeStatus(
      identity: identity, certificateExpiresAtMilliseconds: certificateExpiresAtMilliseconds,
      modelVersion: model.version, keys: keys, master: master)
    listing = ImageListing(masters: reads, keys: keys)
  }

  /// Images in memory and the bytes that they hold.
  public var load: (images: Int, bytes: Int, waiting: Int) {
    let load = imagesInMemory.load
    return (load.places, load.bytes, load.waiting)
  }

  public func register(in router: inout Router) {
    router.streaming(ImageUserMethods.queryImages) { [self] in try await queryImages($0) }
    router.streaming(ImageUserMethods.getImage) { [self] in try await getImage($0) }
    router.unary(ImageUserMethods.listImages) { [self] request, context in
      try await listing.page(request, owner: nil, context)
    }
    router.unary(ImageUserMethods.masterStatus) { [self] _, context in
      try await Retry.briefly.run(within: context) {
        try await master.unary(
          MasterCloudMethods.clusterStatus, Empty(), CallOptions(within: context))
      }
    }
    router.unary(ImageUserMethods.userStatus) { [self] _, context in
      await status.reply(context)
    }
  }

  /// The keys with which the record opens, asked for again where it is newer than they are.
  func opener(for record: ImageRecord) async -> ImageOpener {
    ImageOpener(keys: await keys.ring(holding: .image, version: record.imageKeyVersion))
  }

  /// Leave to hold an encrypted image and its original.
  func enterMemory(sealedBytes: UInt64) async throws -> AdmissionPass {
    try await imagesInMemory.enter(sizeBytes: 2 * Int(sealedBytes))
  }

  var maximumSealedBytes: Int {
    ImageOpener.maximumSealedBytes(maximumImageBytes: limits.maximumImageBytes)
  }
}
