import Foundation
import RPC
import TestSupport
import Testing

/// The benchmark program itself, with figures that do not depend on the clock.
@Suite(.timeLimit(.minutes(5))) struct RPCBenchTests {
  /// The folder that the program wants: ca.pem, server.pem, server.key, client.pem, client.key.
  private func certificates() throws -> TemporaryDirectory {
    let folder = try TemporaryDirectory("bench")
    let authority = try TestAuthority(cluster: "bench")
    for (name, credentials) in [
      ("server", try authority.credentials(.slave, "server")),
      ("client", try authority.credentials(.master, "client")),
    ] {
      try write(credentials.certificatePEM, folder, "\(name).pem")
      try write(credentials.privateKeyPEM, folder, "\(name).key")
    }
    try write(authority.certificatePEM, folder, "ca.pem")
    return folder
  }

  private func write(_ text: String, _ folder: TemporaryDirectory, _ name: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: folder.path(name)))
  }

  private func run(_ arguments: [String], _ folder: TemporaryDirectory) async throws -> [String:
    Any]
  {
    let products = try #require(productsFolder())
    let outcome = try await runProgram(
      products + "/sfmedir-rpc-bench", arguments + ["--certs", folder.path])
    let output = String(decoding: outcome.output, as: UTF8.self)
    #expect(
      outcome.status == 0, "\(output)\(String(decoding: outcome.errors, as: UTF8.self))")
    let line = try #require(output.split(separator: "\n").last)
    return try #require(
      try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
  }

  /// Held by a file: whoever makes a call dearer changes it there and says why.
  @Test func aUnaryCallAllocatesNoMoreThanTheThresholdFileAllows() async throws {
    let file = try #require(Bundle.module.url(forResource: "allocations", withExtension: "json"))
    let thresholds = try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Double])
    #expect(thresholds.count == 2)
    let folder = try certificates()
    let measured = try await run(["allocations", "--calls", "3000"], folder)
    for (key, most) in thresholds {
      let figure = try #require(measured[key] as? Double)
      // Timers and ticks of the loop fall into the time, too.
      #expect(figure <= most + 0.25, "\(key): \(figure), at most \(most)")
      #expect(figure >= 1, "\(key): \(figure): nothing was counted")
    }
  }

  /// Some seconds of `make soak`, which runs five minutes.
  @Test func aShortSoakLeavesNothingBehind() async throws {
    let folder = try certificates()
    let seed = UInt64.random(in: 1...UInt64.max)
    let report = try await run(
      ["soak", "--seconds", "4", "--concurrency", "16", "--seed", "\(seed)", "--json"], folder)
    let calls = try #require(report["calls"] as? Int)
    #expect(calls > 0 && report["ended_once"] as? Int == calls, "seed \(seed): \(report)")
    #expect((report["faults"] as? [String])?.isEmpty == true, "seed \(seed): \(report)")
  }
}
