/// Memory that every connection of a loop uses in turn, so that an idle one needs none of its own.
final class LoopBuffers {
  /// Decrypted bytes before they are cut into frames: one TLS record and more.
  static let readBytes = 64 << 10
  let read = UnsafeMutableRawBufferPointer.allocate(byteCount: readBytes, alignment: 64)
  private static let smallestOutput = 16 << 10
  private static let keptOutputs = 8
  private static let largestKept = 1 << 20
  private var outputs: [(memory: UnsafeMutableRawPointer, size: Int)] = []

  /// Memory for output, given back when it has left.
  func takeOutput(atLeast count: Int) -> (UnsafeMutableRawPointer, Int) {
    if let kept = outputs.last, kept.size >= count {
      outputs.removeLast()
      return kept
    }
    var size = Self.smallestOutput
    while size < count { size *= 2 }
    return (.allocate(byteCount: size, alignment: 16), size)
  }

  func giveBack(_ memory: UnsafeMutableRawPointer, _ size: Int) {
    if outputs.count == Self.keptOutputs || size > Self.largestKept {
      memory.deallocate()
      return
    }
    // The largest lies on top: what was needed once is needed again.
    let place = outputs.firstIndex { $0.size > size } ?? outputs.count
    outputs.insert((memory, size), at: place)
  }

  deinit {
    for output in outputs { output.memory.deallocate() }
    read.deallocate()
  }
}
