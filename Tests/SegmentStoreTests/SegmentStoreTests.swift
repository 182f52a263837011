import Base
import Foundation
import SegmentStore
import Simulator
import Testing

@Suite struct SegmentStoreTests {
  @Test func recordsAreReplacedDeletedListedAndFoundAgain() async throws {
    let disk = SimulatedDisk()
    let seed: UInt64 = 77
    var random = SeededGenerator(seed: seed)
    var model: [[UInt8]: [UInt8]] = [:]
    var (store, report) = try open(disk)
    #expect(report.createdStore)
    for round in 0..<4 {
      for _ in 0..<60 {
        let key = random.bytes(Int.random(in: 1...2, using: &random)).map { $0 & 7 }
        if Int.random(in: 0..<4, using: &random) == 0 {
          let existed = try await store.delete(key: key)
          #expect(existed == (model.removeValue(forKey: key) != nil), "seed \(seed)")
        } else {
          let payload = random.bytes(Int.random(in: 0...300, using: &random))
          _ = try await store.append(key: key, payload: payload)
          model[key] = payload
        }
      }
      let sorted = model.keys.sorted { $0.lexicographicallyPrecedes($1) }
      var pages: [[UInt8]] = []
      while true {
        let page = store.keys(after: pages.last, limit: 7)
        pages += page
        if page.count < 7 { break }
      }
      #expect(pages == sorted, "seed \(seed)")
      for (key, payload) in model {
        #expect(try await store.read(key: key) == payload, "seed \(seed)")
      }
      #expect(try await store.read(key: bytes("absent")) == nil)
      let live = model.reduce(0) { $0 + 32 + $1.key.count + $1.value.count }
      let statistics = store.statistics()
      #expect(statistics.keys == model.count && statistics.liveSizeBytes == UInt64(live))
      await store.close()
      (store, report) = try open(disk)
      #expect(report.damages == [] && report.tailCut == nil && !report.createdStore, "\(round)")
      #expect(store.statistics().liveSizeBytes == UInt64(live))
      #expect(report.nextSequence == statistics.nextSequence)
    }
    #expect(report.segments > 3)
    await store.close()
  }

