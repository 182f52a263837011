import Glibc
import Raft
import Replication

/// States that travel to nodes for which the log does not reach back far enough.
extension ReplicaDriver {
  func beginSnapshot(to node: NodeID, _ term: Term) {
    // A copy that begins in the middle of a checkpoint would hold that up.
    guard !isSendingSnapshot, !isCheckpointing else {
      perform(replica.step(.snapshotSent(to: node, installed: nil), at: now))
      return
    }
    (isWritingSnapshot, isSendingSnapshot) = (true, true)
    let path = "\(directory)/snapshot.outgoing"
    Task { [machine] in
      let result: Result<LogBase, any Error>
      do { result = .success(try await machine.writeSnapshot(to: path)) } catch {
        result = .failure(error)
      }
      put(.snapshotWritten(path: path, to: node, term: term, result))
    }
  }

  func snapshotWritten(
    _ path: String, _ node: NodeID, _ term: Term, _ result: Result<LogBase, any Error>
  ) {
    isWritingSnapshot = false
    defer { installIfIdle() }
    let done: @Sendable (Index?) -> Void = { [weak self] index in
      unlink(path)
      Task {
        // To write the state out again at once, for somebody who cannot take it, would do nothing else any more.
        if index == nil { try? await Task.sleep(for: .seconds(2)) }
        self?.put(.snapshotSent(to: node, installed: index))
      }
    }
    switch result {
    case .success(let written):
      // Who votes, the log knows for certain; a state that never saw a change of it does not.
      guard let member = replica.raft.membership.member(node), let transport,
        let base = replica.raft.snapshotBase(at: written.position.index),
        base.position == written.position
      else { return done(nil) }
      logger.notice(
        "sending the state", metadata: ["to": "\(node)", "index": "\(base.position.index)"])
      transport.sendSnapshot(path, base: base, term: term, to: member, done: done)
    case .failure(let error):
      logger.error("the state was not written out", metadata: ["reason": "\(error)"])
      // Whether it is still good, that tells.
      settle()
      done(nil)
    }
  }

  func snapshotArrived(
    _ from: NodeID, _ term: Term, _ base: LogBase, _ path: String,
    _ answer: CheckedContinuation<Index?, Never>
  ) {
    guard arrived == nil, haltReason == nil else {
      unlink(path)
      return answer.resume(returning: nil)
    }
    arrived = (path, answer)
    perform(replica.step(.snapshotArrived(from: from, term: term, base: base), at: now))
  }

  func discardArrived() {
    guard !isInstalling || stateToInstall != nil, let arrived else { return }
    stateToInstall = nil
    unlink(arrived.path)
    arrived.answer.resume(returning: nil)
    self.arrived = nil
  }

  /// Until it is done, nothing is written to the journal or applied: the state comes first.
  func beginInstalling(_ base: LogBase) {
    isInstalling = true
    // What they made is in the state that comes.
    for proposal in waitingProposals { fail(proposal.id, .unknown) }
    (waitingEntries, waitingProposals) = ([], [])
    stateToInstall = base
    installIfIdle()
  }

  /// A batch that is under way must not meet the new state, nor a copy of the old one.
  func installIfIdle() {
    guard !isApplying, !isWritingSnapshot, haltReason == nil, let base = stateToInstall, let arrived
    else { return }
    stateToInstall = nil
    let path = arrived.path
    logger.notice("installing a state", metadata: ["index": "\(base.position.index)"])
    Task { [machine, inbox] in
      let result: Result<Void, any Error>
      do { result = .success(try await machine.install(path, base: base)) } catch {
        result = .failure(error)
      }
      inbox.put(.installed(base, result))
    }
  }

  func installed(_ base: LogBase, _ result: Result<Void, any Error>) {
    isInstalling = false
    let answer = arrived?.answer
    arrived = nil
    switch result {
    case .success:
      perform(replica.applied(through: base.position.index))
      releaseStaleReads()
      answer?.resume(returning: base.position.index)
    case .failure(let error):
      answer?.resume(returning: nil)
      halt("a state cannot be put in place: \(error)")
    }
  }
}
