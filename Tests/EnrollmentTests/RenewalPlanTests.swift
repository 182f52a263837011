import RPC
import TestSupport
import Testing

@testable import Enrollment

@Suite struct RenewalPlanTests {
  private static let day: UInt64 = 86_400_000

  private func identity(days: UInt64) throws -> NodeIdentity {
    let authority = try TestAuthority()
    return NodeIdentity(
      identity: try authority.identity(.slave, "scs-1"),
      credentials: try authority.credentials(.slave, "scs-1"), startsAtMilliseconds: Self.day,
      expiresAtMilliseconds: (1 + days) * Self.day)
  }

  @Test func renewsInTheLastThirdAtAMomentOfItsOwn() throws {
    let identity = try identity(days: 300)
    let early = RenewalPlan(of: identity, dice: 0)
    #expect(!early.isDue(at: 201 * Self.day - 1))
    #expect(early.isDue(at: 201 * Self.day))
    #expect(early.milliseconds(from: 200 * Self.day) == Self.day)
    #expect(early.milliseconds(from: 300 * Self.day) == 0)
    // Ten days later at the latest.
    let late = RenewalPlan(of: identity, dice: 1)
    #expect(!late.isDue(at: 211 * Self.day - 1))
    #expect(late.isDue(at: 211 * Self.day))
  }

  @Test func failuresAreRepeatedMoreAndMoreSeldom() throws {
    var plan = RenewalPlan(of: try identity(days: 300), dice: 0)
    let now = 201 * Self.day
    var waits: [UInt64] = []
    for _ in 0..<12 {
      plan.failed(at: now, dice: 0.5)
      waits.append(plan.milliseconds(from: now) / 1000)
    }
    #expect(waits == [15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600])
    plan.failed(at: now, dice: 0)
    #expect(plan.milliseconds(from: now) == 2_880_000)
    plan.failed(at: now, dice: 1)
    #expect(plan.milliseconds(from: now) == 4_320_000)
  }

  @Test func theEndComesNotBetweenTwoTries() throws {
    var plan = RenewalPlan(of: try identity(days: 300), dice: 0)
    let end = 301 * Self.day
    for _ in 0..<10 { plan.failed(at: end - 400_000, dice: 0.5) }
    #expect(plan.milliseconds(from: end - 400_000) == 100_000)
    plan.failed(at: end - 100, dice: 0.5)
    #expect(plan.milliseconds(from: end - 100) == 1000)
    // After it there is no hurry any more.
    plan.failed(at: end + 1, dice: 0.5)
    #expect(plan.milliseconds(from: end + 1) == 3_600_000)
  }

  /// Near its own end an authority gives certificates that are due at once.
  @Test func aShortLifeIsNotRenewedWithoutAPause() throws {
    let plan = RenewalPlan(of: try identity(days: 0), dice: 0, earliest: 5 * Self.day)
    #expect(!plan.isDue(at: 5 * Self.day - 1))
    #expect(plan.isDue(at: 5 * Self.day))
  }
}
