/// Owned, 64-byte aligned storage for single-precision numbers.
///
/// Not initialised when made; whoever makes it fills it before reading. Whether several threads may
/// touch one is decided by its owner: weights are never written after construction, a workspace
/// belongs to one call at a time.
final class FloatBuffer {
  let pointer: UnsafeMutablePointer<Float>
  let count: Int

  /// The vector kernels read whole cache lines at best speed when these start on one.
  private static let alignmentBytes = 64

  init(count: Int) {
    precondition(count >= 0, "negative count \(count)")
    let (sizeBytes, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<Float>.stride)
    precondition(!overflow, "\(count) floats do not fit the address space")
    let raw = UnsafeMutableRawPointer.allocate(
      byteCount: max(sizeBytes, 1), alignment: Self.alignmentBytes)
    self.pointer = raw.bindMemory(to: Float.self, capacity: max(count, 1))
    self.count = count
  }

  deinit {
    UnsafeMutableRawPointer(pointer).deallocate()
  }

  func copy() -> FloatBuffer {
    let other = FloatBuffer(count: count)
    other.pointer.update(from: pointer, count: count)
    return other
  }
}
