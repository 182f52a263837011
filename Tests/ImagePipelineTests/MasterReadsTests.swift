import Base
import Enrollment
import ImagePipeline
import ImageTestSupport
import Testing

@testable import RPC

/// Who is asked, in which order, and whose answer counts.
@Suite struct MasterReadsTests {
  private let context = CallContext(
    method: "m", caller: nil,
    deadlineNanoseconds: SystemClock().monotonicNanoseconds() + 60_000_000_000, metadata: [])

  /// - Parameters:
  ///   - any: what whichever master comes first says; nil: it answers. So with `leader`.
  /// - Returns: who was asked, each once where it was asked again; and who answered, or why nobody did.
  private func ask(
    age: UInt64, any: RPCError?, leader: RPCError?
  ) async throws -> (asked: [String], outcome: String) {
    let network = try TestNetwork()
    func client() throws -> ServiceClient {
      ServiceClient(over: [try network.masterChannel(as: .imageUser, "mu-1")])
    }
    let (leading, whichever) = (try client(), try client())
    let asked = Locked<[String]>([])
    let reads = MasterReads(leader: leading, any: whichever)
    let outcome: String
    do {
      outcome = try await reads.ask(maximumAgeMilliseconds: age, within: context) { client in
        let (name, error) = client === leading ? ("leader", leader) : ("any", any)
        asked.withLock { if $0.last != name { $0.append(name) } }
        if let error { throw error }
        return name
      }
    } catch {
      outcome = (error as? RPCError)?.reason ?? "\(error)"
    }
    leading.close()
    whichever.close()
    await network.stop([])
    return (asked.withLock { $0 }, outcome)
  }

  @Test func nowIsForTheLeaderToSay() async throws {
    let (asked, outcome) = try await ask(age: 0, any: nil, leader: nil)
    #expect(asked == ["leader"])
    #expect(outcome == "leader")
  }

  @Test func whoMayBeOldIsAskedFirst() async throws {
    let (asked, outcome) = try await ask(age: 1000, any: nil, leader: nil)
    #expect(asked == ["any"])
    #expect(outcome == "any")
  }

  /// Stored a moment ago, moved, or not known at that age.
  @Test(arguments: [StatusCode.notFound, .dataLoss, .unavailable, .internalError])
  func whatAnOldAnswerLacksTheLeaderHas(code: StatusCode) async throws {
    let (asked, outcome) = try await ask(
      age: 1000, any: RPCError(code, "old", reason: "Old"), leader: nil)
    #expect(asked == ["any", "leader"])
    #expect(outcome == "leader")
  }

  @Test func whatIsWrongInItselfIsNotAskedAgain() async throws {
    let (asked, outcome) = try await ask(
      age: 1000, any: RPCError(.invalidArgument, "no", reason: "Wrong"), leader: nil)
    #expect(asked == ["any"])
    #expect(outcome == "Wrong")
  }

  @Test func anOldAnswerStandsWhereNobodyLeads() async throws {
    let away = RPCError(.unavailable, "away", reason: "Away")
    let missing = RPCError(.notFound, "none", reason: "NoSuchImage")
    #expect(try await ask(age: 1000, any: missing, leader: away).outcome == "NoSuchImage")
    #expect(try await ask(age: 1000, any: away, leader: missing).outcome == "NoSuchImage")
    let stale = RPCError(.unavailable, "old", reason: "TooStale")
    #expect(try await ask(age: 1000, any: stale, leader: away).outcome == "Away")
  }
}
