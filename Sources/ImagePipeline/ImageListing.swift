import Base
import Messages
import RPC

/// Pages of stored images with their tags opened, for owners and users alike.
public struct ImageListing: Sendable {
  private let masters: MasterReads
  private let keys: KeySource

  public static let maximumLimit: UInt32 = 1000
  /// Answers stay well below one frame, whatever the tags hold.
  private static let maximumReplyBytes = 512 << 10

  public init(masters: MasterReads, keys: KeySource) {
    self.masters = masters
    self.keys = keys
  }

  /// - Parameter owner: only this owner's images; nil: everybody's.
  public func page(
    _ request: ListOwnImagesRequest, owner: String?, _ context: CallContext
  ) async throws -> ListOwnImagesReply {
    guard request.after.isEmpty || request.after.count == ImageID.byteCount else {
      throw RPCError(.invalidArgument, "an image id has 16 bytes, not \(request.after.count)")
    }
    let limit = request.limit == 0 ? Self.maximumLimit : min(request.limit, Self.maximumLimit)
    var reply = ListOwnImagesReply()
    var replyBytes = 0
    var question = ListImagesRequest()
    question.after = request.after
    question.maximumAgeMilliseconds = request.maximumAgeMilliseconds
    repeat {
      question.limit = limit
      let records = try await ask(question, context)
      for record in records.records where owner == nil || record.owner == owner {
        let image = await opened(record)
        let size = image.encoded().count
        guard reply.images.count < Int(limit), replyBytes + size <= Self.maximumReplyBytes else {
          reply.more = true
          return reply
        }
        replyBytes += size
        reply.images.append(image)
      }
      guard records.more, let last = records.records.last else { return reply }
      guard question.after.lexicographicallyPrecedes(last.imageID) else {
        throw RPCError(.internalError, "the master's list does not advance")
      }
      question.after = last.imageID
    } while true
  }

  private func ask(
    _ question: ListImagesRequest, _ context: CallContext
  ) async throws -> ListImagesReply {
    try await masters.ask(
      maximumAgeMilliseconds: question.maximumAgeMilliseconds, within: context
    ) {
      try await $0.unary(MasterCloudMethods.listImages, question, CallOptions(within: context))
    }
  }

  /// One unreadable record must not hide the others.
  private func opened(_ record: ImageRecord) async -> OwnImage {
    var image = OwnImage()
    image.imageID = record.imageID
    image.owner = record.owner
    image.sealedBytes = record.sealedBytes
    image.storedAtMilliseconds = record.storedAtMilliseconds
    let ring = await keys.ring(holding: .image, version: record.imageKeyVersion)
    do {
      image.tags = try ImageOpener(keys: ring).open(record).tags
    } catch {
      image.problem = "\(error)"
    }
    return image
  }
}
