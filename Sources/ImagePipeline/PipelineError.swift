import Imaging
import Messages
import RPC

/// Why a file does not become a stored image, or a stored image does not become a file again.
public enum PipelineError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The file is no picture that can be decoded; nothing of it was stored.
  case undecodable(ImageError)
  /// More bytes than this daemon takes, for a file or for its encrypted form.
  case imageTooLarge(sizeBytes: UInt64, maximumBytes: Int)
  /// A file name or a tag outside the bounds of ``TagLimits``.
  case unusableTags(String)
  /// This node holds no key of that kind, or not the version that is needed.
  case keyMissing(kind: KeyKind, version: UInt32)
  /// A seal does not fit: altered bytes, or this node's K_QIE is not the one that wrapped them.
  /// AES-GCM cannot tell the two apart, and both mean that the image cannot be had from this copy.
  case sealBroken(String)
  /// The masters' record of the image is not one that an owner made.
  case malformedRecord(String)
  /// The record or image belongs to another owner or id than the masters say.
  case foreignRecord(String)
  /// The opened file is not the one whose digest its owner sealed.
  case digestMismatch

  public var description: String {
    switch self {
    case .undecodable(let error): "this is not an image that can be stored or searched: \(error)"
    case .imageTooLarge(let size, let maximum):
      "the image has \(size) bytes, at most \(maximum) are taken"
    case .unusableTags(let why): why
    case .keyMissing(let kind, 0): "this node holds no \(Self.name(of: kind))"
    case .keyMissing(let kind, let version):
      "this node does not hold version \(version) of \(Self.name(of: kind))"
    case .sealBroken(let what):
      "the seal of \(what) does not fit: altered data, or this node's K_QIE is not the one that "
        + "wrapped it"
    case .malformedRecord(let why): "the image's record is malformed: \(why)"
    case .foreignRecord(let why): "the master answered with another image: \(why)"
    case .digestMismatch: "the opened file is not the one that its owner stored"
    }
  }

  private static func name(of kind: KeyKind) -> String {
    switch kind {
    case .image: "K_QIE"
    case .index: "K_IDX"
    default: "key of kind \(kind.rawValue)"
    }
  }
}

extension PipelineError: RPCErrorConvertible {
  public var rpcError: RPCError {
    switch self {
    case .undecodable(.outOfMemory):
      RPCError(.resourceExhausted, description, reason: "OutOfMemory")
    case .undecodable: RPCError(.invalidArgument, description, reason: "UndecodableImage")
    case .imageTooLarge: RPCError(.resourceExhausted, description, reason: "ImageTooLarge")
    case .unusableTags: RPCError(.invalidArgument, description, reason: "UnusableTags")
    case .keyMissing: RPCError(.failedPrecondition, description, reason: "KeyMissing")
    case .sealBroken: RPCError(.dataLoss, description, reason: "SealBroken")
    case .malformedRecord: RPCError(.dataLoss, description, reason: "MalformedRecord")
    case .foreignRecord: RPCError(.dataLoss, description, reason: "ForeignRecord")
    case .digestMismatch: RPCError(.dataLoss, description, reason: "DigestMismatch")
    }
  }
}
