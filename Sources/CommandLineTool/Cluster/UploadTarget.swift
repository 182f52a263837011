import Base
import Messages
import RPC

/// What an upload needs of an image owner.
public protocol UploadTarget: Sendable {
  /// For each SHA-256 of a file the id under which it is stored, or nil.
  func check(_ digests: [[UInt8]]) async throws -> [[UInt8]?]
  /// Returns once the file is durable. `progress` is told of every piece sent.
  func store(
    _ item: UploadItem, tags: [TagEntry], progress: @escaping @Sendable (Int) -> Void
  ) async throws -> StoreImageReply
}

/// The image owner's daemon.
public struct ImageOwnerTarget: UploadTarget {
  let channel: Channel
  let timeouts: CallTimeouts

  public init(channel: Channel, timeouts: CallTimeouts) {
    self.channel = channel
    self.timeouts = timeouts
  }

  public func check(_ digests: [[UInt8]]) async throws -> [[UInt8]?] {
    var request = CheckImagesRequest()
    request.fileDigests = digests
    let reply = try await channel.unary(
      ImageOwnerMethods.checkImages, request, CallOptions(timeout: timeouts.small))
    guard reply.stored.count == digests.count, reply.imageIDs.count == digests.count else {
      throw RPCError(
        .internalError, "\(digests.count) files asked about, \(reply.stored.count) answers")
    }
    return zip(reply.stored, reply.imageIDs).map { $0 ? $1 : nil }
  }

  public func store(
    _ item: UploadItem, tags: [TagEntry], progress: @escaping @Sendable (Int) -> Void
  ) async throws -> StoreImageReply {
    let call = try await channel.open(
      ImageOwnerMethods.storeImage,
      CallOptions(timeout: timeouts.transfer(sizeBytes: item.sizeBytes)))
    var header = StoreImageHeader()
    header.fileName = Files.lastComponent(of: item.path)
    header.fileBytes = item.sizeBytes
    header.tags = tags
    try await call.send(header)
    try await call.sendFile(item.path, sizeBytes: item.sizeBytes, progress: progress)
    return try await call.receiveOnly()
  }
}
