import Base
import RPC

/// Leave to hold memory and to work, until ``leave()`` or until the last reference goes.
public final class AdmissionPass: Sendable {
  private let gate: AdmissionGate
  private let sizeBytes: Int
  private let isInside = Locked(true)

  init(gate: AdmissionGate, sizeBytes: Int) {
    self.gate = gate
    self.sizeBytes = sizeBytes
  }

  deinit { leave() }

  /// Gives the place back; harmless when repeated.
  public func leave() {
    let wasInside = isInside.withLock { inside in
      defer { inside = false }
      return inside
    }
    if wasInside { gate.release(sizeBytes) }
  }
}

/// Bounds how much is under way at once, in pieces of work and in bytes; who comes later waits in
/// order, and where too many wait already, is refused.
///
/// First come, first served, also where a later and smaller one would fit: a large image is never
/// starved by small ones.
public final class AdmissionGate: Sendable {
  private struct Waiter {
    let id: UInt64
    let sizeBytes: Int
    let done: UnsafeContinuation<AdmissionPass?, Never>
  }

  private struct State {
    var inside = 0
    var insideBytes = 0
    var waiters: [Waiter] = []
    var lastID: UInt64 = 0
    /// Waiters that were cancelled before they could be queued.
    var cancelled: Set<UInt64> = []
  }

  private let name: String
  private let places: Int
  private let bytes: Int
  private let queueLimit: Int
  private let state = Locked(State())

  /// - Parameters:
  ///   - name: what is bounded, for the refusal's sentence, like "images in work".
  ///   - places: pieces of work at once.
  ///   - bytes: bytes at once; a piece larger than that comes in alone.
  ///   - queueLimit: how many may wait.
  public init(name: String, places: Int, bytes: Int, queueLimit: Int) {
    precondition(places > 0 && bytes > 0 && queueLimit >= 0, "\(places), \(bytes), \(queueLimit)")
    self.name = name
    self.places = places
    self.bytes = bytes
    self.queueLimit = queueLimit
  }

  /// Pieces of work inside and bytes that they hold, for status and tests.
  public var load: (places: Int, bytes: Int, waiting: Int) {
    state.withLock { ($0.inside, $0.insideBytes, $0.waiters.count) }
  }

  /// Waits for a place; RESOURCE_EXHAUSTED where the queue is full, CANCELLED with the task.
  public func enter(sizeBytes: Int = 0) async throws(RPCError) -> AdmissionPass {
    let id = state.withLock { state in
      state.lastID += 1
      return state.lastID
    }
    let refused = Locked(false)
    let pass = await withTaskCancellationHandler {
      await withUnsafeContinuation { (done: UnsafeContinuation<AdmissionPass?, Never>) in
        let waiter = Waiter(id: id, sizeBytes: min(sizeBytes, bytes), done: done)
        switch arrive(waiter) {
        case .waits: break
        case .enters: done.resume(returning: AdmissionPass(gate: self, sizeBytes: waiter.sizeBytes))
        case .cancelled: done.resume(returning: nil)
        case .refused:
          refused.withLock { $0 = true }
          done.resume(returning: nil)
        }
      }
    } onCancel: {
      cancel(id)
    }
    state.withLock { _ = $0.cancelled.remove(id) }
    if let pass { return pass }
    guard refused.withLock({ $0 }) else {
      throw RPCError(.cancelled, "cancelled while waiting for a place among the \(name)")
    }
    throw RPCError(
      .resourceExhausted, "\(queueLimit) calls wait already for a place among the \(name)",
      reason: "QueueFull")
  }

  private enum Arrival { case enters, waits, refused, cancelled }

  private func arrive(_ waiter: Waiter) -> Arrival {
    state.withLock { state in
      if state.cancelled.contains(waiter.id) { return .cancelled }
      if state.waiters.isEmpty, fits(waiter, state) {
        state.inside += 1
        state.insideBytes += waiter.sizeBytes
        return .enters
      }
      if state.waiters.count >= queueLimit { return .refused }
      state.waiters.append(waiter)
      return .waits
    }
  }

  private func fits(_ waiter: Waiter, _ state: State) -> Bool {
    state.inside < places && state.insideBytes <= bytes - waiter.sizeBytes
  }

  private func cancel(_ id: UInt64) {
    let (waiter, admitted) = state.withLock { state -> (Waiter?, [Waiter]) in
      guard let index = state.waiters.firstIndex(where: { $0.id == id }) else {
        state.cancelled.insert(id)
        return (nil, [])
      }
      let waiter = state.waiters.remove(at: index)
      // It may have been the large one at the head that held the others up.
      return (waiter, admitWaiters(&state))
    }
    waiter?.done.resume(returning: nil)
    resume(admitted)
  }

  fileprivate func release(_ sizeBytes: Int) {
    let admitted = state.withLock { state in
      state.inside -= 1
      state.insideBytes -= sizeBytes
      return admitWaiters(&state)
    }
    resume(admitted)
  }

  private func admitWaiters(_ state: inout State) -> [Waiter] {
    var admitted: [Waiter] = []
    while let first = state.waiters.first, fits(first, state) {
      state.inside += 1
      state.insideBytes += first.sizeBytes
      admitted.append(state.waiters.removeFirst())
    }
    return admitted
  }

  private func resume(_ admitted: [Waiter]) {
    for waiter in admitted {
      waiter.done.resume(returning: AdmissionPass(gate: self, sizeBytes: waiter.sizeBytes))
    }
  }
}
