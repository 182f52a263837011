import Foundation
import Imaging
import TestSupport
import Testing

/// The commands that make and judge networks, as a person runs them: on a folder of pictures, one after the other.
@Suite(.serialized, .timeLimit(.minutes(5))) struct ModelCommandTests {
  private struct Workplace {
    let directory: TemporaryDirectory
    let sfmedir: String
    var pictures: String { directory.path("pictures") }

    /// Synthetic slices of four classes, six to learn from and two to ask for of each.
    init() throws {
      directory = try TemporaryDirectory("model")
      sfmedir =
        try #require(
          productsFolder(), "the programs are not built: run 'swift build --build-tests' first")
        + "/sfmedir"
      for index in 0..<32 {
        let name = Phantom.phantomClass(index: index).rawValue
        let folder = "\(pictures)/\(index < 24 ? "train" : "test")/\(name)"
        try FileManager.default.createDirectory(
          atPath: folder, withIntermediateDirectories: true)
        try Data(Phantom.pngFile(seed: 7, index: index, side: 32)).write(
          to: URL(filePath: "\(folder)/\(index).png"))
      }
    }

    func run(_ arguments: [String]) async throws -> (
      status: Int32, lines: [[String: JSONScalar]], errors: String
    ) {
      let ended = try await runProgram(sfmedir, ["model"] + arguments + ["--json"])
      return (
        ended.status,
        String(decoding: ended.output, as: UTF8.self).split(separator: "\n").compactMap {
          JSONScalar.object(String($0))
        }, String(decoding: ended.errors, as: UTF8.self)
      )
    }

    func train(_ more: [String] = []) async throws {
      let trained = try await run(
        [
          "train", "--data", pictures, "--split", "group", "--out", directory.path("run"),
          "--bits", "8,16", "--size", "32", "--depths", "1,1,1,1", "--dims", "8,8,8,8",
          "--epochs", "3", "--adversarial-epochs", "1", "--batch", "8", "--seed", "3",
        ] + more)
      #expect(trained.status == 0, "\(trained.errors)")
    }

    func sizeBytes(_ name: String) throws -> Int { try directory.read(name).count }
  }

  @Test func severalLengthsBecomeOneSmallFileAndComeOutAgain() async throws {
    let place = try Workplace()
    try await place.train()
    let parts = ["run/adversarial-8.safetensors", "run/adversarial-16.safetensors"]
    let (joined, single) = (place.directory.path("all"), place.directory.path("one"))
    let data = ["--data", place.pictures]

    let made = try await place.run(
      ["compact"] + parts.map { place.directory.path($0) } + data
        + ["--single", "--out", joined])
    #expect(made.status == 0, "\(made.errors)")
    #expect(made.lines.first?["pictures"]?.number == 32)
    #expect(made.lines.first?["changed"]?.number == 0)
    // The trunk stands there once.
    #expect(try place.sizeBytes("all") < 2 * place.sizeBytes(parts[0]) * 3 / 4)

    // One length out of it, in single precision, codes as the network that was trained does.
    let taken = try await place.run(
      ["compact", joined, "--bits", "16"] + data + ["--single", "--out", single])
    #expect(taken.status == 0, "\(taken.errors)")
    func codes(_ model: String) async throws -> [String?] {
      var codes: [String?] = []
      for index in 24..<32 {
        let name = Phantom.phantomClass(index: index).rawValue
        let found = try await place.run(
          ["attack", "\(place.pictures)/test/\(name)/\(index).png", "--model", model]
            + data + ["--steps", "1"])
        #expect(found.status == 0, "\(found.errors)")
        codes.append(found.lines.first?["code"]?.text)
      }
      return codes
    }
    let expected = try await codes(place.directory.path(parts[1]))
    #expect(expected.allSatisfy { $0?.isEmpty == false })
    #expect(try await codes(single) == expected)

    // Half precision is half as large, and its size is told.
    let half = try await place.run(
      ["compact", joined, "--bits", "16"] + data + ["--allow", "32", "--out", single])
    #expect(half.status == 0, "\(half.errors)")
    #expect(
      half.lines.first?["compact_size_bytes"]?.number == Double(try place.sizeBytes("one")))
    #expect(try place.sizeBytes("one") < place.sizeBytes(parts[1]) * 3 / 4)

    // A length that is not in it, files that were not trained together, no model at all.
    #expect(
      try await place.run(["compact", joined, "--bits", "12"] + data + ["--out", single]).status
        == 65)
    #expect(
      try await place.run(
        [
          "compact", place.directory.path("run/clean-8.safetensors"),
          place.directory.path(parts[1]),
        ] + data + ["--out", single]
      ).status == 65)
    #expect(
      try await place.run(
        ["compact", "\(place.pictures)/train/no-lesion/3.png"] + data + ["--out", single]
      ).status == 65)
  }

  @Test func anAttackIsShown() async throws {
    let place = try Workplace()
    try await place.train()
    let picture = "\(place.pictures)/test/no-lesion/27.png"
    let command = [
      "attack", picture, "--model", place.directory.path("run/clean-16.safetensors"), "--data",
      place.pictures, "-k", "3", "--steps", "20",
    ]
    let towards = try await place.run(
      command + [
        "--towards", "ring-lesion", "--montage", place.directory.path("attack.png"), "--out",
        place.directory.path("changed.png"),
      ])
    #expect(towards.status == 0, "\(towards.errors)")
    let line = try #require(towards.lines.first)
    #expect(line["type"]?.text == "attack")
    #expect(line["towards"]?.text == "ring-lesion")
    let largest = try #require(line["linf"]?.number)
    #expect(largest > 0.9 * 8 / 255 && largest < 8 / 255 + 1e-6)
    let (before, after) = (line["code"]?.text, line["attacked_code"]?.text)
    #expect((line["bits_changed"]?.number == 0) == (before == after))
    for name in ["attack.png", "changed.png"] {
      #expect(try place.directory.read(name).starts(with: [0x89, 0x50, 0x4E, 0x47]), "\(name)")
    }

    // The same seed does the same; a class that is not there is refused.
    let again = try await place.run(command + ["--towards", "ring-lesion"])
    #expect(again.lines.first?["attacked_code"]?.text == after)
    #expect(again.lines.first?["linf"]?.number == largest)
    let unknown = try await place.run(command + ["--towards", "elbow"])
    #expect(unknown.status == 65)
    #expect(unknown.errors.contains("there is no class elbow"))
    #expect(try await place.run(command + ["--label", "ring-lesion"]).status == 0)
  }
}
