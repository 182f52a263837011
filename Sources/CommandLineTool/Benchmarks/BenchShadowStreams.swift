import Base
import Glibc
import Shadows

/// `bench shadows --stream`: a secret in a file becomes bodies in files and comes back, a piece at a time.
extension BenchShadowsCommand {
  private struct Times {
    var split = 0.0
    var join = 0.0
    var repair = 0.0
  }

  func measureStreams(_ cells: [Cell], _ output: Output) throws -> ExitStatus {
    var table = Table([
      .init("scheme"), .init("r", .right), .init("s", .right), .init("size", .right),
      .init("split MB/s", .right), .init("join MB/s", .right), .init("repair MB/s", .right),
      .init("peak memory", .right),
    ])
    var lines: [JSONValue] = []
    for cell in cells {
      let times = try measureStream(cell)
      let rates = [times.split, times.join, times.repair].map { Double(cell.byteCount) / 1e6 / $0 }
      let peak = Self.peakMemoryBytes()
      table.add(
        [
          cell.scheme.name, "\(cell.sharing.threshold)", "\(cell.sharing.shadowCount)",
          Units.bytes(UInt64(cell.byteCount)),
        ] + rates.map { Units.fixed($0, digits: 0) } + [Units.bytes(peak)])
      lines.append(
        .object([
          "scheme": .string(cell.scheme.name), "threshold": JSONValue(cell.sharing.threshold),
          "shadows": JSONValue(cell.sharing.shadowCount), "bytes": JSONValue(cell.byteCount),
          "split_mbps": JSONValue(rates[0]), "join_mbps": JSONValue(rates[1]),
          "repair_mbps": JSONValue(rates[2]), "peak_memory_bytes": JSONValue(Int(peak)),
        ]))
    }
    var line: JSONObject = ["cells": .array(lines)]
    BenchContext.add(to: &line)
    output.emit(line)
    output.print(table)
    output.print("MB/s of the secret, one core, \(Build.kind) build, \(BenchContext.machine())")
    return .success
  }

  /// The most that this process ever had in memory.
  private static func peakMemoryBytes() -> UInt64 {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return UInt64(usage.ru_maxrss) * 1024
  }

  private func measureStream(_ cell: Cell) throws -> Times {
    let disk = SystemDisk()
    let folder = "\(dir)/sfmedir-bench-\(SystemEntropy().bytes(6).hex)"
    _ = try disk.createDirectory(folder)
    var names: [String] = []
    defer {
      for name in names { try? disk.remove(name) }
      rmdir(folder)
    }
    func file(_ name: String) throws -> FileBytes {
      names.append("\(folder)/\(name)")
      return FileBytes(try disk.open("\(folder)/\(name)", mode: .createNew))
    }
    let (secret, digest) = try makeSecret(try file("secret"), cell.byteCount)
    let bodies = try (1...cell.sharing.shadowCount).map { try file("body-\($0)") }
    var times = Times()
    let clock = ContinuousClock()
    var shadows: [StoredShadow] = []
    var digests: [Int: [UInt8]] = [:]
    times.split = try seconds(clock) {
      (shadows, digests) = try split(cell, secret, try file("scratch"), bodies)
    }
    let kept = Array(shadows.suffix(cell.sharing.threshold))
    times.join = try seconds(clock) {
      let joiner = try cell.scheme.joiner(
        shadows: kept, threshold: cell.sharing.threshold, expectedDigests: digests)
      var hasher = SHA256Hasher()
      while let piece = try joiner.next() { hasher.update(piece) }
      let joined = hasher.finalize()
      precondition(joined == digest, "\(cell.byteCount) bytes did not come back")
    }
    times.repair = try seconds(clock) { try repair(cell, kept, bodies, digests) }
    return times
  }

  private func seconds(_ clock: ContinuousClock, _ body: () throws -> Void) rethrows -> Double {
    try clock.measure(body) / .seconds(1)
  }

  private func makeSecret(_ file: FileBytes, _ byteCount: Int) throws -> (FileBytes, [UInt8]) {
    var hasher = SHA256Hasher()
    let pieceBytes = 1 << 20
    for start in stride(from: 0, to: byteCount, by: pieceBytes) {
      let piece = SystemEntropy().bytes(min(pieceBytes, byteCount - start))
      hasher.update(piece)
      try piece.withUnsafeBytes { try file.write($0, at: start) }
    }
    return (file, hasher.finalize())
  }

  private func split(
    _ cell: Cell, _ secret: FileBytes, _ scratch: FileBytes, _ bodies: [FileBytes]
  ) throws -> ([StoredShadow], [Int: [UInt8]]) {
    guard let imageID = ImageID(SystemEntropy().bytes(ImageID.byteCount)) else {
      preconditionFailure("\(ImageID.byteCount) bytes are no image id")
    }
    let splitter = try cell.scheme.splitter(
      secret: secret, secretByteCount: cell.byteCount, scratch: scratch,
      threshold: cell.sharing.threshold, shadowCount: cell.sharing.shadowCount, imageID: imageID,
      epoch: 1, entropy: SystemEntropy())
    var position = 0
    while try splitter.withNext({ pieces in
      for (body, piece) in zip(bodies, pieces) { try body.write(piece, at: position) }
      position += pieces[0].count
    }) {}
    let digests = Dictionary(
      uniqueKeysWithValues: zip(splitter.headers.map(\.index), splitter.finish()))
    let shadows = zip(splitter.headers, bodies).map {
      StoredShadow(header: $0, body: $1, bodyByteCount: splitter.bodyByteCount)
    }
    return (shadows, digests)
  }

  private func repair(
    _ cell: Cell, _ kept: [StoredShadow], _ bodies: [FileBytes], _ digests: [Int: [UInt8]]
  ) throws {
    let repairer = try cell.scheme.repairer(
      lost: 1, headers: kept.map(\.header), threshold: cell.sharing.threshold,
      expectedDigests: digests)
    while repairer.nextByteCount > 0 {
      let (position, count) = (repairer.position, repairer.nextByteCount)
      let pieces = try repairer.indices.map { index in
        var piece = [UInt8](repeating: 0, count: count)
        try piece.withUnsafeMutableBytes { try bodies[index - 1].read(into: $0, at: position) }
        return piece
      }
      _ = repairer.next(pieces)
    }
    try repairer.finish()
  }
}
