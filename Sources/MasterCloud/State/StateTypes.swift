import Messages
import RPC

/// A stored image as the master knows it.
struct StoredImage: Sendable, Equatable {
  var record: ImageRecord
  var epoch: UInt32
  var encryptedThreshold: [UInt8]
  var scheme: String
  var placements: [ShadowPlacement]

  var places: [ImageSharing.Place] {
    placements.map { ImageSharing.Place(index: $0.index, slave: $0.slave, name: $0.name) }
  }

  /// SHA-256 of each shadow, by its index.
  var digests: [Int: [UInt8]] {
    Dictionary(uniqueKeysWithValues: placements.map { (Int($0.index), $0.digest) })
  }
}

struct PendingUpload: Hashable, Sendable {
  var imageID: [UInt8]
  var epoch: UInt32
}

struct StateCounts: Sendable, Equatable {
  var images: UInt64 = 0
  var imageBytes: UInt64 = 0
  /// Also those of uploads under way.
  var shadows: UInt64 = 0
  var pendingUploads: UInt64 = 0
  /// Shadows to be removed from slaves that are not lost.
  var pendingDeletions: UInt64 = 0
}

/// A shadow that is being made at another place.
struct PendingMove: Hashable, Sendable {
  var imageID: [UInt8]
  var epoch: UInt32
  var index: UInt32
  var slave: String
  var name: [UInt8]
}

/// A shadow of a stored image, as a slave has it.
struct PlacedShadow: Hashable, Sendable {
  var imageID: [UInt8]
  var epoch: UInt32
  var index: UInt32
  var name: [UInt8]
}

/// What has to be known of an image to judge how well it is kept.
struct ImageSharing: Sendable {
  struct Place: Hashable, Sendable {
    var index: UInt32
    var slave: String
    var name: [UInt8]
  }

  var imageID: [UInt8]
  var epoch: UInt32
  var owner: String
  var encryptedThreshold: [UInt8]
  var scheme: String
  var sealedBytes: UInt64
  /// In order of their indices.
  var places: [Place]
}

/// What an operator decided about a slave; without a decision it is active.
struct SlaveDecision: Hashable, Sendable {
  var condition = SlaveCondition.active
  /// Empty: anywhere.
  var replacement = ""
}

extension LogOutcome {
  init(_ code: StatusCode, _ message: String, reason: String = "") {
    self.init()
    status = code.rawValue
    self.message = message
    self.reason = reason
  }

  /// The refusal as an error; nothing where the command was applied.
  func check() throws(RPCError) {
    guard status != 0 else { return }
    throw RPCError(StatusCode(rawValue: status) ?? .unknown, message, reason: reason)
  }
}
