import Messages
import RPC

/// Raw bytes cut into pieces, so that a large image is never copied whole for sending.
enum Bulk {
  static let pieceBytes = 256 << 10

  static func send(
    _ bytes: [UInt8], _ sendPiece: ([UInt8]) async throws(RPCError) -> Void
  ) async throws(RPCError) {
    var start = 0
    while start < bytes.count {
      let end = min(start + pieceBytes, bytes.count)
      try await sendPiece(Array(bytes[start..<end]))
      start = end
    }
  }
}

extension ServerCall {
  /// Sends all bytes in pieces of 256 KiB; a slow reader delays it.
  public func send(inPieces bytes: [UInt8]) async throws(RPCError) {
    try await Bulk.send(bytes) { (piece) async throws(RPCError) in try await send(bulk: piece) }
  }
}

extension ClientCall {
  /// Sends all bytes in pieces of 256 KiB; a slow server delays it.
  public func send(inPieces bytes: [UInt8]) async throws(RPCError) {
    try await Bulk.send(bytes) { (piece) async throws(RPCError) in try await send(bulk: piece) }
  }

  /// Reads and drops announced bytes, to reach the message after them.
  public func skipBulk(count: UInt64) async throws(RPCError) {
    var left = count
    while left > 0 {
      guard case .bulk(let piece) = try await receive(), piece.count <= left else {
        throw RPCError(.internalError, "\(left) announced bytes did not come")
      }
      left -= UInt64(piece.count)
    }
  }
}
