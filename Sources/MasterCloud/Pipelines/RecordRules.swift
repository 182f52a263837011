import Base
import Messages
import RPC

/// Bounds on what an owner may put into a record: the log, the index and every list carry it for years.
enum RecordRules {
  static let maximumTagsBytes = 64 << 10
  static let maximumWrappedKeyBytes = 256
  static let maximumCodes = 8

  static func imageID(_ bytes: [UInt8]) throws(RPCError) -> ImageID {
    guard let id = ImageID(bytes) else {
      throw RPCError(.invalidArgument, "an image id has 16 bytes, not \(bytes.count)")
    }
    return id
  }

  static func check(
    _ record: ImageRecord, _ configuration: MasterConfiguration
  ) throws(RPCError) -> ImageID {
    let id = try imageID(record.imageID)
    guard (1...maximumCodes).contains(record.codes.count) else {
      throw RPCError(.invalidArgument, "a record has 1 to \(maximumCodes) codes")
    }
    for code in record.codes { try check(code) }
    guard (1...maximumWrappedKeyBytes).contains(record.wrappedDataKey.count) else {
      throw RPCError(.invalidArgument, "a wrapped key of \(record.wrappedDataKey.count) bytes")
    }
    guard record.sealedTags.count <= maximumTagsBytes else {
      throw RPCError(.invalidArgument, "tags of \(record.sealedTags.count) bytes")
    }
    guard record.sealedDigest.count == 32 else {
      throw RPCError(.invalidArgument, "a digest of \(record.sealedDigest.count) bytes")
    }
    guard record.sealedBytes > 0 else { throw RPCError(.invalidArgument, "an empty image") }
    guard record.sealedBytes <= UInt64(configuration.maximumSealedBytes) else {
      throw RPCError(
        .resourceExhausted,
        "an image of \(record.sealedBytes) bytes, at most \(configuration.maximumImageBytes)",
        reason: "ImageTooLarge")
    }
    return id
  }

  static func check(_ code: MaskedCode) throws(RPCError) {
    guard [8, 16, 32, 64].contains(code.bits) else {
      throw RPCError(.invalidArgument, "codes have 8, 16, 32 or 64 bits, not \(code.bits)")
    }
    guard code.bits == 64 || code.code >> UInt64(code.bits) == 0 else {
      throw RPCError(.invalidArgument, "a code longer than its \(code.bits) bits")
    }
    guard code.modelVersion.utf8.count <= 64 else {
      throw RPCError(.invalidArgument, "a model version of \(code.modelVersion.utf8.count) bytes")
    }
  }
}
