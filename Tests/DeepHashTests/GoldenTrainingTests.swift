import CKernels
import DeepHash
import Foundation
import Testing

/// Losses, gradients, attacks and optimizer steps against PyTorch in double precision.
@Suite struct GoldenTrainingTests {
  /// A golden case with what its training steps start from.
  private struct Case {
    let golden: GoldenCase
    let count: Int
    let labels: [Int]
    let targets: [Int]
    let codes: [[Float]]
    let buffer: CodeBuffer
    let adversarial: [Float]

    init(_ name: String) throws {
      golden = try GoldenCase(name)
      count = golden.input.shape[0]
      labels = (0..<count).map { $0 % 3 }
      targets = labels.map { ($0 + 1) % 3 }
      let values = try golden.file.tensor(named: "U")
      let bits = golden.model.configuration.bits
      buffer = CodeBuffer(
        values: values.elements, bits: bits, labels: (0..<12).map { $0 % 3 }, classes: 3)
      codes = buffer.mainstay
      adversarial = try golden.file.tensor(named: "xadv").elements
    }

    func network(lanes: Int) throws -> TrainableNetwork {
      try TrainableNetwork(
        golden.model, height: golden.input.shape[2], width: golden.input.shape[3], lanes: lanes)
    }

    func golden(_ name: String) throws -> [Float] {
      try golden.file.tensor(named: name).elements
    }

    /// The losses of the clean and the adversarial images, and all gradients.
    func gradient(_ network: TrainableNetwork) -> (
      terms: HashLoss.Terms, parameters: [Float], images: [Float]
    ) {
      var terms = HashLoss.Terms()
      let (_, parameters, images) = network.gradient(
        images: golden.input.elements + adversarial
      ) { outputs in
        let half = outputs.count / 2
        let loss = HashLoss().evaluate(
          outputs: Array(outputs[..<half]), adversarialOutputs: Array(outputs[half...]),
          labels: labels, codes: codes, buffer: buffer)
        terms = loss.terms
        return loss.gradient + loss.adversarialGradient
      }
      return (terms, parameters, Array(images[..<golden.input.count]))
    }
  }

  @Test(arguments: GoldenCase.names)
  func contextAwareCodesAgree(_ name: String) throws {
    let golden = try Case(name)
    let bytes = try golden.golden.file.bytes(named: "M")
    #expect(golden.codes.joined().map { Int8($0) } == bytes.map { Int8(bitPattern: $0) })
  }

  @Test(arguments: GoldenCase.names, [1, 2, 3])
  func lossesAndGradientsAgree(_ name: String, lanes: Int) throws {
    let golden = try Case(name)
    let network = try golden.network(lanes: lanes)
    let (terms, parameters, images) = golden.gradient(network)
    for (term, value) in [
      ("ori", terms.original), ("adl", terms.adversarial), ("quant", terms.quantization),
      ("bit", terms.balance), ("total", terms.total),
    ] {
      let expected = Double(try golden.golden("loss.\(term)")[0])
      #expect(abs(value - expected) <= 2e-6, "\(term): \(value), not \(expected)")
    }
    let input = Deviation(images, from: try golden.golden("grad.input"))
    #expect(input.isGradientWithinTolerance, "input: \(input)")
    for entry in network.layout.entries {
      let deviation = Deviation(
        Array(parameters[entry.range]), from: try golden.golden("grad.\(entry.name)"))
      #expect(deviation.isGradientWithinTolerance, "\(entry.name): \(deviation)")
    }
  }

