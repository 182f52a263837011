import ArgumentParser
import Base
import SegmentStore

struct SegmentsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "segments",
    abstract: "Look into the segment files of a slave or a master that is stopped.",
    discussion: """
      DIR is a slave's data_directory (or STATE/segments), or a master's STATE/log. A running daemon \
      keeps its folder locked: stop it first.

      EXAMPLE
        sfmedir segments verify /var/lib/sfmedir/scs-1/segments
      """,
    subcommands: [
      SegmentsVerifyCommand.self, SegmentsDumpCommand.self, SegmentsRebuildHintsCommand.self,
    ])
}

/// The folder, opened; what is wrong with opening it as a failure that a person can use.
private func inspector(_ directory: String) throws -> SegmentInspector {
  do {
    return try SegmentInspector(directory: directory)
  } catch {
    throw failure(error, directory)
  }
}

private func failure(_ error: SegmentStoreError, _ directory: String) -> CommandFailure {
  switch error {
  case .alreadyOpen:
    CommandFailure(.temporary, "\(error)", advice: "stop the daemon first")
  case .identityLost:
    CommandFailure(.badInput, "\(directory) holds no segment store: \(error)")
  case .unsupportedVersion:
    CommandFailure(.badInput, "\(error)", advice: "a newer sfmedir made it")
  default: CommandFailure(.inputOutput, "\(error)")
  }
}

struct SegmentsVerifyCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Read every byte, check every checksum, and say what is damaged.",
    discussion: """
      Nothing is changed. Damage at the very end of the last segment may be a write that a loss of power \
      tore: the daemon cuts it at its next start.

      EXAMPLE
        sfmedir segments verify /var/lib/sfmedir/scs-1/segments --json

      JSON: a line {"type":"segment"} for each with segment, covers_through, generation, bytes, values, \
      tombstones, hints (good, missing, stale, damaged, not due), damages; a line {"type":"damage"} for each \
      with text, segment, offset, bytes, key; then one {"type":"summary"} with segments, bytes, values, \
      tombstones, damages.

      Exit codes: 0 all is good; 1 something is damaged; 65 no store; 74 the disk; 75 a daemon has it open.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @Argument(help: "The folder of the segment files.", completion: .directory)
  var directory: String

  func execute(_ output: Output) async throws -> ExitStatus {
    let store = try inspector(directory)
    var table = Table([
      .init("segment", .right), .init("size", .right), .init("values", .right),
      .init("tombstones", .right), .init("generation", .right), .init("hints"), .init("state"),
    ])
    var damages = store.damages
    var totals = (bytes: UInt64(0), values: 0, tombstones: 0)
    for identifier in store.segmentIdentifiers {
      let summary: SegmentInspector.SegmentSummary
      do { summary = try store.read(segment: identifier) } catch {
        throw failure(error, directory)
      }
      damages += summary.damages
      totals.bytes += summary.sizeBytes
      totals.values += summary.values
      totals.tombstones += summary.tombstones
      output.emit(Self.line(of: summary))
      let name =
        summary.coversThrough > identifier
        ? "\(identifier)-\(summary.coversThrough)" : "\(identifier)"
      table.add([
        name, Units.bytes(summary.sizeBytes), "\(summary.values)", "\(summary.tombstones)",
        "\(summary.generation)", summary.hints.rawValue,
        summary.damages.isEmpty ? "good" : Units.count(summary.damages.count, "damage"),
      ])
    }
    for damage in damages { output.emit(Self.line(of: damage)) }
    output.emit([
      "type": "summary", "segments": JSONValue(store.segmentIdentifiers.count),
      "bytes": JSONValue(totals.bytes), "values": JSONValue(totals.values),
      "tombstones": JSONValue(totals.tombstones), "damages": JSONValue(damages.count),
    ])
    output.print(table)
    for damage in damages { output.print("damaged: \(damage)") }
    output.print(
      "\(Units.count(store.segmentIdentifiers.count, "segment")), \(Units.bytes(totals.bytes)), "
        + "\(Units.count(totals.values, "value")), \(Units.count(totals.tombstones, "tombstone")): "
        + (damages.isEmpty ? "all good" : Units.count(damages.count, "damage")))
    return damages.isEmpty ? .success : .someFailed
  }

  private static func line(of summary: SegmentInspector.SegmentSummary) -> JSONObject {
    [
      "type": "segment", "segment": JSONValue(summary.identifier),
      "covers_through": JSONValue(summary.coversThrough),
      "generation": JSONValue(UInt64(summary.generation)), "bytes": JSONValue(summary.sizeBytes),
      "values": JSONValue(summary.values), "tombstones": JSONValue(summary.tombstones),
      "hints": .string(summary.hints.rawValue), "damages": JSONValue(summary.damages.count),
    ]
  }

  static func line(of damage: SegmentDamage) -> JSONObject {
    var line: JSONObject = [
      "type": "damage", "text": .string("\(damage)"),
      "segment": JSONValue(damage.segmentIdentifier), "offset": JSONValue(damage.offsetBytes),
      "bytes": JSONValue(damage.sizeBytes),
    ]
    if let key = damage.key { line["key"] = .string(key.hex) }
    return line
  }
}

struct SegmentsDumpCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "dump",
    abstract: "List every record: where it is, its number, its key, how long its payload is.",
    discussion: """
      Payloads are not shown: they are shadows, or a master's log.

      EXAMPLE
        sfmedir segments dump /var/lib/sfmedir/scs-1/segments --segment 3

      JSON: a line for each record with segment, offset, kind (value, tombstone, commit, void, damage) and, \
      as far as it has them, sequence, key, payload_bytes, bytes, text.

      Exit codes: as of verify.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @Argument(help: "The folder of the segment files.", completion: .directory)
  var directory: String
  @Option(help: ArgumentHelp("Only this segment.", valueName: "number"))
  var segment: UInt64?

  func execute(_ output: Output) async throws -> ExitStatus {
    let store = try inspector(directory)
    var isGood = store.damages.isEmpty
    for damage in store.damages {
      output.emit(SegmentsVerifyCommand.line(of: damage))
      output.print("damaged: \(damage)")
    }
    if let segment, !store.segmentIdentifiers.contains(segment) {
      throw CommandFailure(.notFound, "\(directory) has no segment \(segment)")
    }
    for identifier in store.segmentIdentifiers where segment == nil || segment == identifier {
      output.print("segment \(identifier)")
      do {
        let summary = try store.read(segment: identifier) { show($0, identifier, output) }
        if !summary.damages.isEmpty { isGood = false }
      } catch {
        throw failure(error, directory)
      }
    }
    return isGood ? .success : .someFailed
  }

  private func show(_ item: SegmentInspector.Item, _ segment: UInt64, _ output: Output) {
    var line: JSONObject = ["segment": JSONValue(segment)]
    func record(_ kind: String, _ key: [UInt8], _ location: RecordLocation) {
      line["offset"] = JSONValue(location.offsetBytes)
      line["kind"] = .string(kind)
      line["sequence"] = JSONValue(location.sequence)
      line["key"] = .string(key.hex)
      line["payload_bytes"] = JSONValue(location.payloadSizeBytes)
      output.print(
        "  \(padded(location.offsetBytes))  \(padded(location.sequence))  "
          + "\(kind.padding(to: 9))  \(key.hex)"
          + (kind == "value" ? "  \(location.payloadSizeBytes) bytes" : ""))
    }
    switch item {
    case .value(let key, let location): record("value", key, location)
    case .tombstone(let key, let location): record("tombstone", key, location)
    case .commit(let offset, let next):
      line["offset"] = JSONValue(offset)
      line["kind"] = "commit"
      line["sequence"] = JSONValue(next)
      output.print("  \(padded(offset))  \(padded(next))  commit")
    case .void(let offset, let size):
      line["offset"] = JSONValue(offset)
      line["kind"] = "void"
      line["bytes"] = JSONValue(size)
      output.print("  \(padded(offset))  \(padded(nil))  void       \(size) bytes of a sealed hole")
    case .damage(let damage):
      line["offset"] = JSONValue(damage.offsetBytes)
      line["kind"] = "damage"
      line["bytes"] = JSONValue(damage.sizeBytes)
      line["text"] = .string("\(damage)")
      output.print("  \(padded(damage.offsetBytes))  \(padded(nil))  DAMAGED    \(damage)")
    }
    output.emit(line)
  }

  private func padded(_ number: UInt64?) -> String {
    let text = number.map { "\($0)" } ?? ""
    return String(repeating: " ", count: max(0, 10 - text.count)) + text
  }
}

