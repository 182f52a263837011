import Foundation
import TestSupport
import Testing

/// Two masters and their witness, as an operator handles them.
extension InspectionTests {
  private func voters(_ cluster: TestCluster) async throws -> [[String: JSONScalar]] {
    try await cluster.run(["node", "masters"]).lines.filter { $0["type"]?.text == "voter" }
  }

  private func leader(_ cluster: TestCluster) async throws -> String {
    let lines = try await cluster.run(["node", "masters"]).lines
    return try #require(lines.last { $0["type"]?.text == "consensus" }?["leader"]?.text)
  }

  @Test func leadershipIsHandedOver() async throws {
    try await TestCluster.run(slaves: 3) { cluster in
      #expect(
        try await voters(cluster).map { $0["node"]?.text } == ["mcs-1", "mcs-2", "witness-1"])
      let first = try await leader(cluster)
      let second = first == "mcs-1" ? "mcs-2" : "mcs-1"
      // Each answer says who leads then; a busy machine may elect another one right after.
      func transfer(_ arguments: [String]) async throws -> String? {
        let outcome = try await cluster.run(["node", "transfer"] + arguments)
        #expect(outcome.status == 0, "\(outcome.errors)")
        return outcome.lines.last?["leader"]?.text
      }
      #expect(try await transfer([second]) == second)
      #expect(try await transfer([first]) == first)
      #expect(try await transfer([]) != nil)
      _ = try await transfer([first])
      // The witness leads for nobody; nobody has that name.
      #expect(try await cluster.run(["node", "transfer", "witness-1"]).status == 66)
      #expect(try await cluster.run(["node", "transfer", "mcs-9"]).status == 66)
      #expect(try await cluster.upload(try await cluster.phantoms(2)).count == 2)
    }
  }

  /// With nobody left to lead it, a master answers those who allow its answers an age, and nobody else.
  @Test func aMasterThatIsLeftAloneAnswersWhatMayBeOld() async throws {
    try await TestCluster.run(slaves: 3) { cluster in
      let folder = try await cluster.phantoms(3)
      let ids = try await cluster.upload(folder)
      let leading = try await leader(cluster)
      let left = leading == "mcs-1" ? "mcs-2" : "mcs-1"
      // The other one has what was stored as soon as the voters say so.
      while !(try await voters(cluster).allSatisfy { $0["behind"]?.number == 0 }) {
        try await Task.sleep(for: .milliseconds(20))
      }
      try await cluster.kill(leading)
      try await cluster.kill("witness-1")
      #expect(try await cluster.run(["ls", "--all", "--timeout", "3"]).status != 0)
      let listed = try await cluster.run(["ls", "--all", "--max-age", "600"])
      #expect(listed.status == 0, "\(left): \(listed.errors)")
      #expect(listed.lines.filter { $0["type"]?.text == "image" }.count == ids.count)
      let picture = try #require(ids.keys.first)
      let found = try await cluster.run(["query", picture, "-k", "2", "--max-age", "600"])
      #expect(found.status == 0, "\(found.errors)")
      #expect(found.lines.filter { $0["type"]?.text == "result" }.count == 2)
      let id = try #require(ids[picture])
      let file = cluster.directory.path("original")
      let got = try await cluster.run(["get", id, "-o", file, "--max-age", "600"])
      #expect(got.status == 0, "\(got.errors)")
      // As young as that nobody can say.
      #expect(
        try await cluster.run(["ls", "--all", "--max-age", "0.1", "--timeout", "3"]).status != 0)
    }
  }

  /// A leader that is told to stop has another one lead before it goes.
  @Test func aLeaderThatStopsHandsOver() async throws {
    try await TestCluster.run(slaves: 3) { cluster in
      let first = try await leader(cluster)
      let second = first == "mcs-1" ? "mcs-2" : "mcs-1"
      try cluster.signal(first, SIGTERM)
      try await cluster.wait { (try? cluster.log(first))?.contains("notice   stopped") == true }
      let lines = try cluster.log(first).split(separator: "\n")
      let stopping = try #require(lines.firstIndex { $0.contains("notice   stopping") })
      #expect(lines[stopping...].contains { $0.contains("leadership leader=\(second)") })
      #expect(try await leader(cluster) == second)
    }
  }

  /// Its disk is gone: a node of another name and address takes its place, and leads when the last old one dies.
  @Test func aLostMasterIsReplaced() async throws {
    try await TestCluster.run(slaves: 4) { cluster in
      let ids = try await cluster.upload(try await cluster.phantoms(4))
      let staying = try await leader(cluster)
      let lost = staying == "mcs-1" ? "mcs-2" : "mcs-1"
      try await cluster.kill(lost)
      try FileManager.default.removeItem(atPath: cluster.state(lost))
      // Under its old name it must not begin anew: it has promised what it does not know any more.
      let old = "dev/config/\(lost).toml"
      #expect(
        try await cluster.run(program: "sfmedir-mcs", ["--config", cluster.directory.path(old)])
          != 0)

      let oldText = String(decoding: try cluster.directory.read(old), as: UTF8.self)
      let oldAddress = try #require(
        oldText.split(separator: "\n").first { $0.hasPrefix("listen") }?.split(separator: "\"").last
      )
      let address = "127.0.0.1:\(try freePort())"
      let text = oldText.replacingOccurrences(of: lost, with: "mcs-3")
        .replacingOccurrences(of: String(oldAddress), with: address)
      try cluster.directory.write("dev/config/mcs-3.toml", text: text)
      let configuration = cluster.directory.path("dev/config/mcs-3.toml")
      #expect(
        try await cluster.run(
          program: "sfmedir-kce",
          [
            "token", "--config", cluster.directory.path("dev/config/kce-1.toml"), "--role", "mcs",
            "--node", "mcs-3", "--out", cluster.directory.path("dev/join/mcs-3.join"),
          ]) == 0)
      #expect(
        try await cluster.run(
          program: "sfmedir-mcs", ["--config", configuration, "--initialize", "--join"]) == 0)
      let daemon = try cluster.start(program: "sfmedir-mcs", ["--config", configuration])
      defer {
        daemon.terminate()
        daemon.waitUntilExit()
      }
      let replaced = try await cluster.run([
        "node", "replace", lost, "--with", "mcs-3", "--address", address,
      ])
      #expect(replaced.status == 0, "\(replaced.errors)")
      var isLevel = false
      while !isLevel {
        let new = try await voters(cluster).first { $0["node"]?.text == "mcs-3" }
        isLevel = new?["behind"]?.number == 0
        if !isLevel { try await Task.sleep(for: .milliseconds(50)) }
      }
      #expect(try await voters(cluster).count == 3)
      // Who was told of the old masters only is sent on to the new one.
      #expect(try await cluster.run(["node", "transfer", "mcs-3"]).status == 0)
      #expect(try await leader(cluster) == "mcs-3")
      #expect(try await cluster.run(["ls"]).lines.count { $0["image_id"] != nil } == ids.count)

      // Whoever calls masters is told of the new name, and then the last old one dies.
      for file in ["dev/cli.toml", "dev/config/mu-1.toml"] {
        let text = String(decoding: try cluster.directory.read(file), as: UTF8.self)
        try cluster.directory.write(
          file,
          text: text.replacingOccurrences(of: "\"\(lost)\"", with: "\"mcs-3\"")
            .replacingOccurrences(of: String(oldAddress), with: address))
      }
      let restart = ["dev", "restart", "--dir", cluster.directory.path("dev"), "mu-1"]
      #expect(try await cluster.run(restart).status == 0)
      try await cluster.kill(staying)
      #expect(try await leader(cluster) == "mcs-3")
      for (path, id) in ids { #expect(try await cluster.get(id, like: path).isIdentical) }
    }
  }

  /// A port that nobody listens at right now.
  private func freePort() throws -> UInt16 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let failure = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) != 0 || getsockname(descriptor, $0, &length) != 0
      }
    }
    try #require(!failure)
    return UInt16(bigEndian: address.sin_port)
  }
}
