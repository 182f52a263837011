import Base
import Messages
import RPC

/// How long calls may take: small ones, and those that carry a file.
public struct CallTimeouts: Sendable, Equatable {
  /// What the person asked for, for every call.
  public let chosenSeconds: Int?

  static let smallSeconds = 30
  static let transferBaseSeconds = 120
  /// The slowest rate, in bytes each second, at which a transfer is still worth waiting for.
  static let slowestBytesPerSecond: UInt64 = 128 << 10
  static let longestSeconds = 3600

  public init(chosenSeconds: Int? = nil) { self.chosenSeconds = chosenSeconds }

  public var small: Duration { .seconds(chosenSeconds ?? Self.smallSeconds) }

  public func transfer(sizeBytes: UInt64) -> Duration {
    if let chosenSeconds { return .seconds(chosenSeconds) }
    let extra = min(sizeBytes / Self.slowestBytesPerSecond, UInt64(Self.longestSeconds))
    return .seconds(min(Self.longestSeconds, Self.transferBaseSeconds + Int(extra)))
  }
}

extension ClientCall {
  /// Sends a file as bulk, exactly `sizeBytes` of it, and ends the request.
  ///
  /// - Throws: `FileError`, `RPCError`, and a `CommandFailure` where the file's length has changed.
  func sendFile(
    _ path: String, sizeBytes: UInt64, progress: @Sendable (Int) -> Void = { _ in }
  ) async throws {
    let reader = try FileReader(path)
    var sent: UInt64 = 0
    while true {
      try Task.checkCancellation()
      let piece = try reader.next(Files.pieceBytes)
      if piece.isEmpty { break }
      sent += UInt64(piece.count)
      guard sent <= sizeBytes else { break }
      try await send(bulk: piece)
      progress(piece.count)
    }
    guard sent == sizeBytes else {
      cancel()
      throw CommandFailure(
        .badInput, "\(path) changed while it was being sent", advice: "run the command again",
        code: "FILE_CHANGED")
    }
    try await finishSending()
  }

  /// Receives `count` bytes piece by piece, so that no file need fit into memory.
  func receiveFile(count: UInt64, _ take: ([UInt8]) throws -> Void) async throws {
    var received: UInt64 = 0
    while received < count {
      guard let part = try await receive(), case .bulk(let piece) = part else {
        throw RPCError(.internalError, "\(received) bytes came, \(count) were announced")
      }
      received += UInt64(piece.count)
      guard received <= count else {
        throw RPCError(.internalError, "more bytes came than the \(count) announced")
      }
      try take(piece)
    }
  }
}

/// The bytes that came are not those that the owner stored.
func checkDigest(
  _ digest: [UInt8], of tags: ImageTags, imageID: [UInt8]
) throws(CommandFailure) {
  // Tags that could not be opened carry no digest; the seal of the image itself was checked.
  guard !tags.fileDigest.isEmpty else { return }
  guard digest == tags.fileDigest else {
    throw CommandFailure(
      .inputOutput, "image \(imageID.hex): SHA-256 is \(digest.hex), the owner's was "
        + "\(tags.fileDigest.hex)",
      advice: "the image was altered on its way: look at the daemons' logs", code: "DIGEST_MISMATCH")
  }
}
