import DeepHash
import HashTraining

/// Evaluations of models as tables of the paper's form, and as lines of JSON.
struct EvaluationTables {
  struct Titled {
    let title: String
    let columns: [Table.Column]
    let rows: [[String]]
    var table: Table {
      var table = Table(columns)
      for row in rows { table.add(row) }
      return table
    }
  }

  let rows: [ModelEvalCommand.Row]
  let dataset: String

  init(_ rows: [ModelEvalCommand.Row], dataset: String) {
    self.rows = rows
    self.dataset = dataset
  }

  private static func fixed(_ value: Double?) -> String {
    value.map { Units.fixed($0, digits: 3) } ?? "-"
  }

  /// Of the tables that have one k.
  static let k = 100

  private func heading(_ row: ModelEvalCommand.Row) -> [String] {
    [
      row.name, row.split.rawValue, "\(row.model.configuration.bits)",
      row.stage ?? "-",
    ]
  }

  private static let head: [Table.Column] = [
    .init("model"), .init("split"), .init("bits", .right), .init("training"),
  ]

  var tables: [Titled] {
    var tables = papersTables
    tables += [
      Titled(
        title: "\(dataset): mAP@\(Self.k), divided by hits (deep hashing's way)",
        columns: Self.head + [
          .init("clean", .right), .init("targeted", .right), .init("wanted label", .right),
          .init("away", .right), .init("by chance", .right), .init("pixels", .right),
          .init("1-nearest pixels", .right),
        ],
        rows: rows.map { row in
          let evaluation = row.evaluation
          return heading(row) + [
            Self.fixed(evaluation.clean.cut(Self.k)?.hashing),
            Self.fixed(evaluation.targeted?.trueLabel.cut(Self.k)?.hashing),
            Self.fixed(evaluation.targeted?.wantedLabel?.cut(Self.k)?.hashing),
            Self.fixed(evaluation.nontargeted?.trueLabel.cut(Self.k)?.hashing),
            Self.fixed(evaluation.shuffled.cut(Self.k)?.hashing),
            Self.fixed(evaluation.pixels?.cut(Self.k)?.hashing),
            Self.fixed(evaluation.pixels?.accuracy),
          ]
        }),
      Titled(
        title:
          "\(dataset): mAP@\(Self.k), divided as information retrieval does; = over all orders of ties",
        columns: Self.head + [
          .init("clean", .right), .init("clean =", .right), .init("targeted", .right),
          .init("targeted =", .right), .init("away", .right), .init("by chance", .right),
          .init("pixels", .right),
        ],
        rows: rows.map { row in
          let evaluation = row.evaluation
          let (clean, targeted) = (
            evaluation.clean.cut(Self.k), evaluation.targeted?.trueLabel.cut(Self.k)
          )
          return heading(row) + [
            Self.fixed(clean?.retrieval), Self.fixed(clean?.tieAware),
            Self.fixed(targeted?.retrieval), Self.fixed(targeted?.tieAware),
            Self.fixed(evaluation.nontargeted?.trueLabel.cut(Self.k)?.retrieval),
            Self.fixed(evaluation.shuffled.cut(Self.k)?.retrieval),
            Self.fixed(evaluation.pixels?.cut(Self.k)?.retrieval),
          ]
        }),
    ]
    tables.append(
      cutTable("P@k of clean queries", \.precision) { $0.clean.cuts })
    tables.append(
      cutTable("R@k of clean queries", \.recall) { $0.clean.cuts })
    if rows.contains(where: { $0.evaluation.targeted != nil }) {
      tables.append(
        cutTable(
          "P@k under the targeted attack, by the true label (pixels: not attacked)", \.precision
        ) { $0.targeted?.trueLabel.cuts ?? [] })
    }
    return tables
  }

  // MARK: - As the paper has them

  private static let papersKs = [100, 200, 500, 1000]

