import Foundation
import TestSupport
import Testing

@testable import RPC

/// A client in Python, written from docs/formats/wire.md alone (Tests/Interop), against this server.
@Suite(.timeLimit(.minutes(10))) struct InteropTests {
  /// Every scenario by name: one that is lost on the way fails the test.
  static let scenarios: Set = [
    "worked examples",
    "the client refuses violations",
    "a frame is refused by its head",
    "unary",
    "refused headers",
    "refused requests",
    "deadline exceeded",
    "cancel",
    "client streaming",
    "server streaming to a slow reader",
    "bidirectional",
    "32 calls interleaved",
    "too many calls",
    "frames for a call that is over",
    "smallest limits",
    "highest stream number",
    "ping",
    "pings of the server",
    "one byte in each TLS record",
    "stranger",
    "certificate of another cluster",
    "server of another role",
    "violation: unknown frame type",
    "violation: unknown flag",
    "violation: reserved bytes",
    "violation: payload above the limit",
    "violation: first frame is no hello",
    "violation: control payload is no message",
    "violation: text is not UTF-8",
    "violation: ping of 7 bytes",
    "violation: window of 3 bytes",
    "violation: trailer from a client",
    "violation: connection account overflows",
    "violation: part for a call never opened",
    "violation: cancel of a call never opened",
    "violation: part on stream 0",
    "violation: cancel on stream 0",
    "violation: wrong hello version",
    "violation: frame limit out of range",
    "violation: window out of range",
    "violation: hello on a stream",
    "violation: second hello",
    "violation: stream 0 as a call",
    "violation: stream id reuse",
    "violation: stream id reuse after the call",
    "violation: stream number going back",
    "violation: data after the end",
    "violation: end after the end",
    "violation: window of a call overrun",
    "violation: window of a connection overrun",
    "violation: account of a call overflows",
    "violation: bad window for a call that is over",
    "go-away of the client",
    "draining",
  ]

  @Test func aClientWrittenFromTheFormatPageCanDoEverything() async throws {
    let servers = try InteropServers()
    let folder = try TemporaryDirectory("interop")
    try Self.writeCertificates(servers.authority, folder)
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent().path
    // Debian's python3 is the one that python3-protobuf belongs to; another may come first in PATH.
    let python = ProcessInfo.processInfo.environment["SFMEDIR_PYTHON"] ?? "/usr/bin/python3"
    let outcome = try await runProgram(
      python,
      [
        "\(root)/Tests/Interop/interop.py", "--address", "127.0.0.1:\(servers.ordinary.port)",
        "--draining-address", "127.0.0.1:\(servers.draining.port)", "--certs", folder.path,
      ], environment: ["PYTHONDONTWRITEBYTECODE": "1"])
    let errors = String(decoding: outcome.errors, as: UTF8.self)
    let results = try outcome.output.split(separator: UInt8(ascii: "\n")).map {
      try JSONDecoder().decode(Result.self, from: Data($0))
    }
    for result in results where !result.ok {
      Issue.record("\(result.scenario): \(result.problem ?? "")")
    }
    #expect(outcome.status == 0, "\(errors)")
    let lost = Self.scenarios.symmetricDifference(results.map(\.scenario))
    #expect(lost.isEmpty, "\(errors)")
    // Cancellation, deadlines and lost connections have reached every handler that would run for an hour.
    #expect(servers.hungCalls.begun > 0)
    await eventually { servers.hungCalls.begun == servers.hungCalls.ended }
    await servers.stop()
  }

  private struct Result: Decodable {
    var scenario: String
    var ok: Bool
    var problem: String?
  }

  private static func writeCertificates(
    _ authority: TestAuthority, _ folder: TemporaryDirectory
  ) throws {
    try folder.write("authority.pem", text: authority.certificatePEM)
    let foreign = try #require(Identity(cluster: "other", role: .master, node: "node-1"))
    for (name, credentials) in [
      ("client", try authority.credentials(.master, "node-1")),
      ("foreign", try authority.credentials(for: foreign)),
    ] {
      try folder.write("\(name).pem", text: credentials.certificatePEM)
      try folder.write("\(name).key", text: credentials.privateKeyPEM)
    }
  }
}
