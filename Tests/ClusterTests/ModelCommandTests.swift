import Foundation
import Glibc
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

    static let options = [
      "--split", "group", "--bits", "8,16", "--size", "32", "--depths", "1,1,1,1", "--dims",
      "8,8,8,8", "--epochs", "3", "--adversarial-epochs", "1", "--batch", "8", "--seed", "3",
    ]

    /// - Parameter more: of an option that comes twice, the last counts.
    @discardableResult
    func train(_ more: [String] = []) async throws -> [[String: JSONScalar]] {
      let trained = try await run(
        ["train", "--data", pictures] + Self.options + ["--out", directory.path("run")] + more)
      #expect(trained.status == 0, "\(trained.errors)")
      return trained.lines
    }

    /// The first line, of which values may be lists, and what is said on standard error.
    func object(_ arguments: [String]) async throws -> (
      status: Int32, object: [String: Any], errors: String
    ) {
      let ended = try await runProgram(sfmedir, ["model"] + arguments + ["--json"])
      let line = ended.output.split(separator: 0x0A).first.map { Data($0) } ?? Data()
      return (
        ended.status, (try? JSONSerialization.jsonObject(with: line) as? [String: Any]) ?? [:],
        String(decoding: ended.errors, as: UTF8.self)
      )
    }

    /// Trains until the first epoch is told, and sends a signal then.
    /// - Parameter readsOn: false: nobody is there any more who could read what is said, as when a terminal closes.
    /// - Returns: the exit status.
    func trainUntil(_ signal: Int32, readsOn: Bool, _ more: [String]) throws -> Int32 {
      let process = Process()
      // Whoever runs the tests may ignore signals, as nohup does; a program would inherit that.
      process.executableURL = URL(filePath: "/usr/bin/env")
      process.arguments =
        ["--default-signal", sfmedir, "model", "train", "--data", pictures] + Self.options + more
      let said = Pipe()
      process.standardOutput = said
      process.standardError = said
      // A page and no more, so that the program cannot come to its end before the signal: nobody reads its lines.
      let sizeOfPipe: Int32 = 1031  // F_SETPIPE_SZ, a macro that Swift does not import
      #expect(fcntl(said.fileHandleForWriting.fileDescriptor, sizeOfPipe, 4096) == 4096)
      try process.run()
      // Done by `run` where Foundation does so; twice does no harm.
      try? said.fileHandleForWriting.close()
      let reader = said.fileHandleForReading
      var text = Data()
      while text.firstRange(of: Data("clean   1/200".utf8)) == nil {
        let more = reader.availableData
        if more.isEmpty { break }
        text += more
      }
      #expect(kill(process.processIdentifier, signal) == 0)
      if readsOn { _ = reader.readDataToEndOfFile() } else { try reader.close() }
      process.waitUntilExit()
      return process.terminationReason == .exit ? process.terminationStatus : -1
    }

    func sizeBytes(_ name: String) throws -> Int { try directory.read(name).count }
  }

  @Test func severalLengthsBecomeOneSmallFileAndComeOutAgain() async throws {
    let place = try Workplace()
    let models = try await place.train().filter { $0["type"]?.text == "model" }
    #expect(models.count == 4)
    // No figure without what chance and the pixels alone find.
    for line in models {
      for key in ["map_at_100", "pixel_map_at_100", "shuffled_map_at_100"] {
        #expect(line[key]?.number.map { $0 > 0 && $0 <= 1 } == true, "\(key)")
      }
    }
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

  /// Ctrl-C, `kill`, and a terminal that closes.
  @Test func aSignalEndsATrainingThatGoesOnAsIfNothingHadBeen() async throws {
    let place = try Workplace()
    // More lines than fit into the pipe.
    let epochs = ["--epochs", "200"]
    try await place.train(epochs)
    for (signal, readsOn) in [(SIGINT, true), (SIGTERM, true), (SIGINT, false), (SIGHUP, false)] {
      let name = "broken-\(signal)-\(readsOn)"
      let broken = epochs + ["--out", place.directory.path(name)]
      #expect(try place.trainUntil(signal, readsOn: readsOn, broken) == 130, "\(name)")
      #expect(throws: (any Error).self, "\(name)") {
        try place.directory.read("\(name)/clean-16.safetensors")
      }
      try await place.train(broken + ["--resume"])
      for model in ["clean-8", "clean-16", "adversarial-8", "adversarial-16"] {
        #expect(
          try place.directory.read("\(name)/\(model).safetensors")
            == place.directory.read("run/\(model).safetensors"), "\(name), \(model)")
      }
    }
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
    // The folder knows the picture's class, as whoever gives it with --label: both lead away from the same code.
    let away = try await place.run(command)
    let own = try await place.run(command + ["--label", "no-lesion"])
    #expect(away.status == 0 && own.status == 0)
    #expect(away.lines.first?["l2"]?.number == own.lines.first?["l2"]?.number)
    let other = try await place.run(command + ["--label", "ring-lesion"])
    #expect(other.lines.first?["l2"]?.number != own.lines.first?["l2"]?.number)
  }

  /// What would make figures mean something else is said in them, not only on standard error.
  @Test func figuresOfOtherPicturesSaySo() async throws {
    let place = try Workplace()
    try await place.train()
    let model = place.directory.path("run/clean-16.safetensors")
    let command = ["eval", model, "--attack-steps", "0", "--data"]
    func remarks(_ object: [String: Any]) -> [String] { object["remarks"] as? [String] ?? [] }
    let right = try await place.object(command + [place.pictures])
    #expect(right.status == 0, "\(right.errors)")
    #expect(right.object["map_at_100"] is Double)
    #expect(
      !remarks(right.object).contains { $0.contains("trained on") || $0.contains("began with") })

    let other = place.directory.path("others")
    try FileManager.default.copyItem(atPath: place.pictures, toPath: other)
    try FileManager.default.moveItem(
      atPath: "\(other)/train/no-lesion/3.png", toPath: "\(other)/test/no-lesion/3.png")
    let wrong = try await place.object(
      command + [other, "--markdown", place.directory.path("wrong.md")])
    #expect(wrong.status == 0)
    #expect(remarks(wrong.object).contains { $0.contains("another split") })
    #expect(remarks(wrong.object).contains { $0.contains("this is 'others'") })
    let text = String(decoding: try place.directory.read("wrong.md"), as: UTF8.self)
    #expect(text.contains("this is 'others'"))
    let image = "\(place.pictures)/test/no-lesion/27.png"
    for command in [
      ["compact", model, "--data", other, "--single", "--out", place.directory.path("c")],
      ["attack", image, "--model", model, "--data", other, "--steps", "1"],
    ] {
      #expect(try await remarks(place.object(command).object).contains { $0.contains("others") })
    }

    // A network that learned test pictures of this split, as one of the other split did, passes that on.
    try await place.train(["--split", "random", "--out", place.directory.path("leak")])
    let begin = place.directory.path("leak/clean-16.safetensors")
    let first = ["--bits", "16", "--init", begin, "--out", place.directory.path("heir")]
    try await place.train(first)
    let heir = try await place.object(
      ["eval", place.directory.path("heir/adversarial-16.safetensors")] + command.dropFirst(2)
        + [place.pictures])
    #expect(
      remarks(heir.object).contains { $0.contains("learned from 'pictures' by another split") })
  }

  @Test func nothingIsWrittenOverWhatIsNeeded() async throws {
    let place = try Workplace()
    try await place.train()
    let model = place.directory.path("run/clean-16.safetensors")
    let before = try place.directory.read("run/clean-16.safetensors")
    let image = "\(place.pictures)/test/no-lesion/27.png"
    let both = place.directory.path("both")
    for command in [
      ["eval", model, "--data", place.pictures, "--figures", model],
      ["eval", model, "--data", place.pictures, "--markdown", both, "--plot", both],
      ["attack", image, "--model", model, "--data", place.pictures, "--out", image],
      [
        "attack", image, "--model", model, "--data", place.pictures, "--out", both, "--montage",
        both,
      ],
    ] { #expect(try await place.run(command).status == 64, "\(command)") }
    #expect(try place.directory.read("run/clean-16.safetensors") == before)
    // Before the work, and before a result is printed.
    let nowhere = try await place.run([
      "attack", image, "--model", model, "--data", place.pictures, "--out",
      place.directory.path("nowhere/x.png"),
    ])
    #expect(nowhere.status == 66 || nowhere.status == 74)
    #expect(nowhere.lines.isEmpty)

    // A finished training writes again what is gone of its last stage, the same bytes; the first stage is gone for good.
    let last = try place.directory.read("run/adversarial-8.safetensors")
    try FileManager.default.removeItem(
      atPath: place.directory.path("run/adversarial-8.safetensors"))
    try await place.train(["--resume"])
    #expect(try place.directory.read("run/adversarial-8.safetensors") == last)
    try FileManager.default.removeItem(atPath: model)
    let lost = try await place.run(
      ["train", "--data", place.pictures] + Workplace.options + [
        "--out", place.directory.path("run"), "--resume",
      ])
    #expect(lost.status == 66)
    #expect(lost.errors.contains("train anew"))
  }
}
