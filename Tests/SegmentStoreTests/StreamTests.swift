import Base
import SegmentStore
import Simulator
import Testing

/// Parts of values, and values in pieces: what ``SegmentStore/read(key:)`` gives, or an error.
@Suite struct StreamTests {
  private static let piece = RecordStream.pieceSizeBytes

  private func configuration() -> SegmentStoreConfiguration {
    var configuration = smallConfiguration(segmentBytes: 16 << 20, verifiesAtOpen: false)
    configuration.preallocationBytes = 0
    return configuration
  }

  private func collect(_ stream: RecordStream) async throws(SegmentStoreError) -> [UInt8] {
    var payload: [UInt8] = []
    while let piece = try await stream.next() {
      #expect(piece.count <= Self.piece)
      payload += piece
      #expect(stream.position == payload.count)
    }
    return payload
  }

  @Test func equalWhatIsReadAtOnce() async throws {
    var random = SeededGenerator(seed: 5)
    let (store, _) = try open(SimulatedDisk(), configuration())
    let sizes = [0, 1, 100, Self.piece - 1, Self.piece, Self.piece + 1, 3 * Self.piece + 17]
    for size in sizes {
      // The compiler's own pattern is faster than a byte at a time from the generator.
      let salt = Int(random.next() & 255)
      let payload = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 9 &+ salt) }
      let key = bytes("key-\(size)")
      _ = try await store.append(key: key, payload: payload)
      let stream = try #require(try await store.stream(key: key))
      #expect(stream.payloadSizeBytes == size)
      let isEqual = try await collect(stream) == payload
      #expect(isEqual, "\(size) bytes")
      #expect(try await stream.next() == nil)
      var ranges = [0..<0, 0..<1, 0..<size, size..<size + 5, Self.piece - 3..<Self.piece + 3]
      for _ in 0..<10 {
        let start = Int.random(in: 0...size, using: &random)
        ranges.append(start..<Int.random(in: start...size + 10, using: &random))
      }
      for range in ranges {
        let expected = Array(payload[range.clamped(to: 0..<size)])
        let isEqual = try await store.read(key: key, range: range) == expected
        #expect(isEqual, "\(range) of \(size) bytes")
      }
    }
    #expect(try await store.read(key: bytes("none"), range: 0..<1) == nil)
    #expect(try await store.stream(key: bytes("none")) == nil)
    await store.close()
  }

  /// Every byte of a small record, and some of a large one's: at the start, and between the two readings.
  @Test func damageIsAlwaysFound() async throws {
    for size in [300, 2 * Self.piece + 100] {
      let disk = SimulatedDisk()
      let (store, _) = try open(disk, configuration())
      let payload = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 9) }
      let key = bytes("large")
      let location = try await store.append(key: key, payload: payload)
      let path = segmentPath(location.segmentIdentifier)
      let good = try #require(disk.content(path))
      let start = Int(location.offsetBytes)
      let end = start + 32 + key.count + size
      let payloadStart = end - size
      let places =
        size == 300
        ? Array(start..<end)
        : [start, start + 20, payloadStart, payloadStart + Self.piece, end - 1]
      for place in places {
        let stream = try #require(try await store.stream(key: key))
        var bad = good
        bad[place] ^= 0x20
        disk.setContent(path, bad)
        // Not even a range that does not hold the byte is given.
        for range in [0..<1, 0..<size, size - 1..<size] {
          guard
            case .damaged = await failure({ () async throws(SegmentStoreError) in
              try await store.read(key: key, range: range)
            })
          else {
            Issue.record("byte \(place) of \(size) altered, and \(range) was read")
            return
          }
        }
        guard
          case .damaged = await failure({ () async throws(SegmentStoreError) in
            try await store.stream(key: key)
          })
        else {
          Issue.record("byte \(place) of \(size) altered, and a stream was opened")
          return
        }
        // The stream verified the record before; what it reads again it compares.
        if place >= payloadStart && size > Self.piece {
          var given: [UInt8] = []
          var error: SegmentStoreError?
          do throws(SegmentStoreError) {
            while let piece = try await stream.next() { given += piece }
          } catch let failure { error = failure }
          guard case .damaged = error else {
            Issue.record("byte \(place) of \(size) altered under a stream")
            return
          }
          let isPrefix = given == Array(payload.prefix(given.count))
          #expect(isPrefix && given.count <= place - payloadStart)
        }
        disk.setContent(path, good)
      }
      #expect(store.statistics().damagedReads >= UInt64(4 * places.count))
      await store.close()
    }
  }

  @Test func aStreamOutlivesItsRecordAndItsSegment() async throws {
    let disk = SimulatedDisk()
    var configuration = configuration()
    configuration.maximumSegmentSizeBytes = 4 << 20
    let (store, _) = try open(disk, configuration)
    let payload = (0..<(2 * Self.piece + 9)).map { UInt8(truncatingIfNeeded: $0 &* 13) }
    for number in 0..<3 {
      _ = try await store.append(key: bytes("key-\(number)"), payload: payload)
    }
    // Rolls the segment, so that it can be compacted.
    _ = try await store.append(
      key: bytes("next"), payload: [UInt8](repeating: 1, count: 3 << 20))
    let deleted = try #require(try await store.stream(key: bytes("key-0")))
    let kept = try #require(try await store.stream(key: bytes("key-1")))
    let first = try #require(try await deleted.next())
    _ = try await store.delete(key: bytes("key-0"))
    _ = try await store.delete(key: bytes("key-2"))
    let compaction = try #require(try await store.compact())
    #expect(compaction.sizeBytesAfter < compaction.sizeBytesBefore)
    #expect(try await store.stream(key: bytes("key-0")) == nil)
    let rest = try await collectRest(deleted)
    let isDeletedWhole = first + rest == payload
    #expect(isDeletedWhole)
    let isKeptWhole = try await collect(kept) == payload
    #expect(isKeptWhole)
    let again = try #require(try await store.stream(key: bytes("key-1")))
    let isThereStill = try await collect(again) == payload
    #expect(isThereStill)
    await store.close()
    #expect(
      await failure { () async throws(SegmentStoreError) in
        let late = try await store.stream(key: bytes("key-1"))
        return try await late?.next()
      } == .closed)
  }

  private func collectRest(_ stream: RecordStream) async throws(SegmentStoreError) -> [UInt8] {
    var payload: [UInt8] = []
    while let piece = try await stream.next() { payload += piece }
    return payload
  }
}