  @Test(arguments: GoldenCase.names)
  func optimizerStepsAgree(_ name: String) throws {
    let golden = try Case(name)
    let network = try golden.network(lanes: 2)
    var optimizer = Optimizer(.adamW, layout: network.layout, weightDecay: 0.05)
    for step in 1...3 {
      let (terms, gradient, _) = golden.gradient(network)
      let loss = Double(try golden.golden("loss.total.step\(step)")[0])
      #expect(abs(terms.total - loss) <= 5e-6, "step \(step): \(terms.total), not \(loss)")
      network.step(&optimizer, gradient: gradient, rate: 1e-3)
      guard step != 2 else { continue }
      let parameters = network.parameters
      for entry in network.layout.entries {
        let deviation = Deviation(
          Array(parameters[entry.range]), from: try golden.golden("adamw\(step).\(entry.name)"))
        #expect(
          deviation.largest <= 1e-4 && deviation.relative <= 1e-5,
          "step \(step), \(entry.name): \(deviation)")
      }
    }
  }

  @Test(arguments: GoldenCase.names, ["nontargeted", "targeted"])
  func attacksAgree(_ name: String, kind: String) throws {
    let golden = try Case(name)
    let network = try golden.network(lanes: 1)
    let isTargeted = kind == "targeted"
    let labels = isTargeted ? golden.targets : golden.labels
    let bits = golden.buffer.bits
    let clean = golden.golden.input.elements
    var start = clean
    for step in 0..<3 {
      var objective = 0.0
      let gradient = network.imageGradient(images: start) { outputs in
        let share = 1 / Double(outputs.count)
        return outputs.indices.map { at in
          let code = Double(golden.codes[labels[at / bits]][at % bits])
          let h = tanh(Double(outputs[at]))
          objective += share * h * code
          return Float(share * code * (1 - h * h))
        }
      }
      let expected = Double(try golden.golden("pgd.\(kind).J\(step)")[0])
      #expect(abs(objective - expected) <= 2e-6, "step \(step): \(objective), not \(expected)")
      let deviation = Deviation(gradient, from: try golden.golden("pgd.\(kind).grad\(step)"))
      #expect(deviation.relative <= 2e-5, "step \(step): \(deviation)")
      var moved = start
      sfmedir_projected_step(
        clean, gradient, (isTargeted ? 2 : -2) / 255, 8 / 255, &moved, moved.count)
      start = try golden.golden("pgd.\(kind).x\(step + 1)")
      let off = zip(moved, start).count { abs($0 - $1) > 1e-6 }
      #expect(Double(off) <= 1e-3 * Double(start.count), "step \(step): \(off) pixels differ")
    }
  }
}

/// Metrics in exact fractions.
@Suite struct GoldenMetricTests {
  private struct Value: Decodable { let value: Double }

  private struct Vectors: Decodable {
    struct Ranked: Decodable {
      let relevance: [Int]
      let relevant: Int
      let at: [String: [String: Value]]

      enum CodingKeys: String, CodingKey {
        case relevance = "rel"
        case relevant = "R"
        case at
      }
    }
    struct Tied: Decodable {
      let groups: [[Int]]
      let relevant: Int
      let at: [String: [String: Value]]

      enum CodingKeys: String, CodingKey {
        case groups = "groups_t_rho"
        case relevant = "R"
        case at
      }
    }
    struct Codes: Decodable {
      struct Query: Decodable {
        let code: UInt64
        let label: Int
        let tieAware: Value

        enum CodingKeys: String, CodingKey {
          case code, label
          case tieAware = "AP_tie_ir"
        }
      }
      let databaseCodes: [UInt64]
      let databaseLabels: [Int]
      let queries: [Query]

      enum CodingKeys: String, CodingKey {
        case databaseCodes = "database_codes"
        case databaseLabels = "database_labels"
        case queries
      }
    }
    struct Mainstay: Decodable {
      struct Part: Decodable {
        let codes: [[Int]]
        let labels: [Int]
        let classCodes: [[Int]]?
        let firstClassCode: [Int]?

        enum CodingKeys: String, CodingKey {
          case codes, labels
          case classCodes = "M"
          case firstClassCode = "M0"
        }
      }
      let codes: [[Int]]
      let labels: [Int]
      let classCodes: [[Int]]
      let oneClass: Part
      let allTied: Part

      enum CodingKeys: String, CodingKey {
        case codes, labels
        case classCodes = "M"
        case oneClass = "one_class"
        case allTied = "all_tied"
      }
    }
    let ranked: [Ranked]
    let tied: [Tied]
    let codes: Codes
    let mainstay: Mainstay
  }

