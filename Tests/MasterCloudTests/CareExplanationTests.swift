import Base
import Messages
import RPC
import Shadows
import TestSupport
import Testing

@testable import MasterCloud

/// What is said of an image's shadows, and that its numbers agree with one another.
extension CareTests {
  /// How often each state is said of a shadow.
  private static func states(_ reply: ExplainImageReply) -> [ShadowState: Int] {
    reply.shadows.reduce(into: [:]) { $0[$1.state, default: 0] += 1 }
  }

  /// Slaves that do everything but give a shadow back.
  private static func refusing(
    _ count: Int, _ authority: TestAuthority
  ) throws -> [SlowSlave] {
    let group = EventLoopGroup(count: 1)
    return try (1...count).map {
      try SlowSlave(
        "scs-r\($0)", authority, group, MasterServiceTests.quietLogger,
        refusal: RPCError(.internalError, "does not read today"))
    }
  }

  @Test func aShadowIsOfOneStanding() {
    let standings: [SlaveStanding] = [.good, .good, .away, .away, .leaving, .leaving, .lost, .lost]
    let places = standings.indices.map {
      ImageSharing.Place(index: UInt32($0), slave: "scs-\($0)", name: [UInt8($0)])
    }
    func judge(threshold: Int) -> ImageJudgement {
      ImageJudgement(
        places, threshold: threshold, standing: { standings[Int($0.dropFirst(4))!] },
        isBad: { $0.index % 2 == 1 })
    }
    let judgement = judge(threshold: 2)
    #expect(judgement.good == 2)
    #expect(judgement.awayIndices == [2] && judgement.away == 1)
    #expect(
      judgement.faults
        == [1: .bad, 3: .bad, 4: .leaving, 5: .bad, 6: .lost, 7: .lost])
    #expect(judgement.margin == 0 && !judgement.isLost)
    #expect(!judgement.isWhole && judgement.hasLosses)
    #expect(judge(threshold: 5).margin == -3 && judge(threshold: 5).isLost)
  }

  @Test func moreUnreadShadowsThanCanBeSparedAreMissing() async throws {
    let authority = try TestAuthority()
    let refusing = try Self.refusing(3, authority)
    let harness = try await MasterHarness(
      slaves: 2, extra: refusing, sharing: Sharing(threshold: 3, shadowCount: 5),
      authority: authority, background: false, change: { $0.care.repairAfter = .seconds(3600) })
    let image = try #require(try await Self.put(1, on: harness).first)
    // Nothing is known of slaves that were not asked.
    var reply = try await Self.explain(image, on: harness)
    #expect(Self.states(reply) == [.good: 5])
    #expect(reply.good == 5 && reply.lossesSurvived == 2 && reply.missing == 0)
    #expect(reply.mostOnAHost == 1 && !reply.verified)
    #expect(reply.plan.isEmpty)
    // One that is about to leave and cannot be read is no more worth than the others that cannot.
    try await Self.set("scs-r1", .draining, on: harness)
    reply = try await Self.explain(image, on: harness)
    #expect(Self.states(reply) == [.good: 4, .leaving: 1] && reply.good == 5)
    reply = try await Self.explain(image, on: harness, verify: true)
    #expect(Self.states(reply) == [.good: 2, .unread: 3] && reply.good == 2 && reply.missing == 1)
    try await Self.set("scs-r1", .active, on: harness)
    reply = try await Self.explain(image, on: harness, verify: true)
    #expect(!reply.plan.isEmpty)
    // The two that do give their shadows go away, one after the other.
    for away in 0...2 {
      if away > 0 {
        await harness.slaves[away - 1].kill()
        await harness.master.look()
      }
      reply = try await Self.explain(image, on: harness)
      #expect(reply.good == 5 - away && reply.missing == 0)
      #expect(reply.lossesSurvived == 2 - away)
      reply = try await Self.explain(image, on: harness, verify: true)
      #expect(Self.states(reply)[.good, default: 0] == 2 - away)
      #expect(Self.states(reply)[.away, default: 0] == away)
      #expect(Self.states(reply)[.unread] == 3)
      #expect(reply.good == 2 - away && reply.lossesSurvived == 0 && reply.missing == 1 + away)
      #expect(reply.mostOnAHost == (away < 2 ? 1 : 0) && reply.verified)
      for shadow in reply.shadows where shadow.state == .unread {
        #expect(shadow.remark.contains("does not read today"))
      }
    }
    await harness.stopAll()
    for slave in refusing { await slave.server.shutdown(graceMilliseconds: 0) }
  }

  /// The machine's clock; something happens right before it is read the second time.
  private final class EventfulClock: Base.Clock {
    private let state = Locked((readings: 0, event: { @Sendable () -> Void in }))

    func expect(_ event: @escaping @Sendable () -> Void) { state.withLock { $0 = (0, event) } }

    func monotonicNanoseconds() -> UInt64 {
      let event = state.withLock { state in
        state.readings += 1
        return state.readings == 2 ? state.event : nil
      }
      event?()
      return SystemClock().monotonicNanoseconds()
    }

    func wallMilliseconds() -> UInt64 { SystemClock().wallMilliseconds() }
  }

  /// Whoever looks at the slaves reads the clock: between two looks, one of them would go silent here.
  @Test func whatIsSaidOfShadowsComesOfOneLook() async throws {
    let authority = try TestAuthority()
    let refusing = try Self.refusing(2, authority)
    let clock = EventfulClock()
    let harness = try await MasterHarness(
      slaves: 2, extra: refusing, sharing: Sharing(threshold: 2, shadowCount: 4),
      authority: authority, background: false, clock: clock,
      change: { $0.care.repairAfter = .seconds(3600) })
    let image = try #require(try await Self.put(1, on: harness).first)
    let slaves = harness.master.slaves
    clock.expect { [weak slaves] in
      slaves?.reportFailure(of: "scs-r1", RPCError(.unavailable, "went silent"))
    }
    let reply = try await Self.explain(image, on: harness, verify: true)
    #expect(Self.states(reply) == [.good: 2, .unread: 2])
    #expect(reply.good == 2 && reply.lossesSurvived == 0 && reply.missing == 0)
    await harness.stopAll()
    for slave in refusing { await slave.server.shutdown(graceMilliseconds: 0) }
  }
}