  /// For each split: mAP of clean queries (the paper's Tables 5 to 7), and of clean and attacked ones (8 to 10), by
  /// training and length of the code; and beside each what pixels and chance find.
  private var papersTables: [Titled] {
    let lengths = Set(rows.map(\.model.configuration.bits)).sorted()
    let columns = lengths.map { Table.Column("\($0) bits", .right) }
    return splits.flatMap { split -> [Titled] in
      let own = rows.filter { $0.split == split && Self.isOfThePaper($0) }
      let stages = Self.stages.filter { stage in own.contains { $0.stage == stage } }
      if stages.isEmpty { return [] }
      func cells(
        _ stage: String?, _ k: Int, _ value: (ModelEvaluation) -> RetrievalScores.Cut?
      ) -> [String] {
        lengths.map { length in
          let row = own.first {
            (stage == nil || $0.stage == stage) && $0.model.configuration.bits == length
          }
          return Self.fixed(row.flatMap { value($0.evaluation) }?.hashing)
        }
      }
      let ks = Self.papersKs
      func blocks(
        _ stages: [String?], _ name: (String?) -> String,
        _ value: @escaping (ModelEvaluation, Int) -> RetrievalScores.Cut?
      ) -> [[String]] {
        stages.flatMap { stage in
          ks.map { k in [name(stage), "\(k)"] + cells(stage, k) { value($0, k) } }
        }
      }
      var tables = [
        Titled(
          title: "\(dataset), \(split.rawValue) split: mAP of clean queries",
          columns: [.init("adversarial training"), .init("top k", .right)] + columns,
          rows: blocks(stages, { $0 == "clean" ? "before" : "after" }) { $0.clean.cut($1) }
            + blocks([nil], { _ in "(pixels)" }) { $0.pixels?.cut($1) }
            + blocks([nil], { _ in "(by chance)" }) { $0.shuffled.cut($1) })
      ]
      if own.contains(where: { $0.evaluation.targeted != nil }) {
        let count = own.compactMap { $0.evaluation.targeted?.queries }.max() ?? 0
        tables.append(
          Titled(
            title:
              "\(dataset), \(split.rawValue) split: mAP@\(Self.k) under the targeted attack, \(Units.count(count, "query", "queries"))",
            columns: [.init("queries"), .init("adversarial training")] + columns,
            rows: stages.flatMap { stage -> [[String]] in
              let isAfter = stage == "clean" ? "no" : "yes"
              return [
                ["normal", isAfter]
                  + cells(stage, Self.k) { ($0.targeted?.clean ?? $0.clean).cut(Self.k) },
                ["adversary", isAfter]
                  + cells(stage, Self.k) { $0.targeted?.trueLabel.cut(Self.k) },
              ]
            } + [
              ["normal", "(pixels)"] + cells(nil, Self.k) { $0.pixels?.cut(Self.k) },
              ["normal", "(by chance)"] + cells(nil, Self.k) { $0.shuffled.cut(Self.k) },
            ]))
      }
      return tables
    }
  }

  private static let stages = ["clean", "adversarial"]
  private static func isOfThePaper(_ row: ModelEvalCommand.Row) -> Bool {
    row.stage.map { stages.contains($0) } ?? false
  }

  private var splits: [SplitProtocol] {
    SplitProtocol.allCases.filter { split in rows.contains { $0.split == split } }
  }

  /// A column for each k; below the models what pixels alone and chance find of clean queries.
  private func cutTable(
    _ title: String, _ value: KeyPath<RetrievalScores.Cut, Double>,
    cuts: (ModelEvaluation) -> [RetrievalScores.Cut]
  ) -> Titled {
    let ks = rows.first?.evaluation.clean.cuts.map(\.k) ?? []
    func cells(_ cuts: [RetrievalScores.Cut]) -> [String] {
      ks.map { k in Self.fixed(cuts.first { $0.k == k }?[keyPath: value]) }
    }
    let models = rows.map { heading($0) + cells(cuts($0.evaluation)) }
    let baselines = baselines(rows).map { [$0.name, $0.split, "-", "-"] + cells($0.cuts) }
    return Titled(
      title: "\(dataset): \(title)", columns: Self.head + ks.map { .init("\($0)", .right) },
      rows: models + baselines)
  }

