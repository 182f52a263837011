import Base
import Logging
import Messages
import RPC

/// Clears up after uploads and moves that died half-way, shadows that moved, and images that were deleted.
///
/// It acts on names that the replicated log holds, never on what a slave happens to list, so that it
/// cannot remove a shadow that an image needs.
struct Sweeper: Sendable {
  let state: ClusterState
  let log: any ReplicatedLog
  let slaves: SlaveDirectory
  let active: ActiveSet<PendingUpload>
  let activeMoves: ActiveSet<PendingMove>
  let logger: Logger

  private static let batch = 200

  /// One round; what could not be done now is done in a later one.
  func sweep() async throws {
    for upload in try await state.pendingUploads() where !active.contains(upload) {
      var abort = AbortUpload()
      (abort.imageID, abort.epoch) = (upload.imageID, upload.epoch)
      _ = try await log.propose { $0.abortUpload = abort }
      logger.info("a half-finished upload was given up", metadata: ["epoch": "\(upload.epoch)"])
    }
    for move in try await state.pendingMoves() where !activeMoves.contains(move) {
      var abort = AbortMove()
      abort.imageID = move.imageID
      (abort.epoch, abort.index, abort.name) = (move.epoch, move.index, move.name)
      _ = try await log.propose { $0.abortMove = abort }
      logger.info("a half-finished move was given up", metadata: ["slave": "\(move.slave)"])
    }
    for node in slaves.slaves.keys.sorted() where slaves.isReachable(node) {
      try await collect(on: node)
    }
  }

  private func collect(on node: String) async throws {
    while true {
      let names = try await state.garbage(on: node, limit: Self.batch)
      if names.isEmpty { return }
      var request = DeleteShadowsRequest()
      request.names = names
      do {
        _ = try await slaves.channel(to: node).unary(
          SlaveCloudMethods.deleteShadows, request, CallOptions(timeout: .seconds(30)))
      } catch {
        logger.debug("shadows stay for now", metadata: ["slave": "\(node)", "reason": "\(error)"])
        return
      }
      var collected = ShadowsCollected()
      (collected.slave, collected.names) = (node, names)
      _ = try await log.propose { $0.shadowsCollected = collected }
    }
  }
}
