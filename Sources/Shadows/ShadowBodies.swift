import Base

/// The headers of shadows 1 to `count`.
func makeHeaders(
  format: ShadowFormat, count: Int, epoch: UInt32, imageID: ImageID, secretByteCount: Int
) throws(ShadowError) -> [ShadowHeader] {
  var headers: [ShadowHeader] = []
  for index in 1...count {
    headers.append(
      try ShadowHeader(
        format: format, index: index, epoch: epoch, imageID: imageID,
        secretByteCount: secretByteCount))
  }
  return headers
}

/// `count` arrays of `byteCount` bytes, every one of which `fill` must write.
///
/// Each array is made inside the initialiser of the one before: no byte is written twice.
func makeBodies(
  count: Int, byteCount: Int, fill: ([UnsafeMutablePointer<UInt8>]) -> Void
) -> [[UInt8]] {
  var bodies: [[UInt8]] = []
  func next(_ pointers: [UnsafeMutablePointer<UInt8>]) {
    if pointers.count == count { return fill(pointers) }
    bodies.append(
      [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, initialized in
        preferLargePages(UnsafeMutableRawBufferPointer(buffer))
        next(pointers + [buffer.baseAddress!])
        initialized = byteCount
      })
  }
  next([])
  // The innermost, which is the last, was appended first.
  return bodies.reversed()
}

/// Lends the bodies of all shadows at once; none of them is empty.
func withBodies(_ shadows: [Shadow], _ body: ([UnsafePointer<UInt8>]) -> Void) {
  withArrays(shadows.map(\.body), body)
}

/// Lends several arrays at once; none of them is empty.
func withArrays(_ arrays: [[UInt8]], _ body: ([UnsafePointer<UInt8>]) -> Void) {
  func next(_ pointers: [UnsafePointer<UInt8>]) {
    if pointers.count == arrays.count { return body(pointers) }
    arrays[pointers.count].withUnsafeBufferPointer { next(pointers + [$0.baseAddress!]) }
  }
  next([])
}
