import Base
import Glibc
import Messages
import RPC
import Raft

/// Streams a state to a node that is too far behind for the log.
struct SnapshotSender {
  let from: NodeID
  let to: NodeID
  let channel: Channel

  private static let pieceBytes = 512 << 10
  private static let timeout = Duration.seconds(3600)

  /// - Returns: the index installed there; nil where it was of no use.
  func send(_ path: String, base: LogBase, term: Term) async throws -> Index? {
    let (size, digest) = try await offload { try SnapshotFile.digest(of: path) }
    var header = RaftSnapshotHeader()
    (header.from, header.to, header.term) = (from.name, to.name, term)
    header.logBase = MessageCodec.encode(base)
    (header.sizeBytes, header.digest) = (size, digest)
    let call = try await channel.open(
      ConsensusMethods.installSnapshot, CallOptions(timeout: Self.timeout))
    try await call.send(header)
    let file = try SystemDisk().open(path, mode: .readOnly)
    var offset: UInt64 = 0
    while offset < size {
      let position = offset
      let piece = try await offload {
        try SnapshotFile.read(file, at: position, count: Self.pieceBytes)
      }
      guard !piece.isEmpty else { break }
      try await call.send(bulk: piece)
      offset += UInt64(piece.count)
    }
    try await call.finishSending()
    let reply = try await call.receiveOnly()
    return reply.installed ? reply.index : nil
  }
}

enum SnapshotFile {
  static func read(_ file: any DiskFile, at offset: UInt64, count: Int) throws -> [UInt8] {
    var buffer = [UInt8](repeating: 0, count: count)
    let found = try buffer.withUnsafeMutableBytes { try file.read(into: $0, at: offset) }
    return Array(buffer.prefix(found))
  }

  static func digest(of path: String) throws -> (sizeBytes: UInt64, digest: [UInt8]) {
    let file = try SystemDisk().open(path, mode: .readOnly)
    let size = try file.sizeBytes()
    var digest = SHA256Hasher()
    var offset: UInt64 = 0
    while offset < size {
      let piece = try read(file, at: offset, count: 1 << 20)
      guard !piece.isEmpty else { break }
      digest.update(piece)
      offset += UInt64(piece.count)
    }
    return (size, digest.finalize())
  }
}

/// Takes a state in: to a file, checked against its size and digest, and synchronized.
struct SnapshotReceiver {
  let path: String

  func receive(
    _ call: ServerCall<RaftSnapshotHeader, RaftSnapshotReply>, _ header: RaftSnapshotHeader,
    maximumBytes: UInt64
  ) async throws {
    guard header.sizeBytes <= maximumBytes else {
      throw RPCError(
        .invalidArgument, "a state of \(header.sizeBytes) bytes, at most \(maximumBytes) are taken")
    }
    let path = path
    unlink(path)
    do {
      let file = try await offload { try SystemDisk().open(path, mode: .createNew) }
      var digest = SHA256Hasher()
      var size: UInt64 = 0
      while let part = try await call.receive() {
        guard case .bulk(let bytes) = part, size + UInt64(bytes.count) <= header.sizeBytes else {
          throw RPCError(.invalidArgument, "more or other than the bytes announced")
        }
        let position = size
        try await offload {
          try bytes.withUnsafeBytes { try file.write($0, at: position) }
        }
        digest.update(bytes)
        size += UInt64(bytes.count)
      }
      guard size == header.sizeBytes, digest.finalize() == header.digest else {
        throw RPCError(
          .dataLoss, "the state does not have the size and digest announced",
          reason: "DigestMismatch")
      }
      try await offload { try file.synchronize() }
    } catch {
      unlink(path)
      throw error
    }
  }
}
