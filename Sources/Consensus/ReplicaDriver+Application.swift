import Raft
import Replication

/// What was decided goes to the state machine, a batch at a time.
extension ReplicaDriver {
  private static var maximumBatch: Int { 1024 }
  private static var settlingInterval: Duration { .milliseconds(100) }
  private static var checkpointTicks: Tick { 3000 }
  /// The log cannot be let go of before the state is durable.
  private var checkpointInterval: UInt64 { replica.raft.configuration.compactionStep }

  func queue(_ entries: [Entry], _ first: Index, _ proposals: [Replica.Proposal]) {
    // A witness has nothing to apply them to.
    if replica.raft.isWitness {
      perform(replica.applied(through: first + UInt64(entries.count) - 1))
      return
    }
    if waitingEntries.isEmpty { waitingFirst = first }
    precondition(
      first == waitingFirst + UInt64(waitingEntries.count),
      "entries from \(first) behind \(waitingFirst) and \(waitingEntries.count) more")
    let offset = waitingEntries.count
    waitingProposals += proposals.map { .init(id: $0.id, offset: $0.offset + offset) }
    waitingEntries += entries
  }

  func startApplying() {
    guard !isApplying, !waitingEntries.isEmpty else { return }
    isApplying = true
    let count = min(waitingEntries.count, Self.maximumBatch)
    let entries = Array(waitingEntries.prefix(count))
    waitingEntries.removeFirst(count)
    let first = waitingFirst
    waitingFirst += UInt64(count)
    let proposals = waitingProposals.filter { $0.offset < count }
    waitingProposals = waitingProposals.filter { $0.offset >= count }.map {
      .init(id: $0.id, offset: $0.offset - count)
    }
    // Whoever waits for a command is told as soon as it is applied, without a detour by this thread.
    var waiting: [(offset: Int, answer: Answer)] = []
    for proposal in proposals {
      if let answer = answers.removeValue(forKey: proposal.id) {
        waiting.append((proposal.offset, answer))
      }
    }
    Task(executorPreference: machine.taskExecutor) { [machine, inbox] in
      let result: Result<[Machine.Outcome?], any Error>
      do {
        let outcomes = try await machine.apply(entries, first: first)
        result = .success(outcomes)
        for (offset, answer) in waiting {
          guard let outcome = outcomes[offset] else {
            preconditionFailure("command \(first + UInt64(offset)) was applied without an outcome")
          }
          answer.resume(returning: .success(outcome))
        }
      } catch {
        result = .failure(error)
        let failure = ConsensusFailure.halted("the state cannot be written: \(error)")
        for (_, answer) in waiting { answer.resume(returning: .failure(failure)) }
      }
      inbox.put(.applied(last: first + UInt64(count) - 1, result, proposals))
    }
  }

  func applied(
    _ last: Index, _ result: Result<[Machine.Outcome?], any Error>,
    _ proposals: [Replica.Proposal]
  ) {
    isApplying = false
    guard haltReason == nil else { return }
    defer { installIfIdle() }
    switch result {
    case .failure(let error): halt("the state cannot be written: \(error)")
    case .success(let outcomes):
      for proposal in proposals where outcomes[proposal.offset] == nil {
        changeAnswers.removeValue(forKey: proposal.id)?.resume(returning: nil)
      }
      perform(replica.applied(through: last))
      releaseStaleReads()
      appliedSinceCheckpoint += UInt64(outcomes.count)
      settleSoon()
      checkpointIfDue()
    }
  }

  /// In a while, with what is applied meanwhile.
  func settleSoon() {
    isUnsettled = true
    guard !isSettling else { return }
    isSettling = true
    Task { [inbox] in
      try? await Task.sleep(for: Self.settlingInterval)
      inbox.put(.settling)
    }
  }

  func settle() {
    isUnsettled = false
    Task { [machine, inbox] in inbox.put(.settled(await Self.settle(machine))) }
  }

  private static func settle(_ machine: Machine) async -> Result<Void, any Error> {
    do { return .success(try await machine.settle()) } catch { return .failure(error) }
  }

  func settled(_ result: Result<Void, any Error>) {
    isSettling = false
    // What was applied may be gone again: only a start that applies it anew can go on.
    if case .failure(let error) = result { return halt("the state cannot be written: \(error)") }
    if isUnsettled { settleSoon() }
  }

  /// Often enough that the log can be let go of, and not so often that the disk does little else.
  private func checkpointIfDue() {
    let isLong = replica.raft.logSizeBytes > replica.raft.configuration.retainedLogBytes / 2
    guard appliedSinceCheckpoint >= (isLong ? 1 : checkpointInterval),
      now >= lastCheckpoint + (isLong ? Self.checkpointTicks / 3 : Self.checkpointTicks),
      !isCheckpointing, !isWritingSnapshot
    else { return }
    (appliedSinceCheckpoint, lastCheckpoint) = (0, now)
    isCheckpointing = true
    Task { [machine, inbox] in
      let result: Result<Index, any Error>
      do { result = .success(try await machine.checkpoint()) } catch { result = .failure(error) }
      inbox.put(.checkpointed(result))
    }
  }

  func checkpointed(_ result: Result<Index, any Error>) {
    isCheckpointing = false
    switch result {
    case .success(let index):
      if haltReason == nil { perform(replica.step(.checkpointed(index), at: now)) }
    case .failure(let error):
      // Nothing is lost by keeping the log; the next round tries again. Whether the state is still good, settling it tells.
      settle()
      logger.warning("the state was not made durable", metadata: ["reason": "\(error)"])
    }
  }
}
