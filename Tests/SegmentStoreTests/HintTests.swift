import Base
import Foundation
import SegmentStore
import Simulator
import Testing

@Suite struct HintTests {
  private func hintPath(_ identifier: UInt64) -> String {
    segmentPath(identifier).replacingOccurrences(of: ".segment", with: ".hint")
  }

  /// Five segments, four of them rolled.
  private func makeStore() async throws -> SimulatedDisk {
    let disk = SimulatedDisk()
    let (store, report) = try open(disk)
    #expect(report.createdStore)
    for number in 0..<18 {
      _ = try await store.append(
        key: bytes("key-\(number)"), payload: [UInt8](repeating: UInt8(number), count: 900))
    }
    try await store.delete(key: bytes("key-3"))
    #expect(store.statistics().segments == 5 && store.statistics().hintFailures == 0)
    await store.close()
    return disk
  }

  private func check(_ store: SegmentStore) async throws {
    #expect(store.statistics().keys == 17)
    for number in 0..<18 where number != 3 {
      let payload = try await store.read(key: bytes("key-\(number)"))
      #expect(payload == [UInt8](repeating: UInt8(number), count: 900))
    }
  }

  @Test func aStartWithHintsReadsNoRolledSegment() async throws {
    let disk = try await makeStore()
    // Unreadable payloads show that they were not read.
    for identifier in 1...4 as ClosedRange<UInt64> {
      var content = disk.content(segmentPath(identifier))!
      content[300] ^= 1
      disk.setContent(segmentPath(identifier), content)
    }
    let (store, report) = try open(disk, smallConfiguration(verifiesAtOpen: false))
    #expect(report.hintedSegments == 4 && report.damages == [] && report.rebuiltHints == [])
    #expect((report.valueRecords, report.tombstones) == (18, 1))
    #expect(report.nextSequence == 20)
    let error = await failure { () throws(SegmentStoreError) in
      try await store.read(key: bytes("key-0"))
    }
    guard case .damaged? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    // The scrub finds all four, with the keys that they hit.
    var position: ScrubPosition? = .start
    var findings: [ScrubFinding] = []
    var records = 0
    while let from = position {
      let step = try await store.scrub(from: from, maximumBytes: 1500)
      findings += step.findings
      records += step.records
      position = step.next
    }
    #expect(findings.map(\.damage.segmentIdentifier) == [1, 2, 3, 4])
    #expect(findings.allSatisfy { $0.damage.kind == .payload && $0.keys.count == 1 })
    #expect(records >= 15)
    await store.close()
  }

  @Test func lostAndForeignAndOlderHintsAreReplaced() async throws {
    let disk = try await makeStore()
    disk.removeFile(hintPath(1))
    disk.setContent(hintPath(2), disk.content(hintPath(3))!)
    // The third segment gets another size than its hints say: a void would, or an older copy.
    disk.setContent(
      hintPath(4), try await staleHints(of: 4, from: disk))
    let (store, report) = try open(disk, smallConfiguration(verifiesAtOpen: false))
    #expect(report.hintedSegments == 1 && report.rebuiltHints == [1, 2, 4])
    #expect(report.damagedHints == [] && report.damages == [])
    try await check(store)
    await store.close()
    let (again, second) = try open(disk, smallConfiguration(verifiesAtOpen: false))
    #expect(second.hintedSegments == 4 && second.rebuiltHints == [])
    try await check(again)
    await again.close()
  }

  /// Hints of the same segment in another store of the same shape.
  private func staleHints(of identifier: UInt64, from disk: SimulatedDisk) async throws -> [UInt8] {
    let other = SimulatedDisk()
    var configuration = smallConfiguration()
    configuration.makeStoreIdentifier = { [UInt8](repeating: 9, count: 16) }
    let (store, _) = try open(other, configuration)
    for number in 0..<18 {
      _ = try await store.append(
        key: bytes("key-\(number)"), payload: [UInt8](repeating: UInt8(number), count: 900))
    }
    await store.close()
    return try #require(other.content(hintPath(identifier)))
  }

