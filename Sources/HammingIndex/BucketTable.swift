/// A table of 2^width buckets, most of them empty, with one bit each that says which are not.
///
/// The bits of 65,536 buckets fit the first-level cache, so passing an empty bucket costs no miss. Buckets
/// are made a page at a time: a small index stays small, and copy-on-write copies a page.
struct BucketTable<Bucket: Sendable>: Sendable {
  private static var pageBits: Int { 8 }

  private var occupied: [UInt64]
  private var pages: [[Bucket?]]

  init(width: Int) {
    let size = 1 << width
    occupied = Array(repeating: 0, count: (size + 63) / 64)
    pages = Array(
      repeating: [], count: (size + (1 << Self.pageBits) - 1) >> Self.pageBits)
  }

  private func isOccupied(_ key: Int) -> Bool { occupied[key >> 6] >> UInt64(key & 63) & 1 == 1 }

  /// The bucket of a key, or nil where it is empty.
  subscript(key: Int) -> Bucket? {
    isOccupied(key) ? pages[key >> Self.pageBits][key & 255] : nil
  }

  /// Changes a bucket in place: nil stands for an empty one, before and after.
  mutating func modify(_ key: Int, _ body: (inout Bucket?) -> Void) {
    makePage(of: key)
    let page = key >> Self.pageBits
    body(&pages[page][key & 255])
    mark(key, occupied: pages[page][key & 255] != nil)
  }

  private mutating func makePage(of key: Int) {
    if pages[key >> Self.pageBits].isEmpty {
      pages[key >> Self.pageBits] = Array(repeating: nil, count: 1 << Self.pageBits)
    }
  }

  private mutating func mark(_ key: Int, occupied isOccupied: Bool) {
    let bit: UInt64 = 1 << UInt64(key & 63)
    if isOccupied { occupied[key >> 6] |= bit } else { occupied[key >> 6] &= ~bit }
  }
}
