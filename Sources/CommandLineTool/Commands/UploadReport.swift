import Base

/// The end of an upload: what failed and why, and the sums.
struct UploadReport {
  private(set) var stored = 0
  private(set) var alreadyStored = 0
  private(set) var duplicates = 0
  private(set) var failures: [(path: String, failure: CommandFailure)] = []
  private(set) var notTried = 0
  private(set) var bytes: UInt64 = 0
  private(set) var sealedBytes: UInt64 = 0
  private(set) var shadowBytes: UInt64 = 0
  private let unreadable: [FileError]
  private let fileCount: Int
  private let seconds: Double

  init(outcomes: [UploadOutcome], unreadable: [FileError], seconds: Double) {
    self.unreadable = unreadable
    self.seconds = seconds
    fileCount = outcomes.count + unreadable.count
    failures = unreadable.map { ($0.path, CommandFailure($0)) }
    for outcome in outcomes {
      switch outcome.result {
      // Found there when it was sent again: the answer to the first time was lost with a master, or somebody else was quicker.
      case .stored(let reply) where reply.existed: alreadyStored += 1
      case .stored(let reply):
        stored += 1
        bytes += outcome.item.sizeBytes
        sealedBytes += reply.sealedBytes
        shadowBytes += reply.shadowBytes
      case .alreadyStored: alreadyStored += 1
      case .duplicate: duplicates += 1
      case .failed(let failure): failures.append((outcome.item.path, failure))
      case .notTried: notTried += 1
      }
    }
  }

  var allStored: Bool { failures.isEmpty && notTried == 0 }

  /// Where one file was given and failed, its own exit code says more than "some failed".
  var onlyFailure: CommandFailure? { fileCount == 1 ? failures.first?.failure : nil }

  static func line(of outcome: UploadOutcome) -> JSONObject {
    var line: JSONObject = [
      "type": "file", "path": .string(outcome.item.path), "status": "not_tried",
      "bytes": JSONValue(outcome.item.sizeBytes),
    ]
    switch outcome.result {
    case .stored(let reply):
      line["status"] = reply.existed ? "already_stored" : "stored"
      line["image_id"] = .string(reply.imageID.hex)
      line["sealed_bytes"] = JSONValue(reply.sealedBytes)
      line["shadow_bytes"] = JSONValue(reply.shadowBytes)
    case .alreadyStored(let imageID):
      line["status"] = "already_stored"
      line["image_id"] = .string(imageID.hex)
    case .duplicate(let path):
      line["status"] = "duplicate"
      line["duplicate_of"] = .string(path)
    case .failed(let failure): Self.add(failure, to: &line)
    case .notTried: break
    }
    return line
  }

  private static func add(_ failure: CommandFailure, to line: inout JSONObject) {
    line["status"] = "failed"
    failure.add(to: &line)
  }

  func print(to output: Output) {
    for error in unreadable {
      var line: JSONObject = ["type": "file", "path": .string(error.path)]
      Self.add(CommandFailure(error), to: &line)
      output.emit(line)
    }
    output.emit([
      "type": "summary", "files": JSONValue(fileCount), "stored": JSONValue(stored),
      "already_stored": JSONValue(alreadyStored), "duplicates": JSONValue(duplicates),
      "failed": JSONValue(failures.count), "not_tried": JSONValue(notTried),
      "bytes": JSONValue(bytes), "sealed_bytes": JSONValue(sealedBytes),
      "shadow_bytes": JSONValue(shadowBytes), "seconds": JSONValue(seconds),
    ])
    output.fail(items: failures.map(\.failure))
    output.print(summary)
    if notTried > 0 {
      output.print("run the command again to send the rest: what is stored is not sent twice")
    }
  }

  var summary: String {
    var parts = ["\(stored) stored"]
    if alreadyStored > 0 { parts.append("\(alreadyStored) already there") }
    if duplicates > 0 { parts.append("\(duplicates) twice in this upload") }
    if !failures.isEmpty { parts.append("\(failures.count) failed") }
    if notTried > 0 { parts.append("\(notTried) not tried") }
    var text = "\(Units.count(fileCount, "file")): \(parts.joined(separator: ", "))"
    if stored > 0 {
      let rate = Units.rate(bytesPerSecond: Double(bytes) / max(seconds, 1e-9))
      text += "; \(Units.bytes(bytes)) in \(Units.duration(seconds: seconds)) (\(rate))"
    }
    return text
  }
}
