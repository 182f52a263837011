import Base
import ImagePipeline
import Logging
import Messages
import RPC

/// The medical image owner, MO: files come in from this hospital, sealed images go to the master.
public final class ImageOwner: Sendable {
  let identity: Identity
  let model: HashModel
  let keys: KeySource
  let master: ServiceClient
  let limits: ImageOwnerLimits
  let entropy: any Entropy
  let logger: Logger
  /// Everything between the first byte of a file and the master's answer.
  let imagesInWork: AdmissionGate
  /// Decoding, hashing and encrypting.
  let computing: AdmissionGate
  /// Names this process to the masters.
  private let requests: [UInt8]
  private let nextRequest = Locked<UInt64>(1)
  private let status: NodeStatus
  private let listing: ImageListing

  static let idsPerQuestion = 1000

  public init(
    identity: Identity, certificateExpiresAtMilliseconds: @escaping @Sendable () -> UInt64,
    model: HashModel, keys: KeySource, master: ServiceClient, anyMaster: ServiceClient? = nil,
    limits: ImageOwnerLimits = ImageOwnerLimits(),
    entropy: any Entropy = SystemEntropy(), logger: Logger
  ) {
    self.identity = identity
    self.model = model
    self.keys = keys
    self.master = master
    self.limits = limits
    self.entropy = entropy
    self.logger = logger
    requests = entropy.bytes(16)
    imagesInWork = AdmissionGate(
      name: "images in work", places: limits.imagesInWork, bytes: limits.memoryBytes,
      queueLimit: limits.queueLimit)
    // Who waits here has a place above already: the queue is bounded by that.
    computing = AdmissionGate(
      name: "images being encrypted", places: limits.workers, bytes: limits.memoryBytes,
      queueLimit: limits.imagesInWork)
    status = NodeStatus(
      identity: identity, certificateExpiresAtMilliseconds: certificateExpiresAtMilliseconds,
      modelVersion: model.version, keys: keys, master: master)
    listing = ImageListing(masters: MasterReads(leader: master, any: anyMaster), keys: keys)
  }

  /// Uploads under way and the bytes that they hold.
  public var load: (images: Int, bytes: Int, waiting: Int) {
    let load = imagesInWork.load
    return (load.places, load.bytes, load.waiting)
  }

  public func register(in router: inout Router) {
    router.streaming(ImageOwnerMethods.storeImage) { [self] in try await storeImage($0) }
    router.unary(ImageOwnerMethods.checkImages) { [self] in try await checkImages($0, $1) }
    router.unary(ImageOwnerMethods.removeImage) { [self] in try await removeImage($0, $1) }
    router.unary(ImageOwnerMethods.listOwnImages) { [self] request, context in
      try await listing.page(request, owner: identity.node, context)
    }
    router.unary(ImageOwnerMethods.ownerStatus) { [self] _, context in
      await status.reply(context)
    }
  }

  private func checkImages(
    _ request: CheckImagesRequest, _ context: CallContext
  ) async throws -> CheckImagesReply {
    for digest in request.fileDigests where digest.count != 32 {
      throw RPCError(.invalidArgument, "a file digest has 32 bytes, not \(digest.count)")
    }
    let naming = try ImageNaming(keys: keys.ring)
    var reply = CheckImagesReply()
    reply.imageIDs = request.fileDigests.map {
      naming.imageID(owner: identity.node, fileDigest: $0).bytes
    }
    var start = 0
    while start < reply.imageIDs.count {
      let end = min(start + Self.idsPerQuestion, reply.imageIDs.count)
      let question = Array(reply.imageIDs[start..<end])
      reply.stored += try await areStored(question, retrying: .briefly, context)
      start = end
    }
    return reply
  }

  func areStored(
    _ imageIDs: [[UInt8]], retrying retry: Retry, _ context: CallContext
  ) async throws -> [Bool] {
    var question = HasImagesRequest()
    question.imageIDs = imageIDs
    let reply = try await retry.run(within: context) { [question] in
      try await master.unary(
        MasterCloudMethods.hasImages, question, CallOptions(within: context))
    }
    guard reply.stored.count == imageIDs.count else {
      throw RPCError(
        .internalError,
        "the master answered for \(reply.stored.count) images, asked for \(imageIDs.count)")
    }
    return reply.stored
  }

  private func removeImage(
    _ request: RemoveImageRequest, _ context: CallContext
  ) async throws -> RemoveImageReply {
    guard request.imageID.count == ImageID.byteCount else {
      throw RPCError(.invalidArgument, "an image id has 16 bytes, not \(request.imageID.count)")
    }
    var command = DeleteImageRequest()
    command.imageID = request.imageID
    // Whether it existed is known once: a repetition at the next leader must be answered as the first attempt was.
    command.client = requests
    command.sequence = nextRequest.withLock { number in
      defer { number += 1 }
      return number
    }
    let answer = try await Retry.untilDeadline.run(within: context) { [command] in
      try await master.unary(
        MasterCloudMethods.deleteImage, command, CallOptions(within: context))
    }
    var reply = RemoveImageReply()
    reply.existed = answer.existed
    return reply
  }
}
