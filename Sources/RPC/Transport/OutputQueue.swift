/// Bytes on their way out in order: small ones are gathered, large ones stay where they are.
struct OutputQueue {
  private struct Slice {
    /// Where it stands: after this many gathered bytes, counted from the queue's beginning.
    var position: Int
    var bytes: [UInt8]
    var start: Int
    var end: Int
  }

  private var gathered: UnsafeMutableRawPointer?
  /// Bytes of memory held for gathered ones.
  private(set) var capacity = 0
  private var start = 0
  private var end = 0
  private var slices: [Slice] = []
  private var firstSlice = 0
  private var sliceBytes = 0

  private let buffers: LoopBuffers

  init(buffers: LoopBuffers) { self.buffers = buffers }

  /// True where small messages nearly fill a TLS record, and nothing large is among them.
  var fillsRecord: Bool { sliceBytes == 0 && end - start >= Self.recordBytes }

  private static let recordBytes = 12 << 10

  /// Bytes in the queue.
  var count: Int { end - start + sliceBytes }

  /// Releases the memory; the queue may be used again.
  mutating func removeAll() {
    giveBack()
    slices = []
    (firstSlice, sliceBytes) = (0, 0)
  }

  private mutating func giveBack() {
    if let gathered { buffers.giveBack(gathered, capacity) }
    gathered = nil
    (capacity, start, end) = (0, 0, 0)
  }

  /// Room for `count` gathered bytes; the caller fills all of them before anything else happens.
  mutating func reserve(_ count: Int) -> UnsafeMutableRawBufferPointer {
    if count > capacity - end { grow(count) }
    let room = UnsafeMutableRawBufferPointer(start: gathered! + end, count: count)
    end += count
    return room
  }

  mutating func append(_ bytes: UnsafeRawBufferPointer) {
    guard !bytes.isEmpty else { return }
    reserve(bytes.count).copyMemory(from: bytes)
  }

  /// Keeps the array instead of copying it.
  mutating func append(slice bytes: [UInt8], from first: Int, to last: Int) {
    if firstSlice >= 32, firstSlice * 2 >= slices.count { dropSentSlices() }
    slices.append(Slice(position: end, bytes: bytes, start: first, end: last))
    sliceBytes += last - first
  }

  /// Makes room behind what has not left. What has left goes: a queue that is never quite empty, as that of a
  /// slow reader, would otherwise keep all that ever went through it.
  private mutating func grow(_ count: Int) {
    let live = end - start
    if let gathered, live + count <= capacity, start >= capacity / 2 {
      gathered.copyMemory(from: gathered + start, byteCount: live)
    } else {
      let (memory, size) = buffers.takeOutput(atLeast: live + count)
      if let gathered {
        memory.copyMemory(from: gathered + start, byteCount: live)
        buffers.giveBack(gathered, capacity)
      }
      gathered = memory
      capacity = size
    }
    dropSentSlices()
    for index in slices.indices { slices[index].position -= start }
    (start, end) = (0, live)
  }

  private mutating func dropSentSlices() {
    slices.removeFirst(firstSlice)
    firstSlice = 0
  }

  /// Gives `body` the next run of bytes, at most `limit`, and whether others follow. False where none are left.
  mutating func takeNext(
    limit: Int, _ body: (UnsafeRawBufferPointer, _ more: Bool) -> Void
  ) -> Bool {
    let total = self.count
    let boundary = firstSlice < slices.count ? slices[firstSlice].position : end
    if start < boundary {
      let count = min(limit, boundary - start)
      body(UnsafeRawBufferPointer(start: gathered! + start, count: count), count < total)
      start += count
      if start == end { rewind() }
      return true
    }
    guard firstSlice < slices.count else { return false }
    let slice = slices[firstSlice]
    let count = min(limit, slice.end - slice.start)
    slice.bytes.withUnsafeBytes {
      body(UnsafeRawBufferPointer(rebasing: $0[slice.start..<slice.start + count]), count < total)
    }
    slices[firstSlice].start += count
    sliceBytes -= count
    if slices[firstSlice].start == slices[firstSlice].end {
      slices[firstSlice].bytes = []
      firstSlice += 1
      if start == end { rewind() }
    }
    return true
  }

  /// Where all has left, the memory goes back to the loop: an idle connection holds none.
  private mutating func rewind() {
    guard firstSlice == slices.count else { return }
    slices.removeAll(keepingCapacity: true)
    firstSlice = 0
    giveBack()
  }
}
