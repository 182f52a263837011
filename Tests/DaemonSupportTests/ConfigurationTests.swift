import DaemonSupport
import Foundation
import Logging
import RPC
import TestSupport
import Testing

@Suite struct ConfigurationTests {
  private let text = """
    cluster = "hospital"     # a comment
    node = "mcs-1"
    listen = "127.0.0.1:7401"
    state_directory = "/var/lib/sfmedir"
    key_control = "kce.example:7400"
    log_level = "debug"

    [[slaves]]
    node = "scs-1"
    address = "10.0.0.1:7402"
    [[slaves]]
    node = "scs-2"
    address = "10.0.0.2:7402"
    """

  private func failure(_ body: () throws -> Void) -> String {
    do {
      try body()
      return "no error"
    } catch {
      return "\(error)"
    }
  }

  private func load(_ text: String) throws -> CommonConfiguration {
    let file = try ConfigurationFile(path: "/etc/c.toml", text: text)
    let common = try CommonConfiguration(file)
    for slave in try file.tables("slaves") {
      _ = try slave.name("node")
      _ = try slave.address("address")
    }
    try file.finish()
    return common
  }

  @Test func readsWhatIsThere() throws {
    let common = try load(text)
    #expect(
      common
        == CommonConfiguration(
          cluster: "hospital", node: "mcs-1", listen: Address(host: "127.0.0.1", port: 7401),
          stateDirectory: "/var/lib/sfmedir", keyControl: Address(host: "kce.example", port: 7400),
          logLevel: .debug, shutdownGraceSeconds: 20))
    let slaves = try ConfigurationFile(path: "c", text: text).tables("slaves")
    #expect(try slaves.map { try $0.string("node") } == ["scs-1", "scs-2"])
  }

  @Test func unknownKeysAreNamed() throws {
    #expect(
      failure { _ = try load("clusters = \"x\"\n" + text) }
        == "/etc/c.toml:1: there is no setting 'clusters'")
    #expect(
      failure { _ = try load(text + "\nadress = \"x:1\"") }
        == "/etc/c.toml:14: there is no setting 'slaves[1].adress'")
    #expect(
      failure { _ = try load(text + "\n[extra]\na = 1") }
        == "/etc/c.toml:14: there is no setting 'extra'")
  }

  @Test func missingKeysAreNamed() throws {
    #expect(
      failure { _ = try load(text.replacing("node = \"mcs-1\"", with: "")) }
        == "/etc/c.toml: the key 'node' is missing")
    #expect(
      failure { _ = try load(text.replacing("address = \"10.0.0.2:7402\"", with: "")) }
        == "/etc/c.toml: the key 'slaves[1].address' is missing")
  }

  @Test func wrongTypesAndValuesAreNamed() throws {
    let cases: [(String, String, String)] = [
      ("\"hospital\"", "7", "/etc/c.toml:1: 'cluster' has to be a text in quotes, not an integer"),
      (
        "\"hospital\"", "\"Big Hospital\"",
        "/etc/c.toml:1: 'cluster' is 'Big Hospital'; a name is 1 to 63 of a-z, 0-9 and hyphens, "
          + "no hyphen at its ends"
      ),
      (
        "127.0.0.1:7401", "127.0.0.1",
        "/etc/c.toml:3: 'listen' is '127.0.0.1', which is not \"host:port\""
      ),
      (
        "127.0.0.1:7401", "127.0.0.1:74010",
        "/etc/c.toml:3: 'listen' is '127.0.0.1:74010', which is not \"host:port\""
      ),
      (
        "/var/lib", "var/lib",
        "/etc/c.toml:4: 'state_directory' is 'var/lib/sfmedir'; the path has to begin with /"
      ),
      (
        "\"debug\"", "\"loud\"",
        "/etc/c.toml:6: 'log_level' is 'loud'; allowed is one of trace, debug, info, notice, "
          + "warning, error, critical"
      ),
      (
        "log_level = \"debug\"", "shutdown_grace_seconds = 900",
        "/etc/c.toml:6: 'shutdown_grace_seconds' is 900; allowed is 0 to 80"
      ),
      (
        "log_level = \"debug\"", "shutdown_grace_seconds = 1.5",
        "/etc/c.toml:6: 'shutdown_grace_seconds' has to be an integer, not a number with a point"
      ),
    ]
    for (old, new, expected) in cases {
      #expect(failure { _ = try load(text.replacing(old, with: new)) } == expected)
    }
    let file = try ConfigurationFile(path: "c", text: "slaves = 3\nflag = \"yes\"")
    #expect(
      failure { _ = try file.tables("slaves") }
        == "c:1: 'slaves' has to be a list of tables, [[slaves]], not an integer")
    #expect(
      failure { _ = try file.boolean("flag") } == "c:2: 'flag' has to be true or false, not a text")
  }

  @Test func theTablesOfTheRPCAndOfTLS() throws {
    let common = try load(
      text + """

        [tls]
        revocation_list = "/etc/sfmedir/revoked.pem"
        [rpc]
        maximum_connections = 7
        maximum_handshakes = 6
        maximum_running_calls = 5
        maximum_unread_mib = 4
        handshake_seconds = 3
        keepalive_seconds = 2
        slow_reader_seconds = 9
        maximum_connection_age_minutes = 0
        stream_window_kib = 2000
        connection_window_kib = 3000
        event_loops = 2
        busy_poll_microseconds = 0
        """)
    #expect(common.revocationList == "/etc/sfmedir/revoked.pem")
    #expect(common.rpc.eventLoops == 2 && common.rpc.busyPollMicroseconds == 0)
    let server = common.serverConfiguration(logger: CapturedLog().logger)
    #expect(server.address == common.listen && server.cluster == "hospital")
    #expect(server.maximumConnections == 7 && server.maximumHandshakes == 6)
    #expect(server.maximumRunningCalls == 5 && server.maximumUnreadBytes == 4 << 20)
    #expect(server.limits.handshakeMilliseconds == 3000)
    #expect(server.limits.keepaliveMilliseconds == 2000)
    #expect(server.limits.keepaliveTimeoutMilliseconds == 2000)
    #expect(server.limits.slowReaderMilliseconds == 9000)
    #expect(server.limits.maximumAgeMilliseconds == 0)
    #expect(server.limits.streamWindowBytes == 2000 << 10)
    #expect(server.limits.connectionWindowBytes == 3000 << 10)
    #expect(server.interceptors.contains { $0 is AuditInterceptor })
    #expect(server.interceptors.contains { $0 is TracingInterceptor })
  }

  @Test func withoutThemTheRPCsOwnDefaultsHold() throws {
    let common = try load(text)
    let own = ServerConfiguration(address: common.listen, cluster: common.cluster)
    let server = common.serverConfiguration(logger: CapturedLog().logger)
    #expect(common.revocationList == nil && common.rpc.eventLoops == nil)
    #expect(common.rpc.busyPollMicroseconds == Int(EventLoopGroup.defaultBusyPollMicroseconds))
    #expect(server.maximumConnections == own.maximumConnections)
    #expect(server.maximumHandshakes == own.maximumHandshakes)
    #expect(server.maximumRunningCalls == own.maximumRunningCalls)
    #expect(server.maximumUnreadBytes == own.maximumUnreadBytes)
    #expect("\(server.limits)" == "\(own.limits)")
  }

  /// What the examples show as defaults behind "#" are the defaults.
  @Test(arguments: ["kce", "mcs", "mo", "mu", "scs"]) func theExamplesShowTheDefaults(
    _ role: String
  ) throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    let path = root.appendingPathComponent("cluster/config/\(role).toml").path
    let example = try String(contentsOfFile: path, encoding: .utf8)
    let lines = example.split(separator: "\n").map(String.init)
    let start = try #require(lines.firstIndex(of: "#[tls]"))
    // "#key = value" is a default, "# Words" are words.
    let shown = lines[start...].filter { $0.hasPrefix("#") && !$0.hasPrefix("# ") }
    let uncommented = shown.map { String($0.dropFirst()) }.joined(separator: "\n")
    let common = try load(text + "\n" + uncommented)
    #expect(common.revocationList == "/etc/sfmedir/revoked.pem")
    var expected = RPCSettings()
    expected.eventLoops = 2
    #expect(common.rpc == expected)
    #expect(shown.count == 15)
  }

  @Test func mistakesInTheTablesAreNamed() throws {
    let cases: [(String, String)] = [
      ("[rpc]\nmax_connections = 1", "/etc/c.toml:15: there is no setting 'rpc.max_connections'"),
      ("[tls]\ncertificate = \"/x\"", "/etc/c.toml:15: there is no setting 'tls.certificate'"),
      (
        "[rpc]\nmaximum_connections = 0",
        "/etc/c.toml:15: 'rpc.maximum_connections' is 0; allowed is 1 to 1000000"
      ),
      (
        "[rpc]\nstream_window_kib = 1024",
        "/etc/c.toml:15: 'rpc.stream_window_kib' is 1024; allowed is 1088 to 1048576"
      ),
      (
        "[rpc]\nstream_window_kib = 4000\nconnection_window_kib = 3000",
        "/etc/c.toml:16: 'rpc.connection_window_kib' is 3000, less than stream_window_kib, 4000"
      ),
      (
        "[rpc]\nevent_loops = \"two\"",
        "/etc/c.toml:15: 'rpc.event_loops' has to be an integer, not a text"
      ),
      (
        "[tls]\nrevocation_list = \"revoked.pem\"",
        "/etc/c.toml:15: 'tls.revocation_list' is 'revoked.pem'; the path has to begin with /"
      ),
    ]
    for (added, expected) in cases {
      #expect(failure { _ = try load(text + "\n" + added) } == expected)
    }
    #expect(
      failure { _ = try load("rpc = 3\n" + text) }
        == "/etc/c.toml:1: 'rpc' has to be a table, [rpc], not an integer")
  }

  @Test func syntaxErrorsHaveAPlace() throws {
    let found = failure { _ = try load("cluster = \"a\"\nnode = = 3\n") }
    #expect(found.hasPrefix("/etc/c.toml:2:"), "\(found)")
    #expect(failure { _ = try load("a = 1\na = 2") }.hasPrefix("/etc/c.toml:2:"))
    for header in ["[[", "[[[a]]]", "[[=", "[[ ]]", "[", "[]", "[[.a]]", "[[\r\na]]"] {
      #expect(
        failure { _ = try load("a = 1\n  \(header)\n") }.hasPrefix("/etc/c.toml:2:"), "\(header)")
    }
  }

  @Test func unreadableFilesAreNamed() throws {
    let folder = try TemporaryDirectory()
    let missing = folder.path("none.toml")
    #expect(
      failure { _ = try ConfigurationFile(path: missing) }
        == "cannot read the configuration \(missing): No such file or directory")
    #expect(
      failure { _ = try ConfigurationFile(path: folder.path) }
        == "cannot read the configuration \(folder.path): Is a directory")
    // The parser would not see what stands behind the zero byte.
    let zero = try folder.write("zero.toml", text: "a = 1\n\0b = 2")
    #expect(
      failure { _ = try ConfigurationFile(path: zero) }
        == "cannot read the configuration \(zero): it is not UTF-8 text")
    let large = try folder.write("large.toml", [UInt8](repeating: 10, count: 2 << 20))
    #expect(
      failure { _ = try ConfigurationFile(path: large) }
        == "cannot read the configuration \(large): more than 1048576 bytes")
  }

  @Test func hostileBytesAreErrors() throws {
    let entropy = SeededEntropy.announced()
    let valid = Array(text.utf8)
    for _ in 0..<20_000 {
      var bytes = valid
      for _ in 0...entropy.uniform(below: 4) {
        bytes[Int(entropy.uniform(below: UInt64(bytes.count)))] = entropy.bytes(1)[0] | 1
      }
      guard let changed = String(validating: bytes, as: UTF8.self) else { continue }
      // It may still be valid; it may not crash.
      _ = try? load(changed)
    }
    let deep = String(repeating: "[", count: 100_000)
    #expect(throws: ConfigurationError.self) {
      try ConfigurationFile(path: "c", text: "a = \(deep)")
    }
  }
}