  private typealias Baseline = (name: String, split: String, cuts: [RetrievalScores.Cut])

  /// What needs no training, once for the same pictures: pixels, and the first model's codes exchanged at random.
  private func baselines(_ rows: [ModelEvalCommand.Row]) -> [Baseline] {
    var found: [Baseline] = []
    var known: Set<String> = []
    for row in rows where known.insert(row.pictures).inserted {
      let split = row.split.rawValue
      if let pixels = row.evaluation.pixels { found.append(("(pixels)", split, pixels.cuts)) }
      found.append(("(by chance)", split, row.evaluation.shuffled.cuts))
    }
    return found
  }

  var notes: [String] {
    var notes = rows.map {
      "\($0.name), \($0.model.configuration.bits) bits: \($0.evaluation.queries) queries, \($0.evaluation.database) in the database"
        + ($0.evaluation.targeted.map { ", \($0.queries) attacked" } ?? "")
        + ($0.evaluation.attack.map {
          " in \(Units.count($0.steps, "step")) of \(Units.fixed(Double($0.stepSize) * 255, digits: 0))/255 within "
            + "\(Units.fixed(Double($0.radius) * 255, digits: 0))/255"
        } ?? "")
        + ", classes differ in at least \(ClassCodes.smallestDistance($0.evaluation.classCodes)) bits"
    }
    var cells: Set<String> = []
    for row in rows where Self.isOfThePaper(row) {
      let cell = "\(row.split) \(row.stage ?? "") \(row.model.configuration.bits)"
      if !cells.insert(cell).inserted {
        notes.append(
          "\(row.name), \(row.model.configuration.bits) bits: not in the tables by training, where another one stands"
        )
      }
    }
    var said: Set<String> = []
    for row in rows {
      for remark in row.remarks where said.insert("\(row.path) \(remark)").inserted {
        notes.append("\(row.name): \(remark)")
      }
    }
    if rows.contains(where: { $0.split == .random }) {
      notes.append(
        "the random split leaks: neighbouring slices of one person stand on both sides; read it beside 'pixels'"
      )
    }
    return notes
  }

  private static func cell(_ text: String) -> String {
    printable(text).replacing("|", with: "\\|")
  }

  var markdown: String {
    var text = ""
    for table in tables {
      text +=
        "**\(table.title)**\n\n| "
        + table.columns.map { Self.cell($0.title) }.joined(separator: " | ") + " |\n|"
      text += table.columns.map { $0.alignment == .right ? "---:|" : "---|" }.joined() + "\n"
      for row in table.rows {
        text += "| " + row.map { Self.cell($0) }.joined(separator: " | ") + " |\n"
      }
      text += "\n"
    }
    return text + notes.map { "- \(printable($0))\n" }.joined()
  }

  /// For each split and kind of training a chart of precision over recall and one of precision over k.
  var svg: String {
    var charts: [Chart] = []
    for split in splits {
      let own = rows.filter { $0.split == split }
      var stages: [String?] = []
      for row in own where !stages.contains(row.stage) { stages.append(row.stage) }
      for stage in stages {
        charts += self.charts(
          own.filter { $0.stage == stage },
          "\(dataset), \(split.rawValue) split" + (stage.map { ", \($0) training" } ?? ""))
      }
    }
    return Chart.page(charts)
  }

  private func charts(_ rows: [ModelEvalCommand.Row], _ title: String) -> [Chart] {
    var recall = Chart(
      title: "\(title): precision over recall", horizontal: "recall", vertical: "precision")
    var precision = Chart(
      title: "\(title): precision of the first k", horizontal: "k", vertical: "precision")
    for row in rows {
      let name = "\(row.name), \(row.model.configuration.bits) bits"
      recall.add(name, row.evaluation.clean.radii.map { ($0.recall, $0.precision) })
      precision.add(name, row.evaluation.clean.cuts.map { (Double($0.k), $0.precision) })
      if let targeted = row.evaluation.targeted?.trueLabel {
        recall.add(
          name + ", attacked", targeted.radii.map { ($0.recall, $0.precision) }, as: .dashed)
        precision.add(
          name + ", attacked", targeted.cuts.map { (Double($0.k), $0.precision) }, as: .dashed)
      }
    }
    for baseline in baselines(rows) {
      recall.add(baseline.name, baseline.cuts.map { ($0.recall, $0.precision) }, as: .baseline)
      precision.add(
        baseline.name, baseline.cuts.map { (Double($0.k), $0.precision) }, as: .baseline)
    }
    recall.verticalRange = 0...1
    recall.horizontalRange = 0...1
    precision.verticalRange = 0...1
    return [recall, precision]
  }

