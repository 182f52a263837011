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

/// Lends the bodies of all shadows at once.
func withBodies(_ shadows: [Shadow], _ body: ([UnsafePointer<UInt8>]) -> Void) {
  func next(_ pointers: [UnsafePointer<UInt8>]) {
    if pointers.count == shadows.count { return body(pointers) }
    shadows[pointers.count].body.withUnsafeBufferPointer { next(pointers + [$0.baseAddress!]) }
  }
  next([])
}
