import HammingIndex

/// The plainest search there is: compares with everything, sorts everything.
struct LinearScan<ID: Comparable & Hashable & Sendable> {
  private(set) var codes: [ID: UInt64] = [:]

  mutating func insert(_ id: ID, code: UInt64) { codes[id] = code }
  mutating func remove(_ id: ID) { codes[id] = nil }

  func nearest(
    to query: UInt64, limit: Int, where isIncluded: (ID) -> Bool = { _ in true }
  ) -> [HammingIndex<ID>.Hit] {
    let hits = codes.filter { isIncluded($0.key) }.map { id, code in
      HammingIndex<ID>.Hit(id: id, code: code, distance: (code ^ query).nonzeroBitCount)
    }
    return Array(hits.sorted { ($0.distance, $0.id) < ($1.distance, $1.id) }.prefix(limit))
  }
}

/// SplitMix64: the same numbers from the same seed on every machine.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

/// Draws codes of one length, spread evenly or around a few centres as a trained network gives them.
struct CodeSource {
  enum Kind: CaseIterable { case even, clustered }

  private let mask: UInt64
  private let centres: [UInt64]

  init(bitCount: Int, kind: Kind, generator: inout SeededGenerator) {
    let mask = bitCount == 64 ? UInt64.max : (1 << UInt64(bitCount)) - 1
    self.mask = mask
    self.centres =
      kind == .even ? [] : (0..<4).map { _ in generator.next() & mask }
  }

  func draw(_ generator: inout SeededGenerator) -> UInt64 {
    guard let centre = centres.randomElement(using: &generator) else {
      return generator.next() & mask
    }
    // Each bit flips once in sixteen, so most codes of a cluster differ in a few bits or none.
    let flips = generator.next() & generator.next() & generator.next() & generator.next()
    return (centre ^ flips) & mask
  }
}