  @Test func concurrentAppendsShareSynchronizations() async throws {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk, smallConfiguration(segmentBytes: 1 << 20))
    let gate = Locked(false)
    let hasBegun = Locked(false)
    let before = disk.synchronizations
    disk.onSynchronize { _ in
      hasBegun.with { $0 = true }
      while !gate.with({ $0 }) { usleep(50) }
    }
    let first = Task { try await store.append(key: [100], payload: []) }
    await until { hasBegun.with { $0 } }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for writer in 0..<64 as Range<UInt8> {
        group.addTask {
          _ = try await store.append(key: [writer], payload: bytes("payload \(writer)"))
        }
      }
      // The first batch stands in its synchronization until all are queued.
      await until { store.statistics().waitingWrites == 65 }
      gate.with { $0 = true }
      try await group.waitForAll()
    }
    _ = try await first.value
    #expect(store.statistics().batches == 2 && store.statistics().recordsWritten == 65)
    #expect(disk.synchronizations - before == 2)
    for writer in 0..<64 {
      #expect(try await store.read(key: [UInt8(writer)]) == bytes("payload \(writer)"))
    }
    await store.close()
  }

  @Test func aWriteIsAnsweredOnlyAfterItsSynchronization() async throws {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk)
    let gate = Locked(false)
    let hasBegun = Locked(false)
    disk.onSynchronize { _ in
      hasBegun.with { $0 = true }
      while !gate.with({ $0 }) { usleep(50) }
    }
    let isAnswered = Locked(false)
    let write = Task {
      _ = try await store.append(key: [1], payload: [1])
      isAnswered.with { $0 = true }
    }
    await until { hasBegun.with { $0 } }
    #expect(!isAnswered.with { $0 } && !store.contains(key: [1]))
    gate.with { $0 = true }
    try await write.value
    #expect(store.contains(key: [1]))
    await store.close()
  }

  @Test func aFullQueueRefusesAtOnceAndDoesNothing() async throws {
    let disk = SimulatedDisk()
    var configuration = smallConfiguration()
    configuration.maximumWaitingWrites = 3
    configuration.maximumWaitingWriteBytes = 100
    let (store, _) = try open(disk, configuration)
    let gate = Locked(false)
    disk.onSynchronize { _ in while !gate.with({ $0 }) { usleep(50) } }
    let first = Task { try await store.append(key: [1], payload: [UInt8](repeating: 1, count: 90)) }
    await until { store.statistics().waitingWrites == 1 }
    let tooMany = await failure { () throws(SegmentStoreError) in
      try await store.append([
        (key: [2], payload: []), (key: [3], payload: []), (key: [4], payload: []),
      ])
    }
    #expect(tooMany == .overloaded)
    let tooLarge = await failure { () throws(SegmentStoreError) in
      try await store.append(key: [2], payload: [UInt8](repeating: 1, count: 11))
    }
    #expect(tooLarge == .overloaded)
    let second = Task {
      try await store.append([
        (key: [5], payload: [UInt8](repeating: 1, count: 10)), (key: [6], payload: []),
      ])
    }
    await until { store.statistics().waitingWrites == 3 }
    gate.with { $0 = true }
    _ = try await first.value
    #expect(try await second.value.map(\.sequence) == [2, 3])
    #expect(store.keys(limit: 10) == [[1], [5], [6]])
    #expect(store.statistics().waitingWrites == 0)
    // Alone, a write of any size is taken.
    _ = try await store.append(key: [7], payload: [UInt8](repeating: 1, count: 500))
    await store.close()
  }

  @Test func argumentsAreChecked() async throws {
    let disk = SimulatedDisk()
    var configuration = smallConfiguration()
    configuration.maximumPayloadSizeBytes = 10
    let (store, _) = try open(disk, configuration)
    for size in [0, 65] {
      let key = [UInt8](repeating: 1, count: size)
      let error = await failure { () throws(SegmentStoreError) in
        try await store.append(key: key, payload: [])
      }
      #expect(error == .invalidKeySize(size))
    }
    let error = await failure { () throws(SegmentStoreError) in
      try await store.append(key: [1], payload: [UInt8](repeating: 0, count: 11))
    }
    #expect(error == .payloadTooLarge(sizeBytes: 11, limitBytes: 10))
    #expect(try await !store.delete(key: [1]))
    let key = [UInt8](repeating: 255, count: 64)
    _ = try await store.append(key: key, payload: [UInt8](repeating: 0, count: 10))
    #expect(try await store.read(key: key)?.count == 10)
    await store.close()
    await store.close()
    let closed = await failure { () throws(SegmentStoreError) in try await store.read(key: key) }
    #expect(closed == .closed)
    let closedWrite = await failure { () throws(SegmentStoreError) in
      try await store.append(key: key, payload: [])
    }
    #expect(closedWrite == .closed)
    configuration.maximumSegmentSizeBytes = 100
    #expect(throws: SegmentStoreError.self) { _ = try open(disk, configuration) }
  }

  @Test func largePayloadsGetSegmentsOfTheirOwn() async throws {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk)
    var random = SeededGenerator(seed: 3)
    let sizes = [10, 300_000, 5000, 1_500_000, 0, 262_144, 262_143]
    let records = sizes.enumerated().map { (key: [UInt8($0)], payload: random.bytes($1)) }
    let locations = try await store.append(records)
    #expect(locations.map(\.segmentIdentifier) == [1, 2, 3, 4, 5, 6, 7])
    await store.close()
    let (again, report) = try open(disk)
    #expect(report.damages == [] && report.valueRecords == records.count)
    for record in records { #expect(try await again.read(key: record.key) == record.payload) }
    await again.close()
  }

  @Test func forEachRecordGoesThroughEverythingInOrder() async throws {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk)
    for number in 0..<20 {
      let payload = [UInt8](repeating: UInt8(number), count: 600)
      _ = try await store.append(key: [UInt8(number % 5)], payload: payload)
    }
    try await store.delete(key: [3])
    let seen = Locked<[SegmentRecord]>([])
    try await store.forEachRecord { record in
      seen.with { $0.append(record) }
      return true
    }
    let records = seen.with { $0 }
    #expect(records.map(\.location.sequence) == Array(1...21))
    #expect(records[7].payload == [UInt8](repeating: 7, count: 600) && records[7].key == [2])
    #expect(records[20].payload == nil && records[20].key == [3])
    seen.with { $0 = [] }
    try await store.forEachRecord(fromSequence: 9) { record in
      seen.with {
        $0.append(record)
        return $0.count < 4
      }
    }
    #expect(seen.with { $0.map(\.location.sequence) } == [9, 10, 11, 12])
    await store.close()
  }

  @Test func dropSegmentsRemovesOnlyWholeOldSegments() async throws {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk)
    var locations: [RecordLocation] = []
    for number in 0..<9 {
      let payload = [UInt8](repeating: 1, count: 1000)
      locations.append(try await store.append(key: [UInt8(number)], payload: payload))
    }
    let lastOfFirst = locations.last { $0.segmentIdentifier == 1 }!.sequence
    #expect(try await store.dropSegments(throughSequence: lastOfFirst - 1) == 0)
    #expect(try await store.dropSegments(throughSequence: lastOfFirst) == 1)
    #expect(disk.content(segmentPath(1)) == nil && disk.content(segmentPath(2)) != nil)
    #expect(store.keys(limit: 100).count == 9 - Int(lastOfFirst))
    #expect(try await store.read(key: [0]) == nil)
    #expect(try await store.dropSegments(throughSequence: .max) == 1)
    #expect(store.statistics().segments == 1)
    await store.close()
    let (again, report) = try open(disk)
    #expect(report.damages == [] && report.nextSequence == 10)
    #expect(
      again.keys(limit: 100)
        == locations.filter { $0.segmentIdentifier == 3 }.map { [UInt8($0.sequence - 1)] })
    await again.close()
  }

  @Test func aFolderOpensOnlyOnce() async throws {
    let path = NSTemporaryDirectory() + "segment-store-" + UUID().uuidString
    defer { try? FileManager.default.removeItem(atPath: path) }
    let (store, _) = try SegmentStore.open(directory: path, disk: SystemDisk())
    #expect(throws: SegmentStoreError.alreadyOpen(directory: path)) {
      _ = try SegmentStore.open(directory: path, disk: SystemDisk())
    }
    _ = try await store.append(key: [1], payload: [2])
    await store.close()
    let (again, report) = try SegmentStore.open(directory: path, disk: SystemDisk())
    #expect(try await again.read(key: [1]) == [2] && report.damages == [])
    await again.close()
  }

  @Test func readsGoOnWhileWritersWrite() async throws {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for worker in 0..<8 as Range<UInt8> {
        group.addTask {
          for round in 0..<30 as Range<UInt8> {
            let payload = [UInt8](repeating: round, count: 200)
            _ = try await store.append(key: [worker], payload: payload)
            if let other = try await store.read(key: [(worker + 1) % 8]) {
              #expect(other.count == 200 && Set(other).count == 1)
            }
            #expect(try await store.read(key: [worker]) == payload)
          }
        }
      }
      try await group.waitForAll()
    }
    await store.close()
    let (again, report) = try open(disk)
    #expect(report.damages == [] && report.valueRecords == 240)
    await again.close()
  }
}
