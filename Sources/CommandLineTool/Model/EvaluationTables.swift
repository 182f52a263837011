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

  private static let k = 100

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
  /// training and length of the code.
  private var papersTables: [Titled] {
    let lengths = Set(rows.map(\.model.configuration.bits)).sorted()
    let columns = lengths.map { Table.Column("\($0) bits", .right) }
    var splits: [SplitProtocol] = []
    for row in rows where !splits.contains(row.split) { splits.append(row.split) }
    let stages: [String] = ["clean", "adversarial"].filter { stage in
      rows.contains { $0.stage == stage }
    }
    if stages.isEmpty { return [] }
    func cells(
      _ split: SplitProtocol, _ stage: String, _ k: Int,
      _ scores: (ModelEvaluation) -> RetrievalScores?
    ) -> [String] {
      lengths.map { length in
        let row = rows.first {
          $0.split == split && $0.stage == stage && $0.model.configuration.bits == length
        }
        return Self.fixed(row.flatMap { scores($0.evaluation) }?.cut(k)?.hashing)
      }
    }
    return splits.flatMap { split -> [Titled] in
      [
        Titled(
          title: "\(dataset), \(split.rawValue) split: mAP of clean queries",
          columns: [.init("adversarial training"), .init("top k", .right)] + columns,
          rows: stages.flatMap { stage -> [[String]] in
            Self.papersKs.map { k in
              [stage == "clean" ? "before" : "after", "\(k)"] + cells(split, stage, k) { $0.clean }
            }
          }),
        Titled(
          title: "\(dataset), \(split.rawValue) split: mAP@\(Self.k) under the targeted attack",
          columns: [.init("queries"), .init("adversarial training")] + columns,
          rows: stages.flatMap { stage -> [[String]] in
            let isAfter = stage == "clean" ? "no" : "yes"
            return [
              ["normal", isAfter] + cells(split, stage, Self.k) { $0.clean },
              ["adversary", isAfter] + cells(split, stage, Self.k) { $0.targeted?.trueLabel },
            ]
          }),
      ]
    }
  }

  /// A column for each k; below the models, for each split, what pixels alone and chance find of clean queries.
  private func cutTable(
    _ title: String, _ value: KeyPath<RetrievalScores.Cut, Double>,
    cuts: (ModelEvaluation) -> [RetrievalScores.Cut]
  ) -> Titled {
    let ks = rows.first?.evaluation.clean.cuts.map(\.k) ?? []
    func cells(_ cuts: [RetrievalScores.Cut]) -> [String] {
      ks.map { k in Self.fixed(cuts.first { $0.k == k }?[keyPath: value]) }
    }
    let models = rows.map { heading($0) + cells(cuts($0.evaluation)) }
    let baselines = baselines.map { [$0.name, $0.split, "-", "-"] + cells($0.cuts) }
    return Titled(
      title: "\(dataset): \(title)", columns: Self.head + ks.map { .init("\($0)", .right) },
      rows: models + baselines)
  }

  /// What needs no network, once for each split.
  private var baselines: [(name: String, split: String, cuts: [RetrievalScores.Cut])] {
    var found: [(name: String, split: String, cuts: [RetrievalScores.Cut])] = []
    for row in rows {
      let split = row.split.rawValue
      if found.contains(where: { $0.split == split }) { continue }
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
    if rows.contains(where: { $0.split == .random }) {
      notes.append(
        "the random split leaks: neighbouring slices of one person stand on both sides; read it beside 'pixels'"
      )
    }
    return notes
  }

  var markdown: String {
    var text = ""
    for table in tables {
      text +=
        "**\(table.title)**\n\n| " + table.columns.map(\.title).joined(separator: " | ") + " |\n|"
      text += table.columns.map { $0.alignment == .right ? "---:|" : "---|" }.joined() + "\n"
      for row in table.rows { text += "| " + row.joined(separator: " | ") + " |\n" }
      text += "\n"
    }
    return text + notes.map { "- \($0)\n" }.joined()
  }

  var svg: String {
    var recall = Chart(
      title: "\(dataset): precision over recall", horizontal: "recall", vertical: "precision")
    var precision = Chart(
      title: "\(dataset): precision of the first k", horizontal: "k", vertical: "precision")
    for row in rows {
      let name =
        "\(row.name), \(row.model.configuration.bits) bits, \(row.split.rawValue)"
      recall.add(name, row.evaluation.clean.radii.map { ($0.recall, $0.precision) })
      precision.add(name, row.evaluation.clean.cuts.map { (Double($0.k), $0.precision) })
      if let targeted = row.evaluation.targeted?.trueLabel {
        recall.add(
          name + ", attacked", targeted.radii.map { ($0.recall, $0.precision) }, isDashed: true)
        precision.add(
          name + ", attacked", targeted.cuts.map { (Double($0.k), $0.precision) }, isDashed: true)
      }
    }
    for baseline in baselines {
      precision.add(
        "\(baseline.name), \(baseline.split)",
        baseline.cuts.map { (Double($0.k), $0.precision) }, isDashed: true)
    }
    recall.verticalRange = 0...1
    recall.horizontalRange = 0...1
    precision.verticalRange = 0...1
    return Chart.page([recall, precision])
  }

  static func line(_ row: ModelEvalCommand.Row, dataset: String) -> JSONObject {
    let evaluation = row.evaluation
    var line: JSONObject = [
      "type": "evaluation", "model": .string(row.path), "dataset": .string(dataset),
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
