import Foundation
import TestSupport
import Testing

/// Slaves that go and come back, as an operator sees it.
extension InspectionTests {
  @Test func aDrainedAndALostSlaveLeaveEveryImageWhole() async throws {
    try await TestCluster.run(
      slaves: 6, threshold: 2, shadows: 4, options: ["--repair-after", "600"]
    ) { cluster in
      let ids = try await cluster.upload(try await cluster.phantoms(12, seed: 4))
      let id = try #require(ids.values.first)
      let before = try await cluster.run(["why", id, "--verify"])
      #expect(before.status == 0, "\(before.errors)")
      #expect(before.lines.filter { $0["type"]?.text == "shadow" }.count == 4)
      #expect(before.lines.last?["losses_survived"]?.number == 2)

      let drained = try await cluster.run(["node", "drain", "scs-2", "--wait"])
      #expect(drained.status == 0, "\(drained.errors)")
      #expect(drained.lines.last?["placed_shadows"]?.number == 0)

      try await cluster.kill("scs-5")
      let lost = try await cluster.run(["node", "replace", "scs-5", "--wait"])
      // With two of six gone every image has a shadow on each of the other four.
      #expect(lost.status == 0, "\(lost.errors)")
      let listed = try await cluster.run(["endangered"])
      #expect(listed.status == 0)
      #expect(listed.lines.last?["images"]?.number == 0)
      for id in ids.values {
        let why = try await cluster.run(["why", id, "--verify"])
        #expect(why.status == 0, "\(why.errors)")
      }

      // One more, and nobody is left who could take its shadows: said, by id.
      try await cluster.kill("scs-1")
      #expect(try await cluster.run(["node", "replace", "scs-1"]).status == 0)
      let endangered = try await cluster.run(["endangered"])
      #expect(endangered.status == 1)
      #expect(endangered.lines.last?["images"]?.number == 12)
      #expect(endangered.lines.last?["lost"]?.number == 0)
      #expect(try await cluster.run(["endangered", "--lost"]).status == 0)
      let why = try await cluster.run(["why", id])
      #expect(why.status == 1)
      #expect(why.lines.filter { $0["state"]?.text == "lost" }.count == 1)
      // The drained one comes back, and takes them.
      #expect(try await cluster.run(["node", "activate", "scs-2"]).status == 0)
      try await cluster.waitForRun(["endangered"], status: 0)
      #expect(try await cluster.run(["node", "forget", "scs-1"]).status == 0)
      #expect(try await cluster.run(["node", "forget", "scs-2"]).status == 69)
      #expect(try await cluster.run(["node", "drain", "scs-9"]).status == 66)
      #expect(try await cluster.run(["node", "scrub", "scs-3"]).status == 0)
      for (path, id) in ids { #expect(try await cluster.get(id, like: path).isIdentical) }
    }
  }

  @Test func aQuotaIsHeld() async throws {
    try await TestCluster.run(slaves: 3) { cluster in
      #expect(try await cluster.run(["quota", "set", "mo-1", "1KiB"]).status == 0)
      let folder = try await cluster.phantoms(2)
      let refused = try await cluster.run(["upload", folder])
      #expect(refused.status == 1)
      #expect(refused.lines.contains { $0["reason"]?.text == "QuotaExceeded" })
      #expect(try await cluster.run(["quota", "set", "mo-1", "1GiB"]).status == 0)
      #expect(try await cluster.upload(folder).count == 2)
      let owner = try #require(try await cluster.run(["quota", "list"]).lines.first)
      #expect(owner["images"]?.number == 2)
      #expect(owner["maximum_bytes"]?.number == Double(1 << 30))
    }
  }
}

extension TestCluster {
  /// Runs it again and again until it ends so: other processes tell nobody when they are done.
  func waitForRun(_ arguments: [String], status: Int32) async throws {
    while try await run(arguments).status != status {
      try await Task.sleep(for: .milliseconds(200))
    }
  }
}
