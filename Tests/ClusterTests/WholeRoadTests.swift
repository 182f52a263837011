import Base
import Foundation
import TestSupport
import Testing

/// Real processes take seconds: one after another, or they starve each other on a small machine.
@Suite(.serialized, .timeLimit(.minutes(5))) struct WholeRoadTests {
  @Test func storeFindFetchDelete() async throws {
    try await TestCluster.run(slaves: 5) { cluster in
      let folder = try await cluster.phantoms(8)
      let ids = try await cluster.upload(folder)
      #expect(ids.count == 8)
      for (path, id) in ids {
        let got = try await cluster.get(id, like: path)
        #expect(got.status == 0 && got.isIdentical, "\(path)")
      }

      // Again: nothing is sent, the ids are the same.
      let again = try await cluster.run(["upload", folder, "--recursive"])
      #expect(again.lines.last?["already_stored"]?.number == 8)

      // The picture itself is among the nearest, at distance 0, and comes back whole.
      let query = try #require(ids.keys.sorted().first)
      let results = cluster.directory.path("results")
      let montage = cluster.directory.path("montage.png")
      let found = try await cluster.run(
        ["query", query, "-k", "8", "--out", results, "--montage", montage])
      #expect(found.status == 0, "\(found.errors)")
      let hits = found.lines.filter { $0["image_id"] != nil && $0["distance"] != nil }
      #expect(hits.count == 8)
      #expect(hits.contains { $0["image_id"]?.text == ids[query] && $0["distance"]?.number == 0 })
      let distances = hits.compactMap { $0["distance"]?.number }
      #expect(distances == distances.sorted())
      #expect(try cluster.files(in: results).count == 8)
      let png = try Data(contentsOf: URL(fileURLWithPath: montage))
      #expect(png.starts(with: [0x89, 0x50, 0x4e, 0x47]))

      let removed = try #require(ids[query])
      #expect(try await cluster.run(["rm", removed]).status == 0)
      #expect(try await cluster.get(removed, like: query).status == 66)
      #expect(try await !cluster.run(["ls"]).lines.contains { $0["image_id"]?.text == removed })
      #expect(try await cluster.run(["status"]).status == 0)
    }
  }

  @Test func whatIsNoImageIsRefusedAndStoresNothing() async throws {
    try await TestCluster.run(slaves: 4) { cluster in
      let folder = cluster.directory.path("odd")
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      try cluster.directory.write("odd/text.png", text: "this is no picture")
      try cluster.directory.write("odd/empty.dcm", [])
      let whole = try cluster.files(in: await cluster.phantoms(2))
      for path in whole {
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        let name = "odd/truncated-" + URL(fileURLWithPath: path).lastPathComponent
        try cluster.directory.write(name, Array(bytes.prefix(bytes.count / 2)))
      }
      let outcome = try await cluster.run(["upload", folder, "--recursive"])
      #expect(outcome.status == 1)
      let failures = outcome.lines.filter { $0["status"]?.text == "failed" }
      #expect(failures.count == 4)
      for failure in failures { #expect(failure["error"]?.text?.isEmpty == false) }
      #expect(try await cluster.run(["ls"]).lines.allSatisfy { $0["image_id"] == nil })
      // A single one: its own exit code.
      #expect(try await cluster.run(["upload", folder + "/text.png"]).status == 65)
    }
  }

  @Test func aKilledMasterForgetsNothingItAcknowledged() async throws {
    try await TestCluster.run(slaves: 5) { cluster in
      let first = try await cluster.phantoms(6, seed: 2)
      let ids = try await cluster.upload(first)
      try await cluster.kill("mcs-1")
      // The other one goes on at once.
      #expect(try await cluster.run(["ls"]).lines.count { $0["image_id"] != nil } == 6)
      let second = try await cluster.upload(try await cluster.phantoms(3, seed: 3))
      #expect(second.count == 3)
      try await cluster.kill("mcs-2")
      #expect(try await cluster.run(["ls"]).status != 0)
      // The one that was away longer knows less: it has to learn from the witness before it leads.
      let restart = ["dev", "restart", "--dir", cluster.directory.path("dev")]
      #expect(try await cluster.run(restart + ["mcs-1"]).status == 0)
      let all = ids.map { ($0, $1) } + second.map { ($0, $1) }
      for (path, id) in all { #expect(try await cluster.get(id, like: path).isIdentical) }
      #expect(try await cluster.upload(try await cluster.phantoms(3, seed: 4)).count == 3)
      #expect(try await cluster.run(restart + ["mcs-2"]).status == 0)
      for (path, id) in all { #expect(try await cluster.get(id, like: path).isIdentical) }
    }
  }

  @Test func aFlippedBitIsFoundNamedAndWorkedAround() async throws {
    try await TestCluster.run(slaves: 5, threshold: 3, shadows: 5) { cluster in
      let ids = try await cluster.upload(try await cluster.phantoms(4))
      try cluster.corrupt("scs-2")
      for (path, id) in ids { #expect(try await cluster.get(id, like: path).isIdentical) }
      // Three of five are asked at random: until the damaged one was, chance decides.
      func logs() throws -> String { try cluster.log("mcs-1") + cluster.log("mcs-2") }
      for _ in 0..<40 where try !logs().contains("corrupt shadow") {
        for (path, id) in ids { #expect(try await cluster.get(id, like: path).isIdentical) }
      }
      let log = try logs()
      #expect(log.contains("corrupt shadow"))
      #expect(
        log.split(separator: "\n").filter { $0.contains("corrupt shadow") }.allSatisfy {
          $0.contains("scs-2")
        })
    }
  }

  /// Table 13 of the paper: 10 slaves, r = 6: all images up to 40 % of the shadows lost, none at 50 %.
  @Test(arguments: ["missing", "corrupt"]) func table13(_ loss: String) async throws {
    // With care on, what is corrupt would be mended as soon as it is read.
    try await TestCluster.run(slaves: 10, threshold: 6, shadows: 10, options: ["--no-care"]) {
      cluster in
      let ids = try await cluster.upload(try await cluster.phantoms(3, seed: 13))
      #expect(ids.count == 3)
      for lost in 0...5 {
        if lost > 0 {
          if loss == "missing" {
            try await cluster.kill("scs-\(lost)")
          } else {
            try cluster.corrupt("scs-\(lost)")
          }
        }
        for (path, id) in ids {
          let got = try await cluster.get(id, like: path)
          #expect(got.isIdentical == (lost <= 4), "\(lost) of 10 \(loss): exit code \(got.status)")
          if lost == 5 { #expect(got.status != 0) }
        }
      }
    }
  }
}

extension TestCluster {
  /// Flips one bit in the payload of every record of a slave's segments.
  func corrupt(_ node: String) throws {
    let folder = state(node) + "/segments"
    for name in try FileManager.default.contentsOfDirectory(atPath: folder)
    where name.hasSuffix(".segment") {
      let file = try #require(FileHandle(forUpdatingAtPath: "\(folder)/\(name)"))
      defer { try? file.close() }
      var bytes = [UInt8](try file.readToEnd() ?? Data())
      // Shadows are far larger than headers: a flip every 2 KiB hits each of them in its payload.
      for offset in stride(from: 3000, to: bytes.count - 64, by: 2048) { bytes[offset] ^= 0x10 }
      try file.seek(toOffset: 0)
      try file.write(contentsOf: Data(bytes))
    }
  }
}
