import Base
import Foundation
import SegmentStore
import Simulator

let folder = "/store"
let storeIdentifier: [UInt8] = (0..<16).map { $0 }

/// - Parameter verifiesAtOpen: most tests of damage look for it at the start; without it hints are taken.
func smallConfiguration(
  segmentBytes: Int = 4096, verifiesAtOpen: Bool = true
) -> SegmentStoreConfiguration {
  var configuration = SegmentStoreConfiguration()
  configuration.verifiesAtOpen = verifiesAtOpen
  configuration.preallocationBytes = segmentBytes / 2
  configuration.maximumSegmentSizeBytes = segmentBytes
  configuration.makeStoreIdentifier = { storeIdentifier }
  return configuration
}

func open(
  _ disk: SimulatedDisk, _ configuration: SegmentStoreConfiguration = smallConfiguration()
) throws(SegmentStoreError) -> (SegmentStore, RecoveryReport) {
  try SegmentStore.open(directory: folder, disk: disk, configuration: configuration)
}

func segmentPath(_ identifier: UInt64) -> String {
  let digits = String(identifier, radix: 16)
  return "\(folder)/" + String(repeating: "0", count: 16 - digits.count) + digits + ".segment"
}

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

/// The error a call throws, nil where it succeeds.
func failure<Result>(
  _ body: () async throws(SegmentStoreError) -> Result
) async -> SegmentStoreError? {
  do throws(SegmentStoreError) {
    _ = try await body()
    return nil
  } catch { return error }
}

/// A value that closures on other threads change.
final class Locked<Value>: @unchecked Sendable {
  private let lock = NSLock()
  private var value: Value
  init(_ value: Value) { self.value = value }
  func with<Result>(_ body: (inout Value) -> Result) -> Result {
    lock.lock()
    defer { lock.unlock() }
    return body(&value)
  }
}

/// Lets other tasks run until a condition that their progress brings about holds.
func until(_ condition: () -> Bool) async {
  while !condition() { await Task.yield() }
}