  private func vectors() throws -> Vectors {
    try JSONDecoder().decode(Vectors.self, from: Data(Fixture.bytes("metrics.json")))
  }

  @Test func rankedAveragePrecisionsAgree() throws {
    var seen = 0
    for ranked in try vectors().ranked {
      for (text, expected) in ranked.at {
        let k = try #require(Int(text))
        let relevance = ranked.relevance.map { $0 == 1 }
        for (name, convention) in [
          ("AP_hash", AveragePrecision.Convention.hashing), ("AP_ir", .retrieval),
        ] {
          let value = AveragePrecision.ranked(
            relevance, at: k, relevant: ranked.relevant, convention)
          let wanted = try #require(expected[name]).value
          #expect(abs(value - wanted) < 1e-12, "\(name)@\(k) of \(ranked.relevance)")
          seen += 1
        }
      }
    }
    #expect(seen == 100)
  }

  @Test func tiedAveragePrecisionsAgree() throws {
    var seen = 0
    for tied in try vectors().tied {
      for (text, expected) in tied.at {
        let k = try #require(Int(text))
        let value = AveragePrecision.tied(
          tied.groups.map { ($0[0], $0[1]) }, at: k, relevant: tied.relevant)
        let wanted = try #require(expected["AP_tie_ir"]).value
        #expect(abs(value - wanted) < 1e-12, "@\(k) of \(tied.groups)")
        seen += 1
      }
    }
    #expect(seen == 50)
  }

  @Test func scoresOfCodesAgree() throws {
    let codes = try vectors().codes
    let database = LabelledCodes(
      codes: codes.databaseCodes.map { HashCode(bits: $0, length: 8) },
      labels: codes.databaseLabels)
    for query in codes.queries {
      let scores = RetrievalScores(
        queries: LabelledCodes(
          codes: [HashCode(bits: query.code, length: 8)], labels: [query.label]),
        database: database, ks: [5, 12])
      let cut = try #require(scores.cut(5))
      #expect(abs(cut.tieAware - query.tieAware.value) < 1e-12)
      // The whole database: all that is relevant has been found, whatever the order of ties.
      let all = try #require(scores.cut(12))
      #expect(all.recall == 1)
      #expect(abs(all.precision - 4.0 / 12) < 1e-12)
      // From the nearest code on: within less there is nothing to be right or wrong.
      let distances = codes.databaseCodes.map { ($0 ^ query.code).nonzeroBitCount }
      #expect(scores.radii.map(\.radius) == Array(try #require(distances.min())...8))
      let widest = try #require(scores.radii.last)
      #expect(widest.recall == 1)
      #expect(abs(widest.precision - 4.0 / 12) < 1e-12)
    }
  }