  @Test func everyFlipInAHintIsNoticedAndMended() async throws {
    let disk = try await makeStore()
    let good = disk.content(hintPath(2))!
    for position in good.indices {
      let image = disk.copy()
      var flipped = good
      flipped[position] ^= 1 << UInt8(position % 8)
      image.setContent(hintPath(2), flipped)
      let (store, report) = try open(image, smallConfiguration(verifiesAtOpen: false))
      #expect(report.rebuiltHints == [2] && report.hintedSegments == 3, "byte \(position)")
      // A version of the future is left out without being called damage.
      if report.damagedHints != [2] { #expect((8..<16).contains(position), "byte \(position)") }
      #expect(image.content(hintPath(2)) == good, "byte \(position)")
      try await check(store)
      await store.close()
    }
    for size in 0..<good.count {
      let image = disk.copy()
      image.setContent(hintPath(2), Array(good[..<size]))
      let (store, report) = try open(image, smallConfiguration(verifiesAtOpen: false))
      #expect(report.damagedHints == [2], "\(size) bytes")
      await store.close()
    }
  }

  @Test func aDamagedSegmentKeepsBeingReported() async throws {
    let disk = try await makeStore()
    var content = disk.content(segmentPath(2))!
    content[300] ^= 1
    disk.setContent(segmentPath(2), content)
    disk.removeFile(hintPath(2))
    for _ in 0..<3 {
      let (store, report) = try open(disk, smallConfiguration(verifiesAtOpen: false))
      #expect(report.damages.map(\.kind) == [.payload] && report.rebuiltHints == [])
      #expect(disk.content(hintPath(2)) == nil)
      await store.close()
    }
  }

  @Test func hintsOfDroppedSegmentsGo() async throws {
    let disk = try await makeStore()
    let stray = disk.content(hintPath(1))!
    let (store, _) = try open(disk)
    #expect(try await store.dropSegments(throughSequence: 12) == 3)
    await store.close()
    #expect(disk.paths.filter { $0.hasSuffix(".hint") } == [hintPath(4)])
    disk.setContent(hintPath(1), stray)
    let (again, report) = try open(disk)
    #expect(report.removedFiles == ["0000000000000001.hint"] && report.unknownFiles == [])
    await again.close()
  }

  @Test func theInspectorSaysWhatIsThere() async throws {
    let disk = try await makeStore()
    func inspect() throws -> SegmentInspector {
      try SegmentInspector(directory: folder, disk: disk)
    }
    var store = try inspect()
    #expect(store.segmentIdentifiers == [1, 2, 3, 4, 5] && store.damages == [])
    let before = disk.operations
    let summaries = try store.segmentIdentifiers.map { try store.read(segment: $0) }
    #expect(summaries.map(\.hints) == [.good, .good, .good, .good, .notDue])
    #expect(summaries.map(\.values).reduce(0, +) == 18)
    #expect(summaries.map(\.tombstones).reduce(0, +) == 1)
    #expect(summaries.allSatisfy { $0.damages == [] && $0.generation == 0 })
    #expect(disk.operations == before, "an inspection changed the disk")
    #expect(throws: SegmentStoreError.alreadyOpen(directory: folder)) { try inspect() }
    disk.removeFile(hintPath(2))
    #expect(try store.read(segment: 2).hints == .missing)
    #expect(try store.rebuildHints(of: 2) && !store.rebuildHints(of: 1))
    #expect(try store.read(segment: 2).hints == .good)
    // Not for a segment with damage.
    var content = disk.content(segmentPath(3))!
    content[300] ^= 1
    disk.setContent(segmentPath(3), content)
    disk.removeFile(hintPath(3))
    #expect(try store.read(segment: 3).damages.map(\.kind) == [.payload])
    #expect(try !store.rebuildHints(of: 3))
    disk.removeFile(segmentPath(4))
    store = try reopen(&store, inspect)
    #expect(store.damages.map(\.kind) == [.missingSegments(through: 4)])
    #expect(throws: SegmentStoreError.identityLost(directory: "/elsewhere")) {
      _ = try disk.createDirectory("/elsewhere")
      _ = try SegmentInspector(directory: "/elsewhere", disk: disk)
    }
  }

  /// The old one has to give its lock back first.
  private func reopen(
    _ store: inout SegmentInspector, _ inspect: () throws -> SegmentInspector
  ) throws -> SegmentInspector {
    let empty = SimulatedDisk()
    let (small, _) = try open(empty)
    _ = small
    store = try SegmentInspector(directory: folder, disk: empty.copy())
    return try inspect()
  }
}
