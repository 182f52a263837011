import Base
import Foundation
import SegmentStore
import Simulator
import Testing

/// What a workload was told, key by key: the states that a recovered store may show.
/// An acknowledged write leaves one state; writes that failed or never answered add theirs.
struct Expectation {
  private(set) var allowed: [[UInt8]: Set<[UInt8]?>] = [:]

  mutating func begin(_ key: [UInt8], _ payload: [UInt8]?) {
    allowed[key, default: [nil]].insert(payload)
  }
  mutating func acknowledge(_ key: [UInt8], _ payload: [UInt8]?) { allowed[key] = [payload] }
}

/// A workload of appends, replacements, deletions, groups and compactions that rolls over several segments.
/// - Returns: compactions that failed.
@discardableResult
private func runWorkload(
  _ store: SegmentStore, seed: UInt64, steps: Int, _ expectation: inout Expectation
) async -> Int {
  var random = SeededGenerator(seed: seed)
  var failedCompactions = 0
  var settings = CompactionSettings()
  settings.garbageFraction = 0.2
  for step in 0..<steps {
    let key = bytes("key-\(Int.random(in: 0..<9, using: &random))")
    switch Int.random(in: 0..<10, using: &random) {
    case 0..<5:
      let payload = random.bytes(Int.random(in: 0...1300, using: &random))
      expectation.begin(key, payload)
      if await failure({ () throws(SegmentStoreError) in
        try await store.append(key: key, payload: payload)
      }) == nil {
        expectation.acknowledge(key, payload)
      }
    case 5..<7:
      expectation.begin(key, nil)
      if await failure({ () throws(SegmentStoreError) in try await store.delete(key: key) }) == nil
      {
        expectation.acknowledge(key, nil)
      }
    default:
      let records = (0..<Int.random(in: 2...5, using: &random)).map { part in
        let size = Int.random(in: 0...700, using: &random)
        return (key: bytes("group-\(step % 4)-\(part)"), payload: random.bytes(size))
      }
      for record in records { expectation.begin(record.key, record.payload) }
      if await failure({ () throws(SegmentStoreError) in try await store.append(records) }) == nil {
        for record in records { expectation.acknowledge(record.key, record.payload) }
      }
    }
    if step % 6 == 5 {
      let error = await failure { () throws(SegmentStoreError) in
        try await store.compact(settings)
      }
      if error != nil { failedCompactions += 1 }
    }
  }
  return failedCompactions
}

/// Compares a recovered store with what is allowed, and returns what is wrong.
private func mismatches(_ store: SegmentStore, _ expectation: Expectation) async -> [String] {
  var wrong: [String] = []
  for (key, allowed) in expectation.allowed {
    do throws(SegmentStoreError) {
      let payload = try await store.read(key: key)
      if !allowed.contains(payload) {
        let size = payload.map { "\($0.count) bytes" } ?? "nothing"
        wrong.append("\(String(decoding: key, as: UTF8.self)): \(size) is not allowed")
      }
    } catch { wrong.append("\(String(decoding: key, as: UTF8.self)): \(error)") }
  }
  return wrong
}

/// How the segment files begin that a compaction made.
private let compactedHeader = bytes("SFMSEGMT") + [2, 0, 0, 0]

@Suite struct CrashTests {
  /// Cuts the power at every operation of a workload; after each cut and each way to lose unsynchronized bytes the
  /// store must open and hold every acknowledged record, with no damage but holes of the last batch.
  @Test(arguments: [1, 2, 3] as [UInt64])
  func everyCutKeepsWhatWasAcknowledged(seed: UInt64) async throws {
    let steps = 24
    let dryDisk = SimulatedDisk()
    var ignored = Expectation()
    let (dryStore, _) = try open(dryDisk)
    await runWorkload(dryStore, seed: seed, steps: steps, &ignored)
    await dryStore.close()
    #expect(dryDisk.paths.filter { $0.hasSuffix(".segment") }.count > 1)
    // Compaction has put files in the place of others.
    #expect(dryDisk.paths.contains { (dryDisk.content($0) ?? []).starts(with: compactedHeader) })

    var states = 0
    for cut in 0..<dryDisk.operations {
      let disk = SimulatedDisk()
      disk.cutPower(atOperation: cut)
      var expectation = Expectation()
      if let (store, _) = try? open(disk) {
        await runWorkload(store, seed: seed, steps: steps, &expectation)
        await store.close()
      }
      for (number, model) in CrashModel.allCases.enumerated() {
        var random = SeededGenerator(seed: seed &* 1_000_003 &+ UInt64(cut * 8 + number))
        let image = disk.afterCrash(model, &random)
        let place = "seed \(seed), cut \(cut), \(model)"
        try await checkRecovery(image, expectation, place)
        states += 1
      }
    }
    print("crash states tried with seed \(seed): \(states)")
  }

