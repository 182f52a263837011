import ArgumentParser
import Base
import Shadows

struct BenchShadowsCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "shadows",
    abstract: "Measure splitting, joining and repair of shadows on one core, by both schemes.",
    discussion: """
      Without options: (r, s) = (3, 5) and (6, 10), 512 KiB and 64 MiB. SHA-256 of every shadow is in each \
      figure, made and checked as a master does. Joined are the last r shadows, so that as much as possible \
      has to be computed; repaired is the first shadow, from the last r.

      EXAMPLES
        sfmedir bench shadows --json
        sfmedir bench shadows --scheme krawczyk -r 3 -s 5 --bytes 524288 --seconds 0.5
        sfmedir bench shadows --stream --dir /var/tmp --scheme bai -r 6 -s 10 --bytes 1073741824

      In pieces: the split hands out the bodies piece by piece, from memory and into none. With --stream everything goes \
      through files instead, once, and the most memory that the program ever had is told: the secret is split into \
      files, joined from the last r and the first shadow repaired, synchronizing nothing.

      JSON: one line with bai_split_mbps, bai_join_mbps, bai_repair_mbps, krawczyk_split_mbps, \
      krawczyk_join_mbps, krawczyk_repair_mbps (of each the slowest cell), cells (for each scheme, threshold, \
      shadows, bytes: split_mbps, split_without_digests_mbps, split_in_pieces_mbps, join_mbps, repair_mbps; with --stream \
      split_mbps, join_mbps, repair_mbps, peak_memory_bytes), build, version, date, \
      machine. MB are 10^6 bytes of the secret; rates are of the median run, wall-clock.
      """)

  @OptionGroup var outputOptions: OutputOptions

  @Option(help: ArgumentHelp("Only this scheme: bai or krawczyk.", valueName: "name"))
  var scheme: String?
  @Option(name: .customShort("r"), help: ArgumentHelp("Threshold, with -s.", valueName: "count"))
  var threshold: Int?
  @Option(name: .customShort("s"), help: ArgumentHelp("Shadows, with -r.", valueName: "count"))
  var shadows: Int?
  @Option(help: ArgumentHelp("Only this size of the secret.", valueName: "count"))
  var bytes: Int?
  @Option(help: "At least so long for each figure.")
  var seconds = 1.0
  @Flag(help: "Through files, in constant memory.")
  var stream = false
  @Option(
    help: ArgumentHelp(
      "Where --stream puts its files; what is written there is removed.", valueName: "folder"),
    completion: .directory)
  var dir = "."

  struct Cell {
    var scheme: any ShadowScheme
    var sharing: Sharing
    var byteCount: Int
  }

  private struct Rates {
    var split: Double
    var splitWithoutDigests: Double
    var splitInPieces: Double
    var join: Double
    var repair: Double
  }

  func validate() throws {
    if let scheme, ShadowSchemes.named(scheme) == nil {
      throw ValidationError(
        "'\(scheme)' is none of \(ShadowSchemes.names.joined(separator: ", "))")
    }
    guard (threshold == nil) == (shadows == nil) else {
      throw ValidationError("-r and -s go together")
    }
    if let threshold, let shadows,
      !BaiScheme().supports(threshold: threshold, shadowCount: shadows)
    {
      throw ValidationError("no scheme splits by (\(threshold), \(shadows))")
    }
    let largest = stream ? BaiScheme.maximumSecretBytes : 256 << 20
    guard (1...largest).contains(bytes ?? 1), (0.01...60).contains(seconds) else {
      throw ValidationError("1 byte to 256 MiB (1 GiB with --stream), 0.01 to 60 seconds")
    }
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    BenchContext.warn(output)
    if stream { return try measureStreams(chosenCells(), output) }
    var table = Table([
      .init("scheme"), .init("r", .right), .init("s", .right), .init("size", .right),
      .init("split MB/s", .right), .init("without digests", .right), .init("in pieces", .right),
      .init("join MB/s", .right),
      .init("repair MB/s", .right),
    ])
    var cells: [JSONValue] = []
    var slowest: [(name: String, rates: Rates)] = []
    for cell in chosenCells() {
      let rates = try measure(cell)
      add(rates, of: cell, to: &table)
      cells.append(json(rates, of: cell))
      if let place = slowest.firstIndex(where: { $0.name == cell.scheme.name }) {
        slowest[place].rates.split = min(slowest[place].rates.split, rates.split)
        slowest[place].rates.join = min(slowest[place].rates.join, rates.join)
        slowest[place].rates.repair = min(slowest[place].rates.repair, rates.repair)
      } else {
        slowest.append((cell.scheme.name, rates))
      }
    }
    var line: JSONObject = [:]
    for (name, rates) in slowest {
      line["\(name)_split_mbps"] = JSONValue(rates.split)
      line["\(name)_join_mbps"] = JSONValue(rates.join)
      line["\(name)_repair_mbps"] = JSONValue(rates.repair)
    }
    line["cells"] = .array(cells)
    BenchContext.add(to: &line)
    output.emit(line)
    output.print(table)
    output.print("MB/s of the secret, one core, \(Build.kind) build, \(BenchContext.machine())")
    return .success
  }

  private func rateInPieces(
    _ cell: Cell, _ secret: [UInt8], _ imageID: ImageID
  ) throws -> Double {
    let source = MemoryBytes(copying: secret)
    let scratch = MemoryBytes(
      byteCount: try cell.scheme.scratchByteCount(
        secretByteCount: secret.count, threshold: cell.sharing.threshold))
    return try RepeatedMeasurement(repeats: 3, minimumSeconds: seconds) {
      let splitter = try cell.scheme.splitter(
        secret: source, secretByteCount: secret.count, scratch: scratch,
        threshold: cell.sharing.threshold, shadowCount: cell.sharing.shadowCount,
        imageID: imageID, epoch: 1, entropy: SystemEntropy())
      while try splitter.next() != nil {}
      precondition(splitter.finish().count == cell.sharing.shadowCount, "a digest is missing")
    }.megabytesPerSecond(secret.count)
  }

  private func chosenCells() -> [Cell] {
    let sharings =
      threshold.flatMap { threshold in
        shadows.map { [Sharing(threshold: threshold, shadowCount: $0)] }
      } ?? [Sharing(threshold: 3, shadowCount: 5), Sharing(threshold: 6, shadowCount: 10)]
    let sizes = bytes.map { [$0] } ?? [512 << 10, 64 << 20]
    return (scheme.map { [$0] } ?? ShadowSchemes.names).compactMap { ShadowSchemes.named($0) }
      .flatMap { scheme in
        sharings.flatMap { sharing in
          sizes.map { Cell(scheme: scheme, sharing: sharing, byteCount: $0) }
        }
      }
  }

  private func add(_ rates: Rates, of cell: Cell, to table: inout Table) {
    table.add([
      cell.scheme.name, "\(cell.sharing.threshold)", "\(cell.sharing.shadowCount)",
      Units.bytes(UInt64(cell.byteCount)), Units.fixed(rates.split, digits: 0),
      Units.fixed(rates.splitWithoutDigests, digits: 0),
      Units.fixed(rates.splitInPieces, digits: 0), Units.fixed(rates.join, digits: 0),
      Units.fixed(rates.repair, digits: 0),
    ])
  }

  private func json(_ rates: Rates, of cell: Cell) -> JSONValue {
    .object([
      "scheme": .string(cell.scheme.name), "threshold": JSONValue(cell.sharing.threshold),
      "shadows": JSONValue(cell.sharing.shadowCount), "bytes": JSONValue(cell.byteCount),
      "split_mbps": JSONValue(rates.split),
      "split_without_digests_mbps": JSONValue(rates.splitWithoutDigests),
      "split_in_pieces_mbps": JSONValue(rates.splitInPieces),
      "join_mbps": JSONValue(rates.join), "repair_mbps": JSONValue(rates.repair),
    ])
  }

  private func measure(_ cell: Cell) throws -> Rates {
    let (scheme, sharing) = (cell.scheme, cell.sharing)
    let secret = SystemEntropy().bytes(cell.byteCount)
    guard let imageID = ImageID(SystemEntropy().bytes(ImageID.byteCount)) else {
      preconditionFailure("\(ImageID.byteCount) bytes are no image id")
    }
    func rate(_ body: () throws -> Void) rethrows -> Double {
      try RepeatedMeasurement(repeats: 3, minimumSeconds: seconds, body)
        .megabytesPerSecond(cell.byteCount)
    }
    var shadows: [Shadow] = []
    var digests: [Int: [UInt8]] = [:]
    func split(makesDigests: Bool) throws {
      shadows = try scheme.split(
        secret: secret, threshold: sharing.threshold, shadowCount: sharing.shadowCount,
        imageID: imageID, epoch: 1, entropy: SystemEntropy(), makesDigests: makesDigests)
    }
    let bare = try rate { try split(makesDigests: false) }
    let whole = try rate {
      try split(makesDigests: true)
      digests = Dictionary(uniqueKeysWithValues: shadows.map { ($0.index, $0.digest()) })
    }
    // Without what the split knows of them, as they come from slaves.
    let kept = shadows.suffix(sharing.threshold).map { Shadow(header: $0.header, body: $0.body) }
    var joined: [UInt8] = []
    let join = try rate {
      joined = try scheme.join(
        shadows: kept, threshold: sharing.threshold, expectedDigests: digests)
    }
    precondition(joined == secret, "\(cell.byteCount) bytes did not come back")
    var repaired: Shadow?
    let repair = try rate {
      repaired = try scheme.repair(
        lost: 1, shadows: kept, threshold: sharing.threshold, expectedDigests: digests)
    }
    precondition(repaired == shadows[0], "a repaired shadow differs from the lost one")
    return Rates(
      split: whole, splitWithoutDigests: bare,
      splitInPieces: try rateInPieces(cell, secret, imageID), join: join, repair: repair)
  }
}
