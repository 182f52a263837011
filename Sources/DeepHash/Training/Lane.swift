import Dispatch

/// What one thread of a training step owns: memory for its share of the batch, and its share of the gradient.
///
/// The share is fixed, so that the same number of lanes adds up the same gradient on every run.
final class Lane: @unchecked Sendable {
  let gradient: FloatBuffer
  let trained = ConvNeXtWorkspace()
  let attacked = ConvNeXtWorkspace()
  let inferring = ConvNeXtWorkspace()
  /// Grows to what a step needs, once.
  private var buffers: [FloatBuffer] = []

  init(parameterCount: Int) {
    gradient = FloatBuffer(count: parameterCount)
  }

  /// Scratch memory of at least so many values; its content is whatever it was.
  func scratch(_ number: Int, count: Int) -> UnsafeMutablePointer<Float> {
    while buffers.count <= number { buffers.append(FloatBuffer(count: 0)) }
    if buffers[number].count < count { buffers[number] = FloatBuffer(count: count) }
    return buffers[number].pointer
  }

  /// The part of `count` things that is this lane's.
  static func share(of count: Int, lane: Int, lanes: Int) -> Range<Int> {
    count * lane / lanes..<count * (lane + 1) / lanes
  }

  /// Calls once for each lane, at the same time, and returns when all have.
  static func inParallel(_ lanes: Int, _ body: @Sendable (Int) -> Void) {
    if lanes == 1 { return body(0) }
    DispatchQueue.concurrentPerform(iterations: lanes, execute: body)
  }
}

/// Memory of which lanes write different parts.
struct SharedMemory: @unchecked Sendable {
  let pointer: UnsafeMutablePointer<Float>
  init(_ pointer: UnsafeMutablePointer<Float>) { self.pointer = pointer }
}