extension String {
  fileprivate func padding(to width: Int) -> String {
    self + String(repeating: " ", count: max(0, width - count))
  }
}

struct SegmentsRebuildHintsCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "rebuild-hints",
    abstract: "Write the hint files anew that are missing, stale or damaged.",
    discussion: """
      Hints let a daemon start without reading its segments. A daemon rebuilds them by itself; this does it \
      beforehand. Segments with damage get none.

      EXAMPLE
        sfmedir segments rebuild-hints /var/lib/sfmedir/scs-1/segments

      JSON: one line with segments, rebuilt (a list of segments).

      Exit codes: 0; 65 no store; 74 the disk; 75 a daemon has it open.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @Argument(help: "The folder of the segment files.", completion: .directory)
  var directory: String

  func execute(_ output: Output) async throws -> ExitStatus {
    let store = try inspector(directory)
    var rebuilt: [UInt64] = []
    for identifier in store.segmentIdentifiers {
      do {
        if try store.rebuildHints(of: identifier) { rebuilt.append(identifier) }
      } catch {
        throw failure(error, directory)
      }
    }
    output.emit([
      "segments": JSONValue(store.segmentIdentifiers.count),
      "rebuilt": .array(rebuilt.map { JSONValue($0) }),
    ])
    output.print(
      "\(Units.count(store.segmentIdentifiers.count, "segment")), hints of \(rebuilt.count) written"
    )
    return .success
  }
}
