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
      row.model.metadata[ModelFile.Field.stage] ?? "-",
    ]
  }

  private static let head: [Table.Column] = [
    .init("model"), .init("split"), .init("bits", .right), .init("training"),
  ]

  var tables: [Titled] {
    var tables = [
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
            Self.fixed(evaluation.pixels?.hashing), Self.fixed(evaluation.pixels?.accuracy),
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
            Self.fixed(evaluation.pixels?.retrieval),
          ]
        }),
    ]
    let ks = rows.first?.evaluation.clean.cuts.map(\.k) ?? []
    tables.append(
      Titled(
        title: "\(dataset): P@k of clean queries",
        columns: Self.head + ks.map { .init("\($0)", .right) },
        rows: rows.map { row in
          heading(row) + row.evaluation.clean.cuts.map { Self.fixed($0.precision) }
        }))
    tables.append(
      Titled(
        title: "\(dataset): R@k of clean queries",
        columns: Self.head + ks.map { .init("\($0)", .right) },
        rows: rows.map { row in
          heading(row) + row.evaluation.clean.cuts.map { Self.fixed($0.recall) }
        }))
    if rows.contains(where: { $0.evaluation.targeted != nil }) {
      tables.append(
        Titled(
          title: "\(dataset): P@k under the targeted attack, by the true label",
          columns: Self.head + ks.map { .init("\($0)", .right) },
          rows: rows.map { row in
            heading(row)
              + ks.map { Self.fixed(row.evaluation.targeted?.trueLabel.cut($0)?.precision) }
          }))
    }
    return tables
  }

  var notes: [String] {
    var notes = rows.map {
      "\($0.name): \($0.evaluation.queries) queries, \($0.evaluation.database) in the database"
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
      let name = "\(row.name), \(row.split.rawValue)"
      recall.add(name, row.evaluation.clean.radii.map { ($0.recall, $0.precision) })
      precision.add(name, row.evaluation.clean.cuts.map { (Double($0.k), $0.precision) })
      if let targeted = row.evaluation.targeted?.trueLabel {
        recall.add(
          name + ", attacked", targeted.radii.map { ($0.recall, $0.precision) }, isDashed: true)
        precision.add(
          name + ", attacked", targeted.cuts.map { (Double($0.k), $0.precision) }, isDashed: true)
      }
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
      "stage": .string(row.model.metadata[ModelFile.Field.stage] ?? ""),
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
      line["attack_linf"] = .number(targeted.perturbation.largest)
      line["attack_l2"] = .number(targeted.perturbation.length)
      line["attack_mse"] = .number(targeted.perturbation.meanSquare)
    }
    if let pixels = evaluation.pixels {
      line["pixel_accuracy"] = .number(pixels.accuracy)
      line["pixel_map_at_100"] = .number(pixels.hashing)
      line["pixel_map_at_100_retrieval"] = .number(pixels.retrieval)
    }
    line["smallest_class_distance"] = JSONValue(
      ClassCodes.smallestDistance(evaluation.classCodes))
    line["cuts"] = .array(
      evaluation.clean.cuts.map {
        .object([
          "k": JSONValue($0.k), "precision": .number($0.precision), "recall": .number($0.recall),
          "map": .number($0.hashing),
        ])
      })
    line["radii"] = .array(
      evaluation.clean.radii.map {
        .object([
          "radius": JSONValue($0.radius), "precision": .number($0.precision),
          "recall": .number($0.recall),
        ])
      })
    return line
  }
}
