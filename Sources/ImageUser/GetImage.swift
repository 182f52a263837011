import Base
import ImagePipeline
import Messages
import RPC

extension ImageUser {
  private struct Fetched: Sendable {
    let record: ImageRecord
    let call: ClientCall<FetchImageRequest, FetchImageHeader>
  }

  func getImage(_ call: ServerCall<GetImageRequest, GetImageHeader>) async throws {
    let request = try await call.receiveMessage()
    guard let imageID = ImageID(request.imageID) else {
      throw RPCError(.invalidArgument, "an image id has 16 bytes, not \(request.imageID.count)")
    }
    let fetched = try await fetch(imageID, request.maximumAgeMilliseconds, call.context)
    let opener = await opener(for: fetched.record)
    let record = try opener.open(fetched.record)
    guard record.sealedBytes <= UInt64(maximumSealedBytes) else {
      throw PipelineError.imageTooLarge(
        sizeBytes: record.sealedBytes, maximumBytes: maximumSealedBytes)
    }
    let pass = try await enterMemory(sealedBytes: record.sealedBytes)
    defer { pass.leave() }
    let sealed = try await fetched.call.receiveBulk(
      count: record.sealedBytes, maximum: maximumSealedBytes)
    let file = try await offload { try opener.file(from: sealed, of: record) }
    var header = GetImageHeader()
    header.imageID = imageID.bytes
    header.owner = record.owner
    header.tags = record.tags
    header.fileBytes = UInt64(file.count)
    try await call.send(header)
    try await call.send(inPieces: file)
  }

  private func fetch(
    _ imageID: ImageID, _ maximumAgeMilliseconds: UInt64, _ context: CallContext
  ) async throws -> Fetched {
    try await reads.ask(maximumAgeMilliseconds: maximumAgeMilliseconds, within: context) { master in
      let call = try await master.open(
        MasterCloudMethods.fetchImage, CallOptions(within: context))
      var request = FetchImageRequest()
      request.imageID = imageID.bytes
      request.maximumAgeMilliseconds = maximumAgeMilliseconds
      try await call.sendLast(request)
      guard let record = try await call.receiveMessage()?.record else {
        throw RPCError(.internalError, "the master sent no record of \(imageID)")
      }
      guard record.imageID == imageID.bytes else {
        throw PipelineError.foreignRecord("asked for \(imageID), got \(record.imageID.hex)")
      }
      return Fetched(record: record, call: call)
    }
  }
}
