import ArgumentParser
import Base
import Glibc
import SegmentStore

struct BenchSegmentsCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "segments",
    abstract: "Measure segment files: appends beside the raw disk, reads, start-up, compaction.",
    discussion: """
      Appends: writers that each append 64 KiB and wait for it, beside a loop that writes as many bytes to a plain \
      file and calls fdatasync once, in turns. Reads: single records of the same size at random, from what the \
      page cache holds. Start-up: a store of many records of 100 bytes, opened with its hint files, and by reading \
      everything. Compaction: that store with nine records in ten deleted, without a limit on its rate.

      EXAMPLE
        sfmedir bench segments --dir /srv/sfmedir --json

      JSON: one line with appends (for each number of writers: writers, mbps, raw_mbps, ratio, batch_records), \
      vs_raw_disk_64, read_us_p50, read_us_p99, records, open_seconds_1m (scaled where --records is not 1000000), \
      open_seconds_verifying, overhead_bytes_per_record, hint_bytes_per_record, compaction_mbps, build, version, \
      date, machine. MB are 10^6 bytes.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @Option(
    help: ArgumentHelp(
      "A folder on the disk to measure; what is written there is removed.", valueName: "folder"),
    completion: .directory)
  var dir = "."
  @Option(
    help: ArgumentHelp("Records of the store for start-up and compaction.", valueName: "count"))
  var records = 1_000_000
  @Option(help: "Of each measurement of appends, in each of the rounds.")
  var seconds = 1.5
  @Option(help: ArgumentHelp("How often ours and the raw disk take turns.", valueName: "count"))
  var rounds = 5

  private static let payloadBytes = 64 << 10
  private static let writerCounts = [1, 16, 64]

  func validate() throws {
    guard (1000...20_000_000).contains(records), (0.1...60).contains(seconds),
      (1...100).contains(rounds)
    else {
      throw ValidationError("1000 to 20000000 records, 0.1 to 60 seconds, 1 to 100 rounds")
    }
  }

  private struct Appends {
    var writers: Int
    var rates: [Double] = []
    var rawRates: [Double] = []
    var batchRecords = 0.0

    var ratio: Double { Self.median(zip(rates, rawRates).map { $0 / $1 }) }

    static func median(_ values: [Double]) -> Double {
      values.isEmpty ? 0 : values.sorted()[values.count / 2]
    }
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    BenchContext.warn(output)
    let folder = "\(dir)/sfmedir-bench-\(SystemEntropy().bytes(6).hex)"
    let disk = SystemDisk()
    _ = try disk.createDirectory(folder)
    defer { Self.remove(folder, disk) }
    var line: JSONObject = [:]
    try await measureAppends(folder, disk, output, &line)
    try await measureReads(folder, disk, output, &line)
    try await measureStart(folder, disk, output, &line)
    BenchContext.add(to: &line)
    output.emit(line)
    output.print("\(Build.kind) build, \(BenchContext.machine())")
    return .success
  }

  private static func remove(_ folder: String, _ disk: SystemDisk) {
    for name in (try? disk.listDirectory(folder)) ?? [] {
      let path = "\(folder)/\(name)"
      for file in (try? disk.listDirectory(path)) ?? [] { try? disk.remove("\(path)/\(file)") }
      try? disk.remove(path)
      rmdir(path)
    }
    rmdir(folder)
  }

  // MARK: appends

  private func measureAppends(
    _ folder: String, _ disk: SystemDisk, _ output: Output, _ line: inout JSONObject
  ) async throws {
    var results = Self.writerCounts.map { Appends(writers: $0) }
    for round in 0..<rounds {
      for place in results.indices {
        let writers = results[place].writers
        // Whoever comes second finds the disk busy with what the first left: they take turns.
        let isRawFirst = round.isMultiple(of: 2)
        if isRawFirst { results[place].rawRates.append(try raw(folder, disk, writers)) }
        let (rate, batch) = try await append(folder, disk, writers)
        results[place].rates.append(rate)
        results[place].batchRecords = batch
        if !isRawFirst { results[place].rawRates.append(try raw(folder, disk, writers)) }
      }
    }
    var table = Table([
      .init("writers", .right), .init("MB/s", .right), .init("raw MB/s", .right),
      .init("ratio", .right), .init("records a batch", .right),
    ])
    for result in results {
      table.add([
        "\(result.writers)", Units.fixed(Appends.median(result.rates), digits: 1),
        Units.fixed(Appends.median(result.rawRates), digits: 1),
        Units.fixed(result.ratio, digits: 2), Units.fixed(result.batchRecords, digits: 1),
      ])
    }
    output.print(table)
    line["appends"] = .array(
      results.map {
        .object([
          "writers": JSONValue($0.writers), "mbps": JSONValue(Appends.median($0.rates)),
          "raw_mbps": JSONValue(Appends.median($0.rawRates)), "ratio": JSONValue($0.ratio),
          "batch_records": JSONValue($0.batchRecords),
        ])
      })
    if let widest = results.last { line["vs_raw_disk_64"] = JSONValue(widest.ratio) }
  }

  /// MB/s of a plain file: as many bytes as the writers have under way, then fdatasync.
  private func raw(_ folder: String, _ disk: SystemDisk, _ writers: Int) throws -> Double {
    let path = "\(folder)/raw"
    let file = try disk.open(path, mode: .createNew)
    defer { try? disk.remove(path) }
    let bytes = SystemEntropy().bytes(Self.payloadBytes)
    let clock = SystemClock()
    let began = clock.monotonicNanoseconds()
    let end = began + UInt64(seconds * 1e9)
    var offset: UInt64 = 0
    while clock.monotonicNanoseconds() < end {
      for _ in 0..<writers {
        try write(bytes, to: file, at: offset)
        offset += UInt64(bytes.count)
      }
      try file.synchronizeData()
    }
    return Double(offset) / 1e6 / (Double(clock.monotonicNanoseconds() - began) / 1e9)
  }

  private func write(_ bytes: [UInt8], to file: any DiskFile, at offset: UInt64) throws {
    try bytes.withUnsafeBytes { buffer in try file.write(buffer, at: offset) }
  }

  private func append(
    _ folder: String, _ disk: SystemDisk, _ writers: Int
  ) async throws -> (rate: Double, batchRecords: Double) {
    let path = "\(folder)/appends"
    let (store, _) = try SegmentStore.open(directory: path, disk: disk)
    let payload = SystemEntropy().bytes(Self.payloadBytes)
    let clock = SystemClock()
    let began = clock.monotonicNanoseconds()
    let end = began + UInt64(seconds * 1e9)
    let count = try await withThrowingTaskGroup(of: Int.self) { group in
      for _ in 0..<writers {
        group.addTask {
          var count = 0
          while clock.monotonicNanoseconds() < end {
            _ = try await store.append(key: SystemEntropy().bytes(16), payload: payload)
            count += 1
          }
          return count
        }
      }
      return try await group.reduce(0, +)
    }
    let elapsed = Double(clock.monotonicNanoseconds() - began) / 1e9
    let statistics = store.statistics()
    await store.close()
    for file in try disk.listDirectory(path) { try disk.remove("\(path)/\(file)") }
    return (
      Double(count * Self.payloadBytes) / 1e6 / elapsed,
      Double(statistics.recordsWritten) / Double(max(1, statistics.batches))
    )
  }

  // MARK: reads

  private func measureReads(
    _ folder: String, _ disk: SystemDisk, _ output: Output, _ line: inout JSONObject
  ) async throws {
    let (store, _) = try SegmentStore.open(directory: "\(folder)/reads", disk: disk)
    let payload = SystemEntropy().bytes(Self.payloadBytes)
    let keys = (0..<4096).map { _ in SystemEntropy().bytes(16) }
    for start in stride(from: 0, to: keys.count, by: 64) {
      _ = try await store.append(keys[start..<start + 64].map { (key: $0, payload: payload) })
    }
    let clock = SystemClock()
    var times: [UInt64] = []
    for _ in 0..<20_000 {
      let key = keys[Int.random(in: 0..<keys.count)]
      let began = clock.monotonicNanoseconds()
      guard try await store.read(key: key)?.count == payload.count else {
        preconditionFailure("a record is gone")
      }
      times.append(clock.monotonicNanoseconds() - began)
    }
    await store.close()
    times.sort()
    let p50 = Double(times[times.count / 2]) / 1e3
    let p99 = Double(times[times.count * 99 / 100]) / 1e3
    line["read_us_p50"] = JSONValue(p50)
    line["read_us_p99"] = JSONValue(p99)
    output.print(
      "random reads of 64 KiB, one at a time, from the page cache: p50 \(Units.fixed(p50, digits: 0)) us, "
        + "p99 \(Units.fixed(p99, digits: 0)) us")
  }

  // MARK: start-up and compaction

  private func measureStart(
    _ folder: String, _ disk: SystemDisk, _ output: Output, _ line: inout JSONObject
  ) async throws {
    let path = "\(folder)/start"
    var configuration = SegmentStoreConfiguration()
    configuration.maximumSegmentSizeBytes = 16 << 20
    let payload = SystemEntropy().bytes(100)
    let (store, _) = try SegmentStore.open(
      directory: path, disk: disk, configuration: configuration)
    var keys: [[UInt8]] = []
    keys.reserveCapacity(records)
    while keys.count < records {
      let batch = (0..<min(2000, records - keys.count)).map { _ in
        (key: SystemEntropy().bytes(16), payload: payload)
      }
      _ = try await store.append(batch)
      keys += batch.map(\.key)
    }
    let full = store.statistics()
    await store.close()
    let withHints = try await open(path, disk, configuration)
    configuration.verifiesAtOpen = true
    let verifying = try await open(path, disk, configuration)
    configuration.verifiesAtOpen = false
    let overhead =
      Double(full.totalSizeBytes) / Double(records) - Double(payload.count) - 16
    let hintBytes = try hintBytes(path, disk)
    let scaled = withHints * 1e6 / Double(records)
    line["records"] = JSONValue(records)
    line["open_seconds_1m"] = JSONValue(scaled)
    line["open_seconds_verifying"] = JSONValue(verifying)
    line["overhead_bytes_per_record"] = JSONValue(overhead)
    line["hint_bytes_per_record"] = JSONValue(Double(hintBytes) / Double(records))
    output.print(
      "\(Units.count(records, "record")) of 100 bytes: opened in \(Units.fixed(withHints, digits: 2)) s by hints, "
        + "\(Units.fixed(verifying, digits: 2)) s reading everything; "
        + "\(Units.fixed(overhead, digits: 1)) bytes more than key and payload, a record")
    try await measureCompaction(path, disk, configuration, keys, output, &line)
  }

  private func open(
    _ path: String, _ disk: SystemDisk, _ configuration: SegmentStoreConfiguration
  ) async throws -> Double {
    let clock = SystemClock()
    var seconds: [Double] = []
    for _ in 0..<3 {
      let began = clock.monotonicNanoseconds()
      let (store, _) = try SegmentStore.open(
        directory: path, disk: disk, configuration: configuration)
      seconds.append(Double(clock.monotonicNanoseconds() - began) / 1e9)
      precondition(store.statistics().keys == records, "\(store.statistics().keys) keys")
      await store.close()
    }
    return seconds.sorted()[1]
  }

  private func hintBytes(_ path: String, _ disk: SystemDisk) throws -> UInt64 {
    var bytes: UInt64 = 0
    for name in try disk.listDirectory(path) where name.hasSuffix(".hint") {
      let file = try disk.open("\(path)/\(name)", mode: .readOnly)
      bytes += try file.sizeBytes()
    }
    return bytes
  }

  private func measureCompaction(
    _ path: String, _ disk: SystemDisk, _ configuration: SegmentStoreConfiguration,
    _ keys: [[UInt8]], _ output: Output, _ line: inout JSONObject
  ) async throws {
    let (store, _) = try SegmentStore.open(
      directory: path, disk: disk, configuration: configuration)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for worker in 0..<64 {
        group.addTask {
          for place in stride(from: worker, to: keys.count, by: 64) where place % 10 != 0 {
            _ = try await store.delete(key: keys[place])
          }
        }
      }
      try await group.waitForAll()
    }
    let clock = SystemClock()
    let began = clock.monotonicNanoseconds()
    var read: UInt64 = 0
    var written: UInt64 = 0
    while let result = try await store.compact() {
      read += result.sizeBytesBefore
      written += result.sizeBytesAfter
    }
    let elapsed = Double(clock.monotonicNanoseconds() - began) / 1e9
    await store.close()
    let rate = Double(read) / 1e6 / elapsed
    line["compaction_mbps"] = JSONValue(rate)
    output.print(
      "compaction: \(Units.bytes(read)) became \(Units.bytes(written)) at \(Units.fixed(rate, digits: 0)) MB/s of segments read"
    )
  }
}
