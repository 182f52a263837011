import DeepHash
import Foundation
import FoundationXML
import HashTraining
import TestSupport
import Testing

@testable import CommandLineTool

/// What `model eval` says, of networks that have learned nothing.
@Suite struct EvaluationTablesTests {
  private static func pictures(_ split: SplitProtocol) throws -> PictureFolder {
    let folder = NSTemporaryDirectory() + "/sfmedir-tables-\(UUID().uuidString)"
    try FileManager.default.createDirectory(
      atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let sides = (0..<30).map { $0 < 20 ? "train" : "test" }
    let manifest =
      "path,class,split,random_split,group\n"
      + (0..<30).map { "\($0).png,\($0 % 2),\(sides[$0]),\(sides[$0]),\($0)\n" }.joined()
    try Data(manifest.utf8).write(to: URL(filePath: folder + "/manifest.csv"))
    return try PictureFolder(directory: folder, split: split, seed: 1)
  }

  private static func row(
    _ path: String, stage: String?, bits: Int, split: SplitProtocol = .group, attacked: Int? = nil
  ) throws -> ModelEvalCommand.Row {
    let pictures = try Self.pictures(split)
    let set = TrainingSet(
      labels: pictures.pictures.map(\.label), classes: pictures.classes, channels: 1, height: 32,
      width: 32
    ) { number, out in
      for at in out.indices { out[at] = Float((at * 13 + number * 29) % 89) / 88 }
    }
    let configuration = try ConvNeXtConfiguration(
      channels: 1, depths: [1, 1, 1, 1], dims: [8, 8, 8, 8], bits: bits)
    let model = ModelFile(
      configuration: configuration,
      parameters: ConvNeXt.initialParameters(configuration, layerScale: 0.5, seed: UInt64(bits)),
      metadata: stage.map { [ModelFile.Field.stage: $0] } ?? [:])
    var options = ModelEvaluation.Options()
    options.attack?.steps = attacked == nil ? 0 : 2
    if attacked == nil { options.attack = nil }
    options.attackedQueries = attacked
    return ModelEvalCommand.Row(
      path: path, model: model, digest: "d1", split: split,
      evaluation: try ModelEvaluation(model, set: set, folder: pictures, options: options),
      pictures: split.rawValue, remarks: ["remark of \(path)"])
  }

  private static func table(_ tables: EvaluationTables, _ part: String) throws -> [[String]] {
    try #require(tables.tables.first { $0.title.contains(part) }).rows
  }

  private static func fixed(_ value: Double?) -> String {
    value.map { Units.fixed($0, digits: 3) } ?? "-"
  }

  /// Silence is not innocence.
  @Test func whatAModelDoesNotSayIsARemark() throws {
    let pictures = try Self.pictures(.group)
    let configuration = try ConvNeXtConfiguration(
      channels: 1, depths: [1, 1, 1, 1], dims: [8, 8, 8, 8], bits: 8)
    func remarks(_ metadata: [String: String]) -> [String] {
      ModelFile(
        configuration: configuration,
        parameters: ConvNeXt.initialParameters(configuration, layerScale: 0.5, seed: 1),
        metadata: metadata
      ).remarks(split: .group, of: pictures, dataset: "heads")
    }
    typealias Field = ModelFile.Field
    let known = [
      Field.dataset: "heads", Field.split: "group", Field.splitDigest: pictures.splitDigest,
    ]
    #expect(remarks(known) == [])
    var silent = known
    silent[Field.splitDigest] = nil
    #expect(remarks(silent).contains { $0.contains("does not say which pictures") })
    silent = known
    silent[Field.training] = "--init other.safetensors"
    #expect(remarks(silent).contains { $0.contains("does not say what it was trained on") })
  }

  @Test func hasThePapersTables() throws {
    let rows = try [
      Self.row("m/a.safetensors", stage: "clean", bits: 8, attacked: 4),
      Self.row("m/b.safetensors", stage: "adversarial", bits: 8, attacked: 4),
      Self.row("m/b.safetensors", stage: "adversarial", bits: 16, attacked: 4),
      Self.row("m/c.safetensors", stage: "clean", bits: 16, split: .random),
    ]
    let tables = EvaluationTables(rows, dataset: "d")
    let clean = try Self.table(tables, "d, group split: mAP of clean")
    let (first, second, third) = (rows[0].evaluation, rows[1].evaluation, rows[2].evaluation)
    #expect(clean.count == 16)
    #expect(clean[0] == ["before", "100", Self.fixed(first.clean.cut(100)?.hashing), "-"])
    #expect(
      clean[5] == [
        "after", "200", Self.fixed(second.clean.cut(200)?.hashing),
        Self.fixed(third.clean.cut(200)?.hashing),
      ])
    let pixels = Self.fixed(first.pixels?.cut(1000)?.hashing)
    #expect(clean[11] == ["(pixels)", "1000", pixels, pixels])
    #expect(
      clean[12] == [
        "(by chance)", "100", Self.fixed(first.shuffled.cut(100)?.hashing),
        Self.fixed(third.shuffled.cut(100)?.hashing),
      ])
    let attacked = try Self.table(tables, "d, group split: mAP@100 under the targeted attack, 4 q")
    #expect(
      attacked.prefix(4).map { Array($0.prefix(2)) } == [
        ["normal", "no"], ["adversary", "no"], ["normal", "yes"], ["adversary", "yes"],
      ])
    // Of the same four queries, attacked or not.
    #expect(attacked[0][2] == Self.fixed(first.targeted?.clean.cut(100)?.hashing))
    #expect(attacked[3][3] == Self.fixed(third.targeted?.trueLabel.cut(100)?.hashing))
    // Nothing was attacked on the other split, and no table pretends so.
    #expect(try Self.table(tables, "d, random split: mAP of clean").count == 12)
    #expect(!tables.tables.contains { $0.title.contains("random split: mAP@100 under") })
    #expect(tables.notes.contains { $0.contains("leaks") })
  }

  @Test func aModelThatHasNoCellIsNamed() throws {
    let rows = try [
      Self.row("one.safetensors", stage: "clean", bits: 8),
      Self.row("two.safetensors", stage: "clean", bits: 8),
      Self.row("three.safetensors", stage: nil, bits: 8),
    ]
    let notes = EvaluationTables(rows, dataset: "d").notes
    #expect(notes.filter { $0.contains("not in the tables by training") }.count == 1)
    #expect(notes.contains { $0.hasPrefix("two, 8 bits: not in the tables") })
  }

  @Test func linesHaveThePromisedKeys() throws {
    let line = EvaluationTables.line(
      try Self.row("m.safetensors", stage: "clean", bits: 8, attacked: 10), dataset: "d")
    for key in [
      "map_at_100", "map_at_1000", "adversarial_map_at_100", "targeted_map_at_100", "protocol",
      "bits", "dataset", "database", "queries", "attacked_queries", "model_sha256", "pixel_cuts",
      "adversarial_cuts", "adversarial_radii", "nontargeted_linf", "pixel_accuracy",
      "shuffled_map_at_100", "map_at_100_retrieval", "map_at_100_tie_aware",
    ] { #expect(line[key] != nil, "\(key)") }
    #expect(line["type"] == .string("evaluation") && line["protocol"] == .string("group"))
    #expect(line["queries"] == JSONValue(10) && line["database"] == JSONValue(20))
  }

  @Test func namesDoNotBreakDocuments() throws {
    let rows = try [
      Self.row("a|b\u{1}\u{1B}[2J<c>.safetensors", stage: "x\ny", bits: 8, attacked: 2)
    ]
    let tables = EvaluationTables(rows, dataset: "d")
    #expect(tables.markdown.contains("| a\\|b??[2J<c> | group | 8 | x?y |"))
    let page = try XMLDocument(xmlString: tables.svg)
    let texts = try page.nodes(forXPath: "//*[local-name()='text']").compactMap(\.stringValue)
    #expect(texts.contains("a|b??[2J<c>, 8 bits, attacked"))
    #expect(texts.filter { $0 == "(pixels)" }.count == 2)
    #expect(texts.filter { $0 == "(by chance)" }.count == 2)
  }
}
