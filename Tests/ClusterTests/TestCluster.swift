import Base
import Foundation
import Imaging
import TestSupport
import Testing

/// A whole cluster of real daemons on this machine, driven as a person would: through `sfmedir`.
final class TestCluster: Sendable {
  struct Outcome: Sendable {
    var status: Int32
    var lines: [[String: JSONScalar]]
    var errors: String
  }

  let directory: TemporaryDirectory
  private let sfmedir: String
  private let arguments: [String]

  private init(slaves: Int, threshold: Int?, shadows: Int?, options: [String]) throws {
    directory = try TemporaryDirectory("cluster")
    // The daemons lie beside the test bundle, in the folder of the build's products.
    sfmedir =
      try #require(
        productsFolder(), "the daemons are not built: run 'swift build --build-tests' first")
      + "/sfmedir"
    var arguments = ["dev", "up", "--dir", directory.path("dev"), "--slaves", "\(slaves)"]
    if let threshold, let shadows {
      arguments += ["--threshold", "\(threshold)", "--shadows", "\(shadows)"]
    }
    arguments += ["--model", Self.modelPath] + options
    self.arguments = arguments
  }

  /// Starts a cluster, and stops it however the body ends.
  static func run(
    slaves: Int, threshold: Int? = nil, shadows: Int? = nil, options: [String] = [],
    _ body: (TestCluster) async throws -> Void
  ) async throws {
    let cluster = try TestCluster(
      slaves: slaves, threshold: threshold, shadows: shadows, options: options)
    do {
      try await cluster.up()
      try await body(cluster)
    } catch {
      try? await cluster.down()
      throw error
    }
    try await cluster.down()
  }

  static var modelPath: String {
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().path + "/Models/default.safetensors"
  }

  func up() async throws {
    let outcome = try await run(arguments)
    #expect(outcome.status == 0, "\(outcome.errors)")
  }

  /// Removes everything; a daemon still running after that would be a failure of `dev down`.
  func down() async throws {
    let outcome = try await run(["dev", "down", "--dir", directory.path("dev")])
    #expect(outcome.status == 0, "\(outcome.errors)")
  }

  func state(_ node: String) -> String { directory.path("dev/state/\(node)") }
  func log(_ node: String) throws -> String {
    String(decoding: try directory.read("dev/logs/\(node).log"), as: UTF8.self)
  }

  /// Runs `sfmedir` with `--json` to its end.
  @discardableResult
  func run(
    _ arguments: [String], environment: [String: String] = [:]
  ) async throws -> Outcome {
    var variables = environment
    variables["SFMEDIR_CONFIG"] = directory.path("dev/cli.toml")
    let ended = try await runProgram(
      sfmedir, arguments + ["--json"], environment: variables)
    let text = String(decoding: ended.output, as: UTF8.self)
    return Outcome(
      status: ended.status,
      lines: text.split(separator: "\n").compactMap { JSONScalar.object(String($0)) },
      errors: String(decoding: ended.errors, as: UTF8.self))
  }

  /// Runs another of the programs to its end.
  func run(program: String, _ arguments: [String]) async throws -> Int32 {
    let path = sfmedir.replacingOccurrences(
      of: "/sfmedir", with: "/" + program, options: .backwards)
    return try await runProgram(path, arguments, environment: [:]).status
  }

  /// Starts a daemon beside those of `dev`; it ends with the returned process.
  func start(program: String, _ arguments: [String]) throws -> Process {
    let process = Process()
    process.executableURL = URL(
      fileURLWithPath: sfmedir.replacingOccurrences(
        of: "/sfmedir", with: "/" + program, options: .backwards))
    process.arguments = arguments
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    return process
  }

  func kill(_ node: String) async throws {
    #expect(try await run(["dev", "kill", "--dir", directory.path("dev"), node]).status == 0)
  }

  /// Looks again and again, with pauses: other processes tell nobody when they have written something.
  func wait(until isSo: () -> Bool) async throws {
    while !isSo() { try await Task.sleep(for: .milliseconds(20)) }
  }

  /// Sends a signal to a daemon.
  func signal(_ node: String, _ number: Int32) throws {
    let text = String(decoding: try directory.read("dev/run/\(node).json"), as: UTF8.self)
    let process = try #require(JSONScalar.object(text)?["pid"]?.number)
    #expect(Foundation.kill(pid_t(process), number) == 0)
  }

  /// Synthetic pictures in a folder of the cluster's own.
  func phantoms(_ count: Int, seed: UInt64 = 1) async throws -> String {
    let folder = directory.path("images-\(seed)")
    #expect(
      try await run(["phantom", "--out", folder, "--count", "\(count)", "--seed", "\(seed)"]).status
        == 0)
    return folder
  }

  func files(in folder: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder).sorted().map { "\(folder)/\($0)" }
  }

  /// Stores the files and gives the id of each.
  func upload(_ folder: String) async throws -> [String: String] {
    let outcome = try await run(["upload", folder, "--recursive"])
    #expect(outcome.status == 0, "\(outcome.errors)")
    var ids: [String: String] = [:]
    for line in outcome.lines {
      if let path = line["path"]?.text, let id = line["image_id"]?.text { ids[path] = id }
    }
    return ids
  }

  /// The exit status, and whether the original came back as it was.
  func get(_ id: String, like path: String) async throws -> (status: Int32, isIdentical: Bool) {
    let target = directory.path("got-\(UUID().uuidString)")
    let outcome = try await run(["get", id, "-o", target])
    guard outcome.status == 0 else { return (outcome.status, false) }
    let same =
      try Data(contentsOf: URL(fileURLWithPath: target))
      == Data(contentsOf: URL(fileURLWithPath: path))
    return (0, same)
  }
}

/// What a line of `--json` holds, as far as these tests look.
enum JSONScalar: Sendable {
  case text(String)
  case number(Double)
  case other

  var text: String? { if case .text(let text) = self { text } else { nil } }
  var number: Double? { if case .number(let number) = self { number } else { nil } }

  static func object(_ line: String) -> [String: JSONScalar]? {
    guard let any = try? JSONSerialization.jsonObject(with: Data(line.utf8)),
      let object = any as? [String: Any]
    else { return nil }
    return object.mapValues { value in
      if let text = value as? String { return .text(text) }
      if let number = value as? NSNumber { return .number(number.doubleValue) }
      return .other
    }
  }
}