  @Test func scoresAgreeWithRankingByHand() {
    var generator = SeededGenerator(seed: 6)
    func codes(_ count: Int) -> LabelledCodes {
      // Distances that never tie: the order of ties is then of no matter.
      LabelledCodes(
        codes: (0..<count).map { _ in HashCode(bits: generator.next(), length: 64) },
        labels: (0..<count).map { _ in Int.random(in: 0..<3, using: &generator) })
    }
    let (queries, database) = (codes(20), codes(60))
    let scores = RetrievalScores(queries: queries, database: database, ks: [1, 7, 60])
    for k in [1, 7, 60] {
      var sums = (tied: 0.0, precision: 0.0, recall: 0.0)
      for (query, label) in zip(queries.codes, queries.labels) {
        let order = database.codes.indices.sorted {
          database.codes[$0].hammingDistance(to: query)
            < database.codes[$1].hammingDistance(to: query)
        }
        let distances = Dictionary(grouping: order) {
          database.codes[$0].hammingDistance(to: query)
        }
        let relevant = database.labels.count { $0 == label }
        let hits = order.prefix(k).count { database.labels[$0] == label }
        // Ties that lie across the cut could go either way: they are left to the expected value.
        sums.tied += AveragePrecision.tied(
          distances.sorted { $0.key < $1.key }.map { _, group in
            (group.count, group.count { database.labels[$0] == label })
          }, at: k, relevant: relevant)
        sums.precision += Double(hits) / Double(k)
        sums.recall += Double(hits) / Double(relevant)
      }
      guard let cut = scores.cut(k) else {
        Issue.record("no cut at \(k)")
        continue
      }
      #expect(abs(cut.tieAware - sums.tied / 20) < 1e-12)
      // Of 64 bits few distances tie.
      #expect(abs(cut.precision - sums.precision / 20) < (k == 60 ? 1e-12 : 0.1))
      #expect(abs(cut.recall - sums.recall / 20) < (k == 60 ? 1e-12 : 0.05))
      #expect(cut.retrieval <= cut.hashing + 1e-12)
      #expect(abs(cut.retrieval - cut.tieAware) < 0.1)
    }
    // Codes that are the classes: everything is found, by every measure.
    let perfect = LabelledCodes(
      codes: (0..<30).map {
        HashCode(bits: $0 % 3 == 0 ? 0 : $0 % 3 == 1 ? 0xFF : 0xFF00, length: 16)
      },
      labels: (0..<30).map { Int($0 % 3) })
    let best = RetrievalScores(queries: perfect, database: perfect, ks: [10])
    for value in [
      best.cuts[0].hashing, best.cuts[0].retrieval, best.cuts[0].tieAware, best.cuts[0].precision,
      best.cuts[0].recall, best.radii[0].precision, best.radii[0].recall,
    ] { #expect(abs(value - 1) < 1e-12) }
  }

  @Test func pixelsFindTheNearestPicture() {
    let set = TrainerTests.pictures(30)
    let found = NearestPixels(
      set: set, queries: Array(0..<6), database: Array(6..<30), ks: [4, 8])
    // Eight of each class in the database.
    #expect(found.accuracy == 1)
    for cut in found.cuts { #expect(cut.hashing == 1 && cut.precision == 1) }
    #expect(found.cut(4)?.recall == 0.5 && found.cut(8)?.recall == 1)
    #expect(found.cut(8)?.retrieval == 1 && found.cut(8)?.tieAware == 1)
    // Labels that have nothing to do with what is to be seen.
    let misled = TrainingSet(
      labels: (0..<30).map { $0 < 6 ? ($0 + 1) % 3 : $0 % 3 }, classes: set.classes, channels: 1,
      height: 32, width: 32
    ) { number, out in set.withImage(number) { _ = out.initialize(from: $0) } }
    let lost = NearestPixels(
      set: misled, queries: Array(0..<6), database: Array(6..<30), ks: [8])
    #expect(lost.accuracy == 0 && lost.cut(8)?.hashing == 0 && lost.cut(8)?.precision == 0)
    let stopped = NearestPixels(
      set: set, queries: Array(0..<6), database: Array(6..<30), ks: [8], isCancelled: { true })
    #expect(stopped.accuracy == 0)
  }

  @Test func mainstayCodesAgree() throws {
    let mainstay = try vectors().mainstay
    func check(_ codes: [[Int]], _ labels: [Int], _ expected: [[Int]]) {
      let bits = codes[0].count
      let buffer = CodeBuffer(
        values: codes.joined().map { Float($0) }, bits: bits, labels: labels,
        classes: expected.count)
      #expect(buffer.mainstay.map { $0.map { Int($0) } } == expected)
    }
    check(mainstay.codes, mainstay.labels, mainstay.classCodes)
    check(
      mainstay.oneClass.codes, mainstay.oneClass.labels,
      [try #require(mainstay.oneClass.firstClassCode)])
    check(
      mainstay.allTied.codes, mainstay.allTied.labels, try #require(mainstay.allTied.classCodes))
    // A class of which there is nothing: the opposite of all that there is.
    let sums = [[3, -1, 0], [0, 0, 0]]
    #expect(ClassCodes.mainstay(sums: sums, counts: [3, 0])[1] == [-1, 1, 1])
  }
}
