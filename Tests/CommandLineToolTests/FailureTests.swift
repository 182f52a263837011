import Foundation
import RPC
import Testing

@testable import CommandLineTool

@Suite struct FailureTests {
  /// Scripts depend on these numbers: docs/command-line.md lists them.
  @Test func exitCodesOfStatusCodes() {
    let expected: [StatusCode: Int32] = [
      .ok: 0, .cancelled: 75, .unknown: 70, .invalidArgument: 65, .deadlineExceeded: 75,
      .notFound: 66, .alreadyExists: 65, .permissionDenied: 77, .resourceExhausted: 75,
      .failedPrecondition: 69, .aborted: 75, .outOfRange: 65, .unimplemented: 70,
      .internalError: 70, .unavailable: 69, .dataLoss: 74, .unauthenticated: 77,
    ]
    for code in StatusCode.allCases {
      #expect(CommandLineTool.ExitStatus(code).rawValue == expected[code], "\(code)")
    }
  }

  @Test func whatCanBeDoneIsSaid() {
    for code in StatusCode.allCases where CommandLineTool.ExitStatus(code).rawValue >= 66 && code != .cancelled {
      let failure = CommandFailure(RPCError(code, "why"), during: "storing a.png")
      #expect(failure.message == "storing a.png: why")
      #expect(!failure.advice.isEmpty, "\(code)")
      #expect(failure.code == code.description)
    }
    let shadows = RPCError(.unavailable, "2 of 3", reason: "NotEnoughShadows")
    #expect(CommandFailure.advice(for: shadows).contains("slaves"))
  }

  @Test func fileErrors() {
    func status(_ number: Int32) -> CommandLineTool.ExitStatus {
      CommandFailure(FileError("open", "/x", number: number)).status
    }
    #expect(status(ENOENT) == .notFound)
    #expect(status(EACCES) == .notPermitted)
    #expect(status(ENOSPC) == .inputOutput)
    let failure = CommandFailure(FileError("open", "/x", number: ENOENT), during: "reading /x")
    #expect(failure.message == "reading /x: cannot open /x: No such file or directory")
  }

  @Test func unknownErrorsAreOurs() {
    struct Strange: Error {}
    #expect(CommandFailure(Strange()).status == .internalError)
    #expect(CommandFailure(CancellationError()).status == .interrupted)
    let given = CommandFailure(.usage, "a", advice: "b")
    #expect(CommandFailure(given, during: "c") == given)
    #expect("\(given)" == "a (b)")
  }

  @Test func timeoutsGrowWithTheFile() {
    let usual = CallTimeouts()
    #expect(usual.small == .seconds(30))
    #expect(usual.transfer(sizeBytes: 0) == .seconds(120))
    #expect(usual.transfer(sizeBytes: 10 << 20) == .seconds(200))
    #expect(usual.transfer(sizeBytes: .max) == .seconds(3600))
    #expect(CallTimeouts(chosenSeconds: 7).transfer(sizeBytes: 1 << 40) == .seconds(7))
  }
}
