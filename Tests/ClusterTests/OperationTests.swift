import Foundation
import TestSupport
import Testing

/// What an operator does with daemons that run; in one suite with what an operator sees, since one more cluster at
/// the same time would be too much for a small machine.
extension InspectionTests {
  @Test func oneUploadIsFollowedThroughAllRoles() async throws {
    try await TestCluster.run(slaves: 4) { cluster in
      let folder = try await cluster.phantoms(1)
      let uploaded = try await cluster.run(
        ["upload", folder, "--recursive"], environment: ["SFMEDIR_TRACE": "1"])
      #expect(uploaded.status == 0, "\(uploaded.errors)")
      // Slaves write the line when the call has ended, which may be after the answer upstream.
      let stored = try audit(cluster, "mo-1").filter { $0.contains("ImageOwner/StoreImage") }
      #expect(stored.count == 1)
      let trace = try #require(
        stored.first?.split(separator: " ").first { $0.hasPrefix("trace=") })
      #expect(trace.count == "trace=".count + 32)
      try await cluster.wait {
        let put = masters(cluster)
        let shadows = ["scs-1", "scs-2", "scs-3", "scs-4"].flatMap {
          (try? audit(cluster, $0)) ?? []
        }
        return put.contains { $0.contains("MasterCloud/PutImage") && $0.contains(trace) }
          && shadows.filter { $0.contains("PutShadow") && $0.contains(trace) }.count >= 3
      }
      let line = try #require(
        masters(cluster).first { $0.contains("MasterCloud/PutImage") && $0.contains(trace) })
      #expect(line.contains("caller=sfmedir://dev/mo/mo-1"), "\(line)")

      // Without it there is none.
      let other = try await cluster.phantoms(1, seed: 2)
      #expect(try await cluster.run(["upload", other, "--recursive"]).status == 0)
      let lines = try audit(cluster, "mo-1").filter { $0.contains("ImageOwner/StoreImage") }
      #expect(lines.count == 2)
      #expect(lines.last?.contains("trace=") == false)
    }
  }

  /// What both masters have to say: either may lead.
  private func masters(_ cluster: TestCluster) -> [String] {
    ((try? audit(cluster, "mcs-1")) ?? []) + ((try? audit(cluster, "mcs-2")) ?? [])
  }

  private func audit(_ cluster: TestCluster, _ node: String) throws -> [String] {
    try cluster.log(node).split(separator: "\n").map(String.init).filter {
      $0.contains("audit: ")
    }
  }

  @Test func everyDaemonLoadsItsCertificatesAgainOnSIGHUP() async throws {
    try await TestCluster.run(slaves: 3) { cluster in
      let first = try await cluster.phantoms(2)
      let ids = try await cluster.upload(first)
      let nodes = [
        "kce-1", "mcs-1", "mcs-2", "witness-1", "mo-1", "mu-1", "scs-1", "scs-2", "scs-3",
      ]
      for node in nodes { try cluster.signal(node, SIGHUP) }
      try await cluster.wait {
        nodes.allSatisfy { node in
          (try? cluster.log(node))?.contains("notice   reloaded") == true
        }
      }
      for node in nodes {
        let line = try cluster.log(node).split(separator: "\n").first {
          $0.contains("certificates loaded again")
        }
        #expect(line?.contains("not_after=") == true, "\(node)")
        #expect(line?.contains("certificate=\(node == "kce-1" ? "new" : "unchanged")") == true)
      }
      for (path, id) in ids { #expect(try await cluster.get(id, like: path).isIdentical) }
      #expect(try await cluster.upload(try await cluster.phantoms(1, seed: 2)).count == 1)

      // One whose files are broken goes on with what it has, and says so.
      let certificate = cluster.state("mo-1") + "/identity/certificate.pem"
      let kept = try Data(contentsOf: URL(fileURLWithPath: certificate))
      try Data("nothing".utf8).write(to: URL(fileURLWithPath: certificate))
      try cluster.signal("mo-1", SIGHUP)
      try await cluster.wait {
        (try? cluster.log("mo-1"))?.contains("the reload failed: what was in use stays") == true
      }
      #expect(try await cluster.upload(try await cluster.phantoms(1, seed: 3)).count == 1)
      try kept.write(to: URL(fileURLWithPath: certificate))
    }
  }
}
