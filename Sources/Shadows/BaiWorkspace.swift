import CKernels
import COpenSSL
import Dispatch
import Glibc

/// What one core needs while it computes: sixteen blocks' matrices and a batch of remainders.
///
/// All of it is wiped when released, since it holds what only r shadows together may know.
struct BaiWorkspace {
  /// Blocks whose remainders are masked at once: 128 KiB, which stays in a second-level cache.
  static let batchBlockCount = 256

  let lanes: UnsafeMutablePointer<field65537_lanes>
  let remainders: UnsafeMutableRawBufferPointer
  /// Blocks that lie partly behind the end of the secret.
  let tail: UnsafeMutableRawBufferPointer
  let triangle: UnsafeMutableBufferPointer<UInt32>

  init() {
    let raw = UnsafeMutableRawPointer.allocate(
      byteCount: MemoryLayout<field65537_lanes>.size, alignment: 64)
    raw.initializeMemory(as: UInt8.self, repeating: 0, count: MemoryLayout<field65537_lanes>.size)
    lanes = raw.bindMemory(to: field65537_lanes.self, capacity: 1)
    let batchBytes = Self.batchBlockCount * BaiLayout.blockBytes
    remainders = .allocate(byteCount: batchBytes, alignment: 64)
    tail = .allocate(byteCount: batchBytes, alignment: 64)
    triangle = .allocate(capacity: Int(FIELD65537_TRIANGLE))
  }

  func release() {
    sfm_zero(lanes, MemoryLayout<field65537_lanes>.size)
    UnsafeMutableRawPointer(lanes).deallocate()
    for buffer in [remainders, tail, UnsafeMutableRawBufferPointer(triangle)] {
      sfm_zero(buffer.baseAddress, buffer.count)
    }
    remainders.deallocate()
    tail.deallocate()
    triangle.deallocate()
  }

  /// The words on and above the diagonal of a lane's projection, as the key derivation takes them.
  func withTriangle(ofLane lane: Int, _ body: (UnsafeRawBufferPointer) -> Void) {
    field65537_triangle(lanes, lane, triangle.baseAddress!)
    body(UnsafeRawBufferPointer(triangle))
  }
}

/// Divides the blocks into at most `coreCount` ranges, each of whole batches.
func divide(_ blocks: Range<Int>, coreCount: Int) -> [Range<Int>] {
  let batchCount = (blocks.count + BaiWorkspace.batchBlockCount - 1) / BaiWorkspace.batchBlockCount
  let share = max(1, (batchCount + coreCount - 1) / coreCount) * BaiWorkspace.batchBlockCount
  return stride(from: blocks.lowerBound, to: blocks.upperBound, by: share).map {
    $0..<min($0 + share, blocks.upperBound)
  }
}

/// The batches of a range of blocks in order.
func batches(of blocks: Range<Int>) -> [Range<Int>] {
  stride(from: blocks.lowerBound, to: blocks.upperBound, by: BaiWorkspace.batchBlockCount).map {
    $0..<min($0 + BaiWorkspace.batchBlockCount, blocks.upperBound)
  }
}

/// Calls `body` with 0, 1, ... on as many cores, or right here where there is one part only.
func onCores(_ count: Int, _ body: @Sendable (Int) -> Void) {
  if count <= 1 {
    if count == 1 { body(0) }
  } else {
    DispatchQueue.concurrentPerform(iterations: count, execute: body)
  }
}

/// Asks the kernel for 2 MiB pages under a large buffer that is about to be written for the first
/// time: faulting in 4 KiB pages costs as much as the arithmetic. A refusal changes nothing.
func preferLargePages(_ buffer: UnsafeMutableRawBufferPointer) {
  let pageBytes = 2 << 20
  guard buffer.count >= 2 * pageBytes, let start = buffer.baseAddress else { return }
  let first = (UInt(bitPattern: start) + UInt(pageBytes) - 1) / UInt(pageBytes) * UInt(pageBytes)
  let end = UInt(bitPattern: start) + UInt(buffer.count)
  madvise(UnsafeMutableRawPointer(bitPattern: first), Int(end - first), MADV_HUGEPAGE)
}