  /// Recovers, checks, uses the store, cuts recovery itself at every operation, and checks again.
  private func checkRecovery(
    _ image: SimulatedDisk, _ expectation: Expectation, _ place: String
  ) async throws {
    let before = image.copy()
    // As a slave starts: with hints. The second start reads everything.
    let (store, report) = try open(image, smallConfiguration(verifiesAtOpen: false))
    #expect(store.status == .readWrite, "\(place)")
    #expect(report.damages.allSatisfy { $0.kind == .unprovenBatch }, "\(place): \(report.damages)")
    #expect(report.damagedHints == [] && report.hintError == nil, "\(place): \(report)")
    #expect(await mismatches(store, expectation) == [], "\(place)")
    var later = expectation
    let payload = bytes("after the crash")
    _ = try await store.append(key: bytes("later"), payload: payload)
    later.acknowledge(bytes("later"), payload)
    await store.close()
    let (again, second) = try open(image)
    #expect(second.damages == [] && second.tailCut == nil, "\(place), second start: \(second)")
    #expect(await mismatches(again, later) == [], "\(place), second start")
    await again.close()

    guard report.tailCut != nil || !report.damages.isEmpty else { return }
    // A second loss of power in the middle of recovery.
    var random = SeededGenerator(seed: UInt64(before.paths.count))
    for cut in 0..<4 {
      let disk = before.copy()
      disk.cutPower(atOperation: cut)
      if let (store, _) = try? open(disk) { await store.close() }
      let (store, _) = try open(disk.afterCrash(.anySectors, &random))
      #expect(await mismatches(store, expectation) == [], "\(place), recovery cut at \(cut)")
      await store.close()
    }
  }

  @Test func everyFailingOperationIsReportedAndLosesNothing() async throws {
    let seed: UInt64 = 11
    let dryDisk = SimulatedDisk()
    var ignored = Expectation()
    let (dryStore, _) = try open(dryDisk)
    await runWorkload(dryStore, seed: seed, steps: 16, &ignored)
    await dryStore.close()
    for operation in 0..<dryDisk.operations {
      for code in [EIO, ENOSPC, EROFS] {
        let disk = SimulatedDisk()
        disk.fail(operation: operation, code: code)
        let place = "operation \(operation), errno \(code)"
        var expectation = Expectation()
        do throws(SegmentStoreError) {
          let (store, _) = try open(disk)
          let failed = await runWorkload(store, seed: seed, steps: 16, &expectation)
          await store.close()
          // What only costs time later, hints and compaction, is no reason to take no more writes.
          #expect(
            store.status != .readWrite || failed > 0 || store.statistics().hintFailures > 0,
            "\(place) went unnoticed")
        } catch {
          guard case .disk = error else { throw error }
        }
        // The program is started again on the running machine, and then the machine loses power.
        let (store, report) = try open(disk)
        #expect(report.damages.allSatisfy { $0.kind == .unprovenBatch }, "\(place): \(report)")
        #expect(await mismatches(store, expectation) == [], "\(place)")
        for key in expectation.allowed.keys {
          expectation.acknowledge(key, try await store.read(key: key))
        }
        await store.close()
        var random = SeededGenerator(seed: UInt64(operation))
        let (last, _) = try open(disk.afterCrash(.dropAll, &random))
        #expect(await mismatches(last, expectation) == [], "\(place), then a loss of power")
        await last.close()
      }
    }
  }

  @Test func interruptedDropsAreFinishedAndBringNothingBack() async throws {
    func fill(_ store: SegmentStore) async throws -> UInt64 {
      for number in 0..<12 {
        _ = try await store.append(
          key: bytes("old-\(number)"), payload: [UInt8](repeating: 7, count: 1000))
      }
      return try await store.append(key: bytes("new"), payload: bytes("kept")).sequence
    }
    let dryDisk = SimulatedDisk()
    let (dryStore, _) = try open(dryDisk)
    let last = try await fill(dryStore)
    let firstCut = dryDisk.operations
    #expect(try await dryStore.dropSegments(throughSequence: last) > 1)
    let endCut = dryDisk.operations
    await dryStore.close()
    for cut in firstCut..<endCut {
      for (number, model) in CrashModel.allCases.enumerated() {
        let disk = SimulatedDisk()
        disk.cutPower(atOperation: cut)
        let (store, _) = try open(disk)
        _ = try await fill(store)
        _ = await failure { () throws(SegmentStoreError) in
          try await store.dropSegments(throughSequence: last)
        }
        await store.close()
        var random = SeededGenerator(seed: UInt64(cut * 16 + number))
        let image = disk.afterCrash(model, &random)
        let (again, report) = try open(image)
        #expect(report.damages == [], "cut \(cut), \(model)")
        #expect(try await again.read(key: bytes("new")) == bytes("kept"))
        let keys = again.keys(limit: 100).count
        await again.close()
        let (third, thirdReport) = try open(image)
        #expect(third.keys(limit: 100).count == keys && thirdReport.damages == [])
        await third.close()
      }
    }
  }
}
