import Base
import SegmentStore
import Simulator
import Testing

/// Every byte of a small store is changed, one at a time.
@Suite struct FlipTests {
  private struct Sample {
    let disk: SimulatedDisk
    /// Everything ever written under a key, the latest last; nil is a deletion.
    let history: [[UInt8]: [[UInt8]?]]
  }

  private func makeSample(isClosed: Bool) async throws -> Sample {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk)
    var random = SeededGenerator(seed: 5)
    var history: [[UInt8]: [[UInt8]?]] = [:]
    func put(_ name: String, _ size: Int) async throws {
      let payload = random.bytes(size)
      _ = try await store.append(key: bytes(name), payload: payload)
      history[bytes(name), default: []].append(payload)
    }
    for (name, size) in [("a", 900), ("b", 1), ("a", 700), ("c", 0), ("d", 1500), ("e", 900)] {
      try await put(name, size)
    }
    #expect(try await store.delete(key: bytes("b")))
    history[bytes("b")]!.append(nil)
    try await put("f", 300)
    let group = [
      (key: bytes("g"), payload: bytes("one")), (key: bytes("h"), payload: bytes("two")),
    ]
    _ = try await store.append(group)
    for record in group { history[record.key, default: []].append(record.payload) }
    let image = isClosed ? nil : disk.copy()
    await store.close()
    return Sample(disk: image ?? disk.copy(), history: history)
  }

  /// By a start that reads everything, and by one that reads hints with a scrub behind it.
  @Test(arguments: [true, false], [true, false])
  func everyFlipAtRestIsDetectedAndNoWrongPayloadIsServed(
    isClosed: Bool, verifiesAtOpen: Bool
  ) async throws {
    let sample = try await makeSample(isClosed: isClosed)
    var random = SeededGenerator(seed: 17)
    var flips = 0
    for path in sample.disk.paths {
      let content = try #require(sample.disk.content(path))
      for position in content.indices {
        let mask = UInt8.random(in: 1...255, using: &random)
        let disk = sample.disk.copy()
        var flipped = content
        flipped[position] ^= mask
        disk.setContent(path, flipped)
        try await checkDetected(
          disk, sample, verifiesAtOpen, "\(path) byte \(position) mask \(mask)")
        flips += 1
      }
    }
    print("bytes flipped and detected: \(flips)")
    #expect(flips > 4000)
  }

  private func checkDetected(
    _ disk: SimulatedDisk, _ sample: Sample, _ verifiesAtOpen: Bool, _ place: String
  ) async throws {
    let store: SegmentStore
    let report: RecoveryReport
    do throws(SegmentStoreError) {
      (store, report) = try open(disk, smallConfiguration(verifiesAtOpen: verifiesAtOpen))
    } catch {
      Issue.record("\(place) kept the store from opening: \(error)")
      return
    }
    let findings = try await scrubAll(store)
    let atStart =
      !report.damages.isEmpty || report.tailCut != nil || !report.damagedHints.isEmpty
    #expect(atStart || !findings.isEmpty, "\(place) went unnoticed")
    // A start that reads everything leaves nothing for the scrub to find first.
    if verifiesAtOpen { #expect(atStart, "\(place) went unnoticed at the start") }
    // A whole store ends with a commit record: only that record can be cut, and it holds nothing.
    if let cut = report.tailCut {
      #expect(cut.sizeBytes == 32 && cut.keys == [], "\(place): \(cut)")
    }
    var lost = 0
    for (key, versions) in sample.history {
      do throws(SegmentStoreError) {
        let payload = try await store.read(key: key)
        #expect(payload == nil || versions.contains(payload), "\(place): wrong payload")
        if payload != versions.last! { lost += 1 }
      } catch {
        guard case .damaged(let damage) = error else {
          Issue.record("\(place): \(error)")
          continue
        }
        #expect(damage.key == key, "\(place)")
      }
    }
    // A latest record that is gone under an unknown key is a reported damage with its sequence number.
    if verifiesAtOpen {
      let missing = report.damages.compactMap(\.missingSequences).reduce(0) { $0 + $1.count }
      #expect(lost <= missing, "\(place): \(lost) lost, \(missing) reported missing")
    }
    await store.close()
  }

  private func scrubAll(_ store: SegmentStore) async throws -> [ScrubFinding] {
    var position: ScrubPosition? = .start
    var findings: [ScrubFinding] = []
    while let from = position {
      // One record at a time, so that most steps begin inside a segment.
      let step = try await store.scrub(from: from, maximumBytes: 1)
      findings += step.findings
      position = step.next
    }
    return findings
  }

  @Test func everyFlipUnderARunningStoreIsMetByTheRead() async throws {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk)
    let key = bytes("key")
    var random = SeededGenerator(seed: 1)
    let payload = random.bytes(100)
    let location = try await store.append(key: key, payload: payload)
    let content = try #require(disk.content(segmentPath(1)))
    let start = Int(location.offsetBytes)
    for position in start..<(start + 32 + key.count + payload.count) {
      for bit in 0..<8 {
        var flipped = content
        flipped[position] ^= 1 << bit
        disk.setContent(segmentPath(1), flipped)
        let error = await failure { () throws(SegmentStoreError) in try await store.read(key: key) }
        guard case .damaged(let damage) = error else {
          Issue.record("byte \(position) bit \(bit): \(String(describing: error))")
          continue
        }
        #expect(damage.segmentIdentifier == 1 && damage.offsetBytes == location.offsetBytes)
      }
    }
    disk.setContent(segmentPath(1), content)
    #expect(try await store.read(key: key) == payload)
    #expect(store.statistics().damagedReads == UInt64(135 * 8))
    await store.close()
  }
}
