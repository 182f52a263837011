import ImagePipeline
import Logging
import Messages
import RPC

extension ImageOwner {
  /// Answers once the master has the image durably; safe to repeat, since the same file gets the same id.
  func storeImage(_ call: ServerCall<StoreImageHeader, StoreImageReply>) async throws {
    let header = try await call.receiveMessage()
    guard header.fileBytes <= UInt64(limits.maximumImageBytes) else {
      throw PipelineError.imageTooLarge(
        sizeBytes: header.fileBytes, maximumBytes: limits.maximumImageBytes)
    }
    let pass = try await imagesInWork.enter(
      sizeBytes: ImageOwnerLimits.memoryBytes(ofFile: Int(header.fileBytes)))
    defer { pass.leave() }
    let bytes = try await call.receiveBulk(
      count: header.fileBytes, maximum: limits.maximumImageBytes)
    let file = try await offload {
      try PlainImage(bytes: bytes, path: header.fileName, tags: header.tags)
    }
    let sealer = ImageSealer(
      owner: identity.node, model: model, keys: keys.ring, entropy: entropy)
    let imageID = try sealer.imageID(fileDigest: file.digest)
    var reply = StoreImageReply()
    reply.imageID = imageID.bytes
    if try await areStored([imageID.bytes], retrying: .untilDeadline, call.context) == [true] {
      reply.existed = true
      try await call.send(reply)
      return
    }
    let sealed = try await sealed(file, by: sealer)
    let answer = try await put(sealed, call.context)
    reply.existed = answer.existed
    reply.sealedBytes = UInt64(sealed.bytes.count)
    reply.shadowBytes = answer.shadowBytes
    reply.tags = sealed.tags
    logger.info(
      "image stored",
      metadata: [
        "image": "\(imageID)", "bytes": "\(file.bytes.count)", "shadows": "\(answer.shadows)",
        "existed": "\(answer.existed)",
      ])
    try await call.send(reply)
  }

  private func sealed(_ file: PlainImage, by sealer: ImageSealer) async throws -> SealedImage {
    let pass = try await computing.enter()
    defer { pass.leave() }
    return try await offload { try sealer.seal(file) }
  }

  /// A master that comes back within the deadline gets the same bytes again.
  private func put(
    _ image: SealedImage, _ context: CallContext
  ) async throws -> PutImageReply {
    try await Retry.untilDeadline.run(within: context) { [master] in
      let call = try await master.open(
        MasterCloudMethods.putImage, CallOptions(within: context))
      var header = PutImageHeader()
      header.record = image.record
      do throws(RPCError) {
        try await call.send(header)
        try await call.send(inPieces: image.bytes)
        try await call.finishSending()
      } catch {
        // A master that has the image answers before it has read it again, which ends the sending
        // with CANCELLED; its answer is what counts.
        guard error.code == .cancelled, !Task.isCancelled else { throw error }
      }
      return try await call.receiveOnly()
    }
  }
}
