/// All masks of a given width, fewest bits first: the order in which buckets near a code are visited.
struct MaskTable: Sendable {
  /// Every value of the width, by number of bits, then by value.
  let masks: [UInt16]
  /// Where the masks with r bits begin, for r from 0 to width + 1.
  let begins: [Int]

  init(width: Int) {
    precondition((1...16).contains(width), "masks of \(width) bits")
    let size = 1 << width
    var begins = Array(repeating: 0, count: width + 2)
    for mask in 0..<size { begins[mask.nonzeroBitCount + 1] += 1 }
    for radius in 1..<begins.count { begins[radius] += begins[radius - 1] }
    var next = begins
    var masks = Array(repeating: UInt16(0), count: size)
    for mask in 0..<size {
      masks[next[mask.nonzeroBitCount]] = UInt16(mask)
      next[mask.nonzeroBitCount] += 1
    }
    self.masks = masks
    self.begins = begins
  }

  /// The masks with exactly that many bits.
  func masks(radius: Int) -> ArraySlice<UInt16> { masks[begins[radius]..<begins[radius + 1]] }
}
