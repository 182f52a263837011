import Base
import Foundation
import Simulator
import Testing

@testable import SegmentStore

/// Moves only when somebody sleeps.
private final class SleepingClock: Clock {
  private let now = Locked<UInt64>(1)
  func monotonicNanoseconds() -> UInt64 { now.with { $0 } }
  func wallMilliseconds() -> UInt64 { 0 }
  func sleep(_ microseconds: UInt32) { now.with { $0 += UInt64(microseconds) * 1000 } }
}

@Suite struct CompactionTests {
  private static var eager: CompactionSettings {
    var settings = CompactionSettings()
    settings.garbageFraction = 0.05
    return settings
  }

  private func reopened(
    _ disk: SimulatedDisk, verifies: Bool
  ) throws -> (SegmentStore, RecoveryReport) {
    try open(disk, smallConfiguration(verifiesAtOpen: verifies))
  }

  private func compactAll(
    _ store: SegmentStore, _ settings: CompactionSettings = eager
  ) async throws -> [CompactionResult] {
    var results: [CompactionResult] = []
    while let result = try await store.compact(settings) { results.append(result) }
    return results
  }

  @Test func spaceComesBackAndNothingElseChanges() async throws {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk)
    var kept: [[UInt8]: [UInt8]] = [:]
    for number in 0..<40 {
      let payload = [UInt8](repeating: UInt8(number), count: 700)
      _ = try await store.append(key: bytes("key-\(number)"), payload: payload)
      if number % 4 == 0 { kept[bytes("key-\(number)")] = payload }
    }
    for number in 0..<40 where number % 4 != 0 {
      #expect(try await store.delete(key: bytes("key-\(number)")))
    }
    let before = store.statistics()
    let results = try await compactAll(store)
    let after = store.statistics()
    #expect(results.map(\.recordsKept).reduce(0, +) >= 10)
    #expect(after.totalSizeBytes < before.totalSizeBytes / 2, "\(before) \(after)")
    #expect(after.segments < before.segments)
    #expect((after.keys, after.liveSizeBytes) == (before.keys, before.liveSizeBytes))
    #expect(after.nextSequence == before.nextSequence)
    let files = disk.paths.filter { $0.hasSuffix(".segment") }
    #expect(files.count == after.segments)
    #expect(
      files.reduce(0) { $0 + UInt64((disk.content($1) ?? []).count) } == after.totalSizeBytes)
    try await expect(store, kept)
    await store.close()
    for verifies in [true, false] {
      let (again, report) = try reopened(disk.copy(), verifies: verifies)
      #expect(report.damages == [] && report.damagedHints == [] && report.rebuiltHints == [])
      #expect(report.removedFiles == [] && report.unknownFiles == [])
      #expect(report.nextSequence == after.nextSequence)
      #expect(report.hintedSegments == (verifies ? 0 : after.segments - 1))
      #expect(again.statistics().liveSizeBytes == after.liveSizeBytes)
      try await expect(again, kept)
      await again.close()
    }
  }

  private func expect(_ store: SegmentStore, _ kept: [[UInt8]: [UInt8]]) async throws {
    #expect(store.keys(limit: 1000) == kept.keys.sorted { $0.lexicographicallyPrecedes($1) })
    for (key, payload) in kept { #expect(try await store.read(key: key) == payload) }
  }

  /// The value stands in an earlier segment than its tombstone: the tombstone has to stay.
  @Test func whatWasDeletedStaysDeleted() async throws {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk)
    func fill(_ name: String, _ size: Int) async throws {
      _ = try await store.append(key: bytes(name), payload: [UInt8](repeating: 1, count: size))
    }
    // The first segment is mostly of use, the second mostly not.
    try await fill("gone", 500)
    try await fill("stays", 3000)
    try await fill("garbage", 3000)
    #expect(try await store.delete(key: bytes("gone")))
    #expect(try await store.delete(key: bytes("garbage")))
    try await fill("next", 3900)
    try await fill("last", 3900)
    var settings = CompactionSettings()
    settings.garbageFraction = 0.6
    let result = try #require(try await store.compact(settings))
    #expect(result.segments == [2] && result.recordsKept >= 1)
    #expect(try await store.compact(settings) == nil)
    await store.close()
    for verifies in [true, false] {
      let (again, report) = try reopened(disk.copy(), verifies: verifies)
      #expect(report.damages == [])
      #expect(
        again.keys(limit: 10).map { String(decoding: $0, as: UTF8.self) }
          == ["last", "next", "stays"])
      await again.close()
    }
  }

  /// Everything that may be done, in a random order, beside a dictionary.
  @Test(arguments: 1...12 as ClosedRange<UInt64>)
  func aStoreIsADictionary(seed: UInt64) async throws {
    var random = SeededGenerator(seed: seed)
    let disk = SimulatedDisk()
    var (store, _) = try open(disk)
    var model: [[UInt8]: [UInt8]] = [:]
    var compacted = 0
    for step in 0..<400 {
      let place = "seed \(seed), step \(step)"
      let key = bytes("key-\(Int.random(in: 0..<24, using: &random))")
      switch Int.random(in: 0..<20, using: &random) {
      case 0..<9:
        let payload = random.bytes(Int.random(in: 0...1200, using: &random))
        _ = try await store.append(key: key, payload: payload)
        model[key] = payload
      case 9..<14:
        #expect(try await store.delete(key: key) == (model[key] != nil), "\(place)")
        model[key] = nil
      case 14..<18:
        var settings = CompactionSettings()
        settings.garbageFraction = Double.random(in: 0.05...1, using: &random)
        if try await store.compact(settings) != nil { compacted += 1 }
      default:
        await store.close()
        let report: RecoveryReport
        (store, report) = try reopened(disk, verifies: Bool.random(using: &random))
        #expect(report.damages == [] && report.damagedHints == [], "\(place): \(report)")
        #expect(report.tailCut == nil && report.removedFiles == [], "\(place): \(report)")
      }
      #expect(store.statistics().keys == model.count, "\(place)")
    }
    try await expect(store, model)
    let live = model.reduce(0) { $0 + UInt64(32 + $1.key.count + $1.value.count) }
    #expect(store.statistics().liveSizeBytes == live)
    #expect(compacted > 5, "seed \(seed): \(compacted) compactions")
    await store.close()
  }

  @Test func readsAndWritesGoOnMeanwhile() async throws {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk, smallConfiguration(segmentBytes: 64 << 10))
    for number in 0..<400 {
      _ = try await store.append(
        key: bytes("key-\(number)"), payload: [UInt8](repeating: UInt8(number & 255), count: 900))
    }
    for number in 0..<400 where number % 3 != 0 {
      try await store.delete(key: bytes("key-\(number)"))
    }
    let isOver = Locked(false)
    try await withThrowingTaskGroup(of: Int.self) { group in
      for reader in 0..<3 {
        group.addTask {
          var reads = 0
          while !isOver.with({ $0 }) || reads < 200 {
            let number = (reads * 3 + reader * 30) % 399 / 3 * 3
            let payload = try await store.read(key: bytes("key-\(number)"))
            #expect(payload == [UInt8](repeating: UInt8(number & 255), count: 900))
            reads += 1
          }
          return reads
        }
      }
      group.addTask {
        var writes = 0
        while !isOver.with({ $0 }) {
          _ = try await store.append(key: bytes("new-\(writes % 50)"), payload: bytes("\(writes)"))
          writes += 1
        }
        return writes
      }
      let results = try await compactAll(store)
      #expect(results.count >= 2)
      isOver.with { $0 = true }
      for try await count in group { #expect(count > 0) }
    }
    await store.close()
  }

  /// 30 MB at 10 MB/s take three seconds; without a limit nothing sleeps.
  @Test func workKeepsItsPace() {
    let clock = SleepingClock()
    let pace = Pace(bytesPerSecond: 10_000_000, clock: clock, sleep: clock.sleep)
    for _ in 0..<3000 { pace.spend(bytes: 10_000) }
    #expect((2_980_000_000...3_000_000_001).contains(clock.monotonicNanoseconds()))
    let still = SleepingClock()
    let free = Pace(bytesPerSecond: 0, clock: still, sleep: still.sleep)
    free.spend(bytes: 1 << 40)
    #expect(still.monotonicNanoseconds() == 1)
  }

  @Test func damagedSegmentsStayAsEvidence() async throws {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk)
    for number in 0..<12 {
      _ = try await store.append(
        key: bytes("key-\(number)"), payload: [UInt8](repeating: 3, count: 1000))
    }
    for number in 0..<3 { try await store.delete(key: bytes("key-\(number)")) }
    var content = try #require(disk.content(segmentPath(1)))
    content[200] ^= 1
    disk.setContent(segmentPath(1), content)
    let error = await failure { () throws(SegmentStoreError) in
      try await store.compact(Self.eager)
    }
    guard case .damaged(let damage)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(damage.segmentIdentifier == 1 && damage.kind == .payload)
    #expect(disk.content(segmentPath(1)) == content)
    #expect(!disk.paths.contains { $0.hasSuffix(".new") })
    // It is not tried again, and does not keep others from it.
    _ = try await compactAll(store)
    #expect(disk.content(segmentPath(1)) == content)
    #expect(store.status == .readWrite)
    await store.close()
  }

  @Test func withoutRoomNothingChanges() async throws {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk)
    for number in 0..<12 {
      _ = try await store.append(
        key: bytes("key-\(number)"), payload: [UInt8](repeating: 3, count: 1000))
    }
    for number in 0..<6 { try await store.delete(key: bytes("key-\(number)")) }
    let before = store.statistics()
    disk.limitCapacity(1)
    let error = await failure { () throws(SegmentStoreError) in
      try await store.compact(Self.eager)
    }
    guard case .disk(let cause)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(cause.code == ENOSPC)
    #expect(store.status == .readWrite && store.statistics() == before)
    #expect(!disk.paths.contains { $0.hasSuffix(".new") })
    disk.limitCapacity(.max)
    #expect(try await store.compact(Self.eager) != nil)
    await store.close()
  }

  /// Compactions that end while the store closes leave the store as it was or as it will be.
  @Test func closingEndsIt() async throws {
    for _ in 0..<20 {
      let disk = SimulatedDisk()
      let (store, _) = try open(disk)
      for number in 0..<30 {
        _ = try await store.append(
          key: bytes("key-\(number % 7)"), payload: [UInt8](repeating: UInt8(number), count: 900))
      }
      async let compaction = failure { () throws(SegmentStoreError) in
        try await store.compact(Self.eager)
      }
      await store.close()
      if let error = await compaction { #expect(error == .closed) }
      let (again, report) = try reopened(disk, verifies: true)
      #expect(report.damages == [])
      for number in 23..<30 {
        #expect(
          try await again.read(key: bytes("key-\(number % 7)"))
            == [UInt8](repeating: UInt8(number), count: 900))
      }
      await again.close()
    }
  }
}
