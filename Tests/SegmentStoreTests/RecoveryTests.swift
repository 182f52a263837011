import Base
import Foundation
import SegmentStore
import Simulator
import Testing

@Suite struct RecoveryTests {
  /// Three segments with one-kilobyte records under the keys 0 to 8, and where they stand.
  private func threeSegments() async throws -> (SimulatedDisk, [RecordLocation]) {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk)
    var locations: [RecordLocation] = []
    for number in 0..<9 {
      let payload = [UInt8](repeating: UInt8(number), count: 1000)
      locations.append(try await store.append(key: [UInt8(number)], payload: payload))
    }
    await store.close()
    #expect(disk.content(segmentPath(3)) != nil && disk.content(segmentPath(4)) == nil)
    return (disk, locations)
  }

  @Test func everyTruncationOfTheLastSegmentKeepsTheRecordsBeforeIt() async throws {
    let (disk, locations) = try await threeSegments()
    let content = try #require(disk.content(segmentPath(3)))
    for size in stride(from: 64, to: content.count, by: 7) {
      let image = disk.copy()
      image.setContent(segmentPath(3), Array(content[..<size]))
      let (store, report) = try open(image)
      #expect(report.damages == [], "size \(size)")
      var end = 64
      for location in locations where location.segmentIdentifier == 3 {
        let isWhole = Int(location.offsetBytes) + 33 + 1000 <= size
        let key = [UInt8(location.sequence - 1)]
        #expect(store.contains(key: key) == isWhole, "size \(size), sequence \(location.sequence)")
        if isWhole { end = Int(location.offsetBytes) + 1033 }
      }
      // Commit records follow the records, and may be whole as well.
      if let cut = report.tailCut {
        #expect(Int(cut.offsetBytes) == end || Int(cut.offsetBytes) == end + 32)
        #expect(Int(cut.offsetBytes + cut.sizeBytes) == size)
      }
      await store.close()
      let (again, second) = try open(image)
      #expect(second.damages == [] && second.tailCut == nil, "size \(size)")
      await again.close()
    }
  }

  @Test func rotInTheMiddleIsReportedWithItsKeyAndNothingElseSuffers() async throws {
    let (disk, locations) = try await threeSegments()
    let hit = locations[1]
    var content = try #require(disk.content(segmentPath(1)))
    content[Int(hit.offsetBytes) + 500] ^= 1
    disk.setContent(segmentPath(1), content)
    let (store, report) = try open(disk)
    #expect(report.damages.count == 1 && report.tailCut == nil)
    let damage = try #require(report.damages.first)
    #expect(damage.kind == .payload && damage.key == [1] && damage.missingSequences == 2...2)
    #expect(damage.segmentIdentifier == 1 && damage.offsetBytes == hit.offsetBytes)
    let error = await failure { () throws(SegmentStoreError) in try await store.read(key: [1]) }
    #expect(error == .damaged(damage))
    #expect(store.contains(key: [1]))
    for number in [0, 2, 3, 4, 5, 6, 7, 8] as [UInt8] {
      let payload = try await store.read(key: [number])
      #expect(payload == [UInt8](repeating: number, count: 1000))
    }
    // Writing the key anew heals it.
    _ = try await store.append(key: [1], payload: [42])
    #expect(try await store.read(key: [1]) == [42])
    await store.close()
    let (again, _) = try open(disk)
    #expect(try await again.read(key: [1]) == [42])
    await again.close()
  }

  @Test func aBadHeaderIsReportedWithTheSequenceThatIsMissing() async throws {
    let (disk, locations) = try await threeSegments()
    var content = try #require(disk.content(segmentPath(2)))
    let hit = locations.first { $0.segmentIdentifier == 2 }!
    content[Int(hit.offsetBytes) + 9] ^= 0x80
    disk.setContent(segmentPath(2), content)
    let (store, report) = try open(disk)
    #expect(report.damages.map(\.kind) == [.unparseable])
    #expect(report.damages[0].missingSequences == hit.sequence...hit.sequence)
    #expect(report.damages[0].offsetBytes == hit.offsetBytes && report.damages[0].sizeBytes == 1033)
    #expect(!store.contains(key: [UInt8(hit.sequence - 1)]))
    let first = Locked<[UInt64]>([])
    let error = await failure { () throws(SegmentStoreError) in
      try await store.forEachRecord { record in
        first.with { $0.append(record.location.sequence) }
        return true
      }
    }
    #expect(first.with { $0 } == Array(1..<hit.sequence))
    guard case .damaged(let damage) = error else {
      Issue.record("no damage but \(String(describing: error))")
      return
    }
    #expect(damage.offsetBytes == hit.offsetBytes)
    let rest = Locked<[UInt64]>([])
    try await store.forEachRecord(fromSequence: hit.sequence + 1) { record in
      rest.with { $0.append(record.location.sequence) }
      return true
    }
    #expect(rest.with { $0 } == Array((hit.sequence + 1)...9))
    await store.close()
  }

  @Test func missingForeignMisplacedAndShortenedSegmentsAreReported() async throws {
    let (disk, locations) = try await threeSegments()
    let second = locations.filter { $0.segmentIdentifier == 2 }.map(\.sequence)
    func damages(_ change: (SimulatedDisk) -> Void) async throws -> [SegmentDamage] {
      let image = disk.copy()
      change(image)
      let (store, report) = try open(image)
      #expect(try await store.read(key: [0])?.count == 1000)
      _ = try await store.append(key: bytes("new"), payload: [1])
      await store.close()
      return report.damages
    }
    let missing = try await damages { $0.removeFile(segmentPath(2)) }
    #expect(missing.map(\.kind) == [.missingSegments(through: 2), .sequenceGap])
    #expect(missing[1].missingSequences == second.first!...second.last!)

    var configuration = smallConfiguration()
    configuration.makeStoreIdentifier = { [UInt8](repeating: 9, count: 16) }
    let otherDisk = SimulatedDisk()
    let (other, _) = try open(otherDisk, configuration)
    _ = try await other.append(key: [2], payload: bytes("not ours"))
    await other.close()
    let foreign = otherDisk.content(segmentPath(1))!
    #expect(
      try await damages { $0.setContent(segmentPath(2), foreign) }.map(\.kind) == [.foreignSegment])
    #expect(
      try await damages { $0.setContent(segmentPath(4), foreign) }.map(\.kind) == [.foreignSegment])
    let first = disk.content(segmentPath(1))!
    #expect(
      try await damages { $0.setContent(segmentPath(2), first) }.map(\.kind) == [.foreignSegment])

    let content = disk.content(segmentPath(2))!
    let shortened = try await damages {
      $0.setContent(segmentPath(2), Array(content[..<(content.count - 500)]))
    }
    #expect(shortened.map(\.kind) == [.truncated])
    // Cut exactly between two records: only the numbers tell.
    let offset = Int(locations.last { $0.segmentIdentifier == 2 }!.offsetBytes)
    let atBoundary = try await damages { $0.setContent(segmentPath(2), Array(content[..<offset])) }
    #expect(atBoundary.map(\.kind) == [.sequenceGap])
    #expect(atBoundary[0].missingSequences == second.last!...second.last!)
    #expect(
      try await damages { $0.removeFile("\(folder)/store.manifest") }.map(\.kind) == [.manifest])
  }

  @Test func aStoreWhoseIdentityIsGoneOrNewerDoesNotOpen() async throws {
    let (disk, _) = try await threeSegments()
    let nothing = [UInt8](repeating: 0, count: 64)
    for identifier in 1...3 as ClosedRange<UInt64> {
      var content = disk.content(segmentPath(identifier))!
      content.replaceSubrange(0..<64, with: nothing)
      disk.setContent(segmentPath(identifier), content)
    }
    let (store, report) = try open(disk)
    #expect(report.damages.map(\.kind) == [.segmentHeader, .segmentHeader, .segmentHeader])
    #expect(store.keys(limit: 100).count == 9)
    await store.close()
    // Opening put a sound segment behind the damaged ones; without it and the manifest nothing names the store.
    disk.removeFile(segmentPath(4))
    disk.setContent("\(folder)/store.manifest", nothing)
    #expect(throws: SegmentStoreError.identityLost(directory: folder)) { _ = try open(disk) }
  }

  @Test func aLostManifestAndSegmentsAreNotTakenForANewStore() async throws {
    let (disk, _) = try await threeSegments()
    for identifier in 1...3 as ClosedRange<UInt64> { disk.removeFile(segmentPath(identifier)) }
    let (store, report) = try open(disk)
    #expect(!report.createdStore && report.damages.map(\.kind) == [.missingSegments(through: 1)])
    await store.close()
  }

  @Test func unreadablePagesAreReportedAndNothingIsAppendedBehindThem() async throws {
    let (disk, locations) = try await threeSegments()
    let last = locations.last!
    let start = Int(last.offsetBytes)
    let image = disk.copy()
    image.makeUnreadable(segmentPath(3), start..<(start + 100))
    let before = image.content(segmentPath(3))
    let (store, report) = try open(image)
    #expect(store.status == .readOnly(.unreadableTail(segmentIdentifier: 3)))
    #expect(report.tailCut == nil && !report.damages.isEmpty)
    #expect(try await store.read(key: [0])?.count == 1000)
    let error = await failure { () throws(SegmentStoreError) in
      try await store.append(key: [1], payload: [])
    }
    #expect(error == .readOnly(.unreadableTail(segmentIdentifier: 3)))
    await store.close()
    #expect(image.content(segmentPath(3)) == before)
  }

  /// A payload that is itself a piece of a segment must not be taken for records when damage makes recovery search.
  @Test func recordsInsideAPayloadAreNeverTakenForRecords() async throws {
    let inner = SimulatedDisk()
    let (innerStore, _) = try open(inner)
    _ = try await innerStore.append(key: bytes("forged"), payload: bytes("forged"))
    await innerStore.close()
    let image = inner.content(segmentPath(1))!
    let disk = SimulatedDisk()
    let (store, _) = try open(disk)
    let location = try await store.append(key: bytes("outer"), payload: image + image)
    _ = try await store.append(key: bytes("next"), payload: [1])
    await store.close()
    var content = disk.content(segmentPath(1))!
    content[Int(location.offsetBytes) + 20] ^= 0x10
    disk.setContent(segmentPath(1), content)
    let (again, report) = try open(disk)
    #expect(report.damages.map(\.kind) == [.unparseable])
    #expect(again.keys(limit: 10) == [bytes("next")])
    await again.close()
  }

  /// The last batch without the commit record behind it: a loss of power right after its synchronization.
  @Test func damageInAnUnprovenLastBatchIsCutOrSealedAndReported() async throws {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk)
    _ = try await store.append(key: bytes("a"), payload: bytes("old"))
    let group = ["a", "b", "c"].map { (key: bytes($0), payload: bytes("new \($0)")) }
    let locations = try await store.append(group)
    await store.close()
    let path = segmentPath(1)
    let whole = try #require(disk.content(path))
    let content = Array(whole.dropLast(32))
    func damaged(_ location: RecordLocation) -> [UInt8] {
      var result = content
      result[Int(location.offsetBytes) + 33] ^= 1
      return result
    }

    disk.setContent(path, damaged(locations[2]))
    let (cut, cutReport) = try open(disk)
    #expect(cutReport.damages == [] && cutReport.tailCut?.keys == [bytes("c")])
    #expect(cut.keys(limit: 9) == [bytes("a"), bytes("b")] && cutReport.nextSequence == 4)
    await cut.close()

    disk.setContent(path, damaged(locations[0]))
    let (sealed, report) = try open(disk)
    #expect(report.damages.map(\.kind) == [.unprovenBatch] && report.tailCut == nil)
    #expect(report.damages[0].key == bytes("a") && report.damages[0].missingSequences == 2...2)
    #expect(try await sealed.read(key: bytes("a")) == bytes("old"))
    #expect(try await sealed.read(key: bytes("c")) == bytes("new c"))
    await sealed.close()
    let (again, second) = try open(disk)
    #expect(second.damages == [] && second.sealedSizeBytes == report.damages[0].sizeBytes)
    #expect(try await again.read(key: bytes("a")) == bytes("old"))
    await again.close()

    // With the commit record the same damage is known to be rot.
    disk.setContent(path, damaged(locations[2]) + whole.suffix(32))
    let (rotten, rot) = try open(disk)
    #expect(rot.damages.map(\.kind) == [.payload] && rot.damages[0].key == bytes("c"))
    await rotten.close()
  }

  @Test func aFailedSynchronizationIsNeverTurnedIntoSuccess() async throws {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk)
    _ = try await store.append(key: bytes("a"), payload: [1])
    disk.fail(operation: disk.operations + 1, code: EIO)  // the write, then the synchronization
    let error = await failure { () throws(SegmentStoreError) in
      try await store.append(key: bytes("b"), payload: [2])
    }
    let reason = ReadOnlyReason.synchronizationFailed(
      DiskError(operation: .synchronize, path: segmentPath(1), code: EIO))
    #expect(error == .readOnly(reason) && store.status == .readOnly(reason))
    #expect(!store.contains(key: bytes("b")))
    let synchronizations = disk.synchronizations
    let later = await failure { () throws(SegmentStoreError) in
      try await store.delete(key: bytes("a"))
    }
    #expect(later == .readOnly(reason))
    #expect(try await store.read(key: bytes("a")) == [1])
    await store.close()
    #expect(disk.synchronizations == synchronizations)
  }

  @Test func aFullDiskMakesTheStoreReadOnlyAndReopeningWithSpaceGoesOn() async throws {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk)
    _ = try await store.append(key: bytes("a"), payload: [1])
    disk.limitCapacity(disk.content(segmentPath(1))!.count + 64 + 400)
    let error = await failure { () throws(SegmentStoreError) in
      try await store.append(key: bytes("b"), payload: [UInt8](repeating: 2, count: 1000))
    }
    guard case .readOnly(.writeFailed(let cause)) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(cause.code == ENOSPC)
    await store.close()
    disk.limitCapacity(.max)
    let (again, report) = try open(disk)
    #expect(report.tailCut?.keys == [bytes("b")] && report.damages == [])
    #expect(again.status == .readWrite)
    _ = try await again.append(key: bytes("b"), payload: [2])
    #expect(try await again.read(key: bytes("b")) == [2])
    await again.close()
  }
}
