import Base
import ImagePipeline
import ImageTestSupport
import RPC
import Testing

@Suite struct AdmissionGateTests {
  private func entering(_ gate: AdmissionGate, _ bytes: Int = 0) -> Task<AdmissionPass, any Error> {
    Task { try await gate.enter(sizeBytes: bytes) }
  }

  @Test func placesAreBoundedAndPassOn() async throws {
    let gate = AdmissionGate(name: "things", places: 2, bytes: 100, queueLimit: 10)
    let first = try await gate.enter()
    let second = try await gate.enter()
    let third = entering(gate)
    #expect(await eventually { gate.load.waiting == 1 })
    #expect(gate.load.places == 2)
    first.leave()
    first.leave()
    let passed = try await third.value
    #expect(gate.load == (2, 0, 0))
    second.leave()
    passed.leave()
    #expect(gate.load == (0, 0, 0))
  }

  @Test func bytesAreBoundedAndALargeOneIsNotStarved() async throws {
    let gate = AdmissionGate(name: "things", places: 10, bytes: 100, queueLimit: 10)
    let first = try await gate.enter(sizeBytes: 60)
    let large = entering(gate, 80)
    #expect(await eventually { gate.load.waiting == 1 })
    let small = entering(gate, 10)
    #expect(await eventually { gate.load.waiting == 2 })
    #expect(gate.load.bytes == 60, "the small one came later and waits too")
    first.leave()
    let passes = [try await large.value, try await small.value]
    #expect(gate.load == (2, 90, 0))
    for pass in passes { pass.leave() }
    // One larger than everything comes in alone rather than never.
    let giant = try await gate.enter(sizeBytes: 1 << 40)
    #expect(gate.load == (1, 100, 0))
    giant.leave()
  }

  @Test func aFullQueueRefuses() async throws {
    let gate = AdmissionGate(name: "things", places: 1, bytes: 1, queueLimit: 1)
    let inside = try await gate.enter()
    let waiting = entering(gate)
    #expect(await eventually { gate.load.waiting == 1 })
    let error = await #expect(throws: RPCError.self) { try await gate.enter() }
    #expect((error?.code, error?.reason) == (.resourceExhausted, "QueueFull"))
    inside.leave()
    try await waiting.value.leave()
    try await gate.enter().leave()
  }

  @Test func whoIsCancelledGivesWay() async throws {
    let gate = AdmissionGate(name: "things", places: 10, bytes: 100, queueLimit: 10)
    let inside = try await gate.enter(sizeBytes: 50)
    let large = entering(gate, 100)
    #expect(await eventually { gate.load.waiting == 1 })
    let small = entering(gate, 20)
    #expect(await eventually { gate.load.waiting == 2 })
    large.cancel()
    let error = await #expect(throws: RPCError.self) { try await large.value }
    #expect(error?.code == .cancelled)
    let pass = try await small.value
    #expect(gate.load == (2, 70, 0))
    inside.leave()
    pass.leave()
    let late = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      return try await gate.enter()
    }
    // A cancelled task may still get a free place, but none is lost with it.
    (try? await late.value)?.leave()
    #expect(gate.load == (0, 0, 0))
  }

  @Test func aDroppedPassIsGivenBack() async throws {
    let gate = AdmissionGate(name: "things", places: 1, bytes: 1, queueLimit: 1)
    do { _ = try await gate.enter() }
    #expect(gate.load.places == 0)
  }

  @Test func neverMoreThanAllowedUnderLoad() async throws {
    let gate = AdmissionGate(name: "things", places: 3, bytes: 1000, queueLimit: 1000)
    let inside = Locked((now: 0, most: 0))
    try await withThrowingTaskGroup(of: Void.self) { group in
      for index in 0..<300 {
        group.addTask {
          let pass = try await gate.enter(sizeBytes: index % 7)
          inside.withLock {
            $0.now += 1
            $0.most = max($0.most, $0.now)
          }
          await Task.yield()
          inside.withLock { $0.now -= 1 }
          pass.leave()
        }
      }
      try await group.waitForAll()
    }
    #expect((1...3).contains(inside.withLock { $0.most }))
    #expect(gate.load == (0, 0, 0))
  }
}
