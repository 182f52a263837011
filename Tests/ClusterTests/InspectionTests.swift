import Foundation
import TestSupport
import Testing

/// What an operator sees of a running cluster through `sfmedir rpc`.
@Suite(.serialized, .timeLimit(.minutes(3))) struct InspectionTests {
  @Test func everyDaemonCanBeLookedInto() async throws {
    try await TestCluster.run(slaves: 3) { cluster in
      let methods = try await cluster.run(["rpc", "list"])
      #expect(methods.status == 0, "\(methods.errors)")
      for role in ["kce", "mcs", "mo", "mu", "scs"] {
        let names = methods.lines.filter { $0["role"]?.text == role }.compactMap {
          $0["method"]?.text
        }
        #expect(names.contains("grpc.health.v1.Health/Watch"), "\(role)")
        #expect(names.contains("sfmedir.v1.Reflection/ListMethods"), "\(role)")
        #expect(names.count > 5, "\(role)")
      }

      let described = try await cluster.run(["rpc", "describe", "HasImages"])
      #expect(described.status == 0)
      #expect(described.lines.compactMap { $0["type"]?.text } == ["method", "message", "message"])

      // The node's own certificate decides, whether the configuration or the master knows its address.
      for node in ["kce-1", "mcs-1", "mcs-2", "mo-1", "mu-1", "scs-2"] {
        let health = try await cluster.run(["rpc", "health", "--node", node])
        #expect(health.status == 0, "\(node): \(health.errors)")
        #expect(health.lines.map { $0["node"]?.text } == [node])
        #expect(health.lines.first?["status"]?.text == "SERVING")
      }
      #expect(try await cluster.run(["rpc", "health", "--node", "scs-9"]).status == 66)
      #expect(try await cluster.run(["rpc", "health", "nobody"]).status == 66)

      let status = try await cluster.run(["rpc", "call", "SlaveStatus", "--node", "scs-2"])
      #expect(status.status == 0, "\(status.errors)")
      #expect(status.lines.last?["replies"]?.number == 1)
      // Several offer it; an owner's method is not for operators; no such field; no such method.
      #expect(try await cluster.run(["rpc", "call", "SlaveStatus"]).status == 64)
      #expect(try await cluster.run(["rpc", "call", "HasImages"]).status == 64)
      let refused = try await cluster.run(["rpc", "call", "HasImages", "--node", "mcs-2"])
      #expect(refused.status == 77)
      let wrong = try await cluster.run([
        "rpc", "call", "RotateKey", "--json-in", #"{"kinds":1}"#,
      ])
      #expect(wrong.status == 65)
      #expect(wrong.errors.contains("kinds"))
      #expect(try await cluster.run(["rpc", "call", "Nothing"]).status == 66)

      try await cluster.kill("scs-3")
      let health = try await cluster.run(["rpc", "health"])
      #expect(health.status == 1)
      #expect(
        health.lines.filter { $0["status"]?.text != "SERVING" }.map { $0["node"]?.text } == [
          "scs-3"
        ]
      )
      #expect(try await cluster.run(["rpc", "health", "--node", "scs-3"]).status == 69)
    }
  }

  /// Bytes go in and come back as they were, through methods that the command line knows by reflection only.
  @Test func anImageIsStoredAndFetchedByCallsAlone() async throws {
    try await TestCluster.run(slaves: 3) { cluster in
      let folder = try await cluster.phantoms(1)
      let files = try cluster.files(in: folder)
      let file = try #require(files.first)
      let bytes = try Data(contentsOf: URL(fileURLWithPath: file))
      let stored = try await cluster.run([
        "rpc", "call", "StoreImage", "--bulk-in", file, "--json-in",
        #"{"fileName":"x.png","fileBytes":"\#(bytes.count)"}"#,
      ])
      #expect(stored.status == 0, "\(stored.errors)")
      let listed = try await cluster.run(["ls"])
      let ids = listed.lines.compactMap { $0["image_id"]?.text }
      let id = try #require(ids.first)
      let raw = try #require(Data(hex: id)?.base64EncodedString())
      let out = cluster.directory.path("out")
      let fetched = try await cluster.run([
        "rpc", "call", "ImageUser/GetImage", "--json-in", #"{"imageId":"\#(raw)"}"#, "--bulk-out",
        out,
      ])
      #expect(fetched.status == 0, "\(fetched.errors)")
      #expect(try Data(contentsOf: URL(fileURLWithPath: out)) == bytes)
      #expect(fetched.lines.last?["bulk_bytes"]?.number == Double(bytes.count))
      // A file that is there stays.
      let again = try await cluster.run([
        "rpc", "call", "ImageUser/GetImage", "--json-in", #"{"imageId":"\#(raw)"}"#, "--bulk-out",
        out,
      ])
      #expect(again.status == 74)
    }
  }
}

extension Data {
  fileprivate init?(hex: String) {
    var bytes: [UInt8] = []
    var rest = hex[...]
    while !rest.isEmpty {
      guard let byte = UInt8(rest.prefix(2), radix: 16) else { return nil }
      bytes.append(byte)
      rest = rest.dropFirst(2)
    }
    self.init(bytes)
  }
}