  static func line(_ row: ModelEvalCommand.Row, dataset: String) -> JSONObject {
    let evaluation = row.evaluation
    var line: JSONObject = [
      "type": "evaluation", "model": .string(row.path), "model_sha256": .string(row.digest),
      "dataset": .string(dataset),
      "protocol": .string(row.split.rawValue),
      "stage": .string(row.stage ?? ""),
      "bits": JSONValue(row.model.configuration.bits),
      "database": JSONValue(evaluation.database), "queries": JSONValue(evaluation.queries),
    ]
    func add(_ name: String, _ scores: RetrievalScores?) {
      guard let scores else { return }
      for k in [100, 1000] {
        guard let cut = scores.cut(k) else { continue }
        line["\(name)map_at_\(k)"] = .number(cut.hashing)
        line["\(name)map_at_\(k)_retrieval"] = .number(cut.retrieval)
        line["\(name)map_at_\(k)_tie_aware"] = .number(cut.tieAware)
      }
    }
    func add(_ name: String, _ change: ModelEvaluation.Perturbation) {
      line["\(name)linf"] = .number(change.largest)
      line["\(name)l2"] = .number(change.length)
      line["\(name)mse"] = .number(change.meanSquare)
    }
    add("", evaluation.clean)
    add("adversarial_", evaluation.targeted?.trueLabel)
    add("targeted_", evaluation.targeted?.wantedLabel)
    add("nontargeted_", evaluation.nontargeted?.trueLabel)
    add("shuffled_", evaluation.shuffled)
    if let targeted = evaluation.targeted {
      line["attacked_queries"] = JSONValue(targeted.queries)
      line["attack_steps"] = JSONValue(evaluation.attack?.steps ?? 0)
      line["attack_radius"] = .number(Double(evaluation.attack?.radius ?? 0))
      line["attack_seed"] = JSONValue(evaluation.seed)
      add("attack_", targeted.perturbation)
    }
    if let away = evaluation.nontargeted { add("nontargeted_", away.perturbation) }
    if let pixels = evaluation.pixels {
      line["pixel_accuracy"] = .number(pixels.accuracy)
      if let cut = pixels.cut(100) {
        line["pixel_map_at_100"] = .number(cut.hashing)
        line["pixel_map_at_100_retrieval"] = .number(cut.retrieval)
      }
      line["pixel_cuts"] = json(pixels.cuts)
    }
    line["remarks"] = .array(row.remarks.map { .string($0) })
    line["smallest_class_distance"] = JSONValue(
      ClassCodes.smallestDistance(evaluation.classCodes))
    line["cuts"] = json(evaluation.clean.cuts)
    line["radii"] = json(evaluation.clean.radii)
    line["shuffled_cuts"] = json(evaluation.shuffled.cuts)
    if let attacked = evaluation.targeted?.trueLabel {
      line["adversarial_cuts"] = json(attacked.cuts)
      line["adversarial_radii"] = json(attacked.radii)
    }
    return line
  }

  private static func json(_ cuts: [RetrievalScores.Cut]) -> JSONValue {
    .array(
      cuts.map {
        .object([
          "k": JSONValue($0.k), "precision": .number($0.precision), "recall": .number($0.recall),
          "map": .number($0.hashing),
        ])
      })
  }

  private static func json(_ radii: [RetrievalScores.Radius]) -> JSONValue {
    .array(
      radii.map {
        .object([
          "radius": JSONValue($0.radius), "precision": .number($0.precision),
          "recall": .number($0.recall),
        ])
      })
  }
}
