import CKernels
import Shadows
import Testing

/// The C kernels against each other and against hand-made cases.
@Suite struct FieldTests {
  static let prime: UInt64 = 65537

  /// P for a matrix given row by row; nil where A^T A is singular.
  static func projection(order: Int, rank: Int, _ matrix: [UInt32]) -> [UInt32]? {
    var projection = [UInt32](repeating: 0, count: order * order)
    return field65537_project_one(order, rank, matrix, &projection) == 1 ? projection : nil
  }

  static func share(order: Int, rank: Int, _ matrix: [UInt32], _ index: Int) -> [UInt32] {
    (0..<order).map { row in
      let sum = (0..<rank).reversed().reduce(UInt64(0)) {
        ($0 * UInt64(index) + UInt64(matrix[row * rank + $1])) % prime
      }
      return UInt32(sum)
    }
  }

  @Test func publishedMatrixVector() throws {
    let matrix: [UInt32] = [1, 2, 3, 4, 5, 6, 7, 8]
    let expected: [UInt32] = [
      58984, 52430, 45876, 39322, 52430, 6554, 26215, 45876, 45876, 26215, 6554, 52430, 39322,
      45876, 52430, 58984,
    ]
    let projection = try #require(Self.projection(order: 4, rank: 2, matrix))
    #expect(projection == expected)
    let shares = (1...3).map { Self.share(order: 4, rank: 2, matrix, $0) }
    #expect(shares == [[3, 7, 11, 15], [5, 11, 17, 23], [7, 15, 23, 31]])
    let secret = (0..<16).map { (n: Int) -> UInt32 in UInt32(4096 * (n / 4) + 257 * (n % 4) + 11) }
    let remainder = zip(secret, projection).map { ($0 + 65537 - $1) % 65537 }
    #expect(
      remainder == [
        6564, 13375, 20186, 26997, 17214, 63347, 43943, 24539, 27864, 47782, 2163, 22081, 38514,
        32217, 25920, 19623,
      ])
    for (left, right) in [(0, 1), (0, 2), (1, 2)] {
      let pair = (0..<4).flatMap { [shares[left][$0], shares[right][$0]] }
      let again = try #require(Self.projection(order: 4, rank: 2, pair))
      #expect(zip(again, remainder).map { ($0 + $1) % 65537 } == secret)
    }
    // v3 = 2 v2 - v1
    #expect(lagrangeCoefficients(at: 3, nodes: [1, 2]) == [65536, 2])
  }

  @Test func anyShareVectorsGiveTheProjection() {
    let seed: UInt64 = 20_261_123
    let entropy = SeededEntropy(seed: seed)
    var tried = 0
    for order in [8, 16] {
      for rank in 2...min(8, order - 1) {
        for _ in 0..<10 {
          let matrix = (0..<order * rank).map { _ in UInt32(entropy.below(65537)) }
          guard let projection = Self.projection(order: order, rank: rank, matrix) else { continue }
          let chosen = entropy.subset(of: Array(1...10), count: rank)
          let shares = chosen.map { Self.share(order: order, rank: rank, matrix, $0) }
          let joined = (0..<order).flatMap { row in shares.map { $0[row] } }
          #expect(
            Self.projection(order: order, rank: rank, joined) == projection,
            "seed \(seed), order \(order), rank \(rank), indices \(chosen)")
          tried += 1
        }
      }
    }
    #expect(tried >= 120)
  }

  @Test(arguments: 2...8) func lanesAgreeWithTheTextbook(rank: Int) {
    let seed = UInt64(977 + rank)
    let entropy = SeededEntropy(seed: seed)
    let block = Lanes()
    // The last lanes are the cases that random ones hardly ever meet.
    var matrices = (0..<16).map { _ in (0..<16 * rank).map { _ in UInt32(entropy.below(65537)) } }
    matrices[12] = matrices[12].map { _ in 65536 }
    for row in 0..<16 { matrices[13][row * rank] = row == 0 ? 1 : row == 1 ? 256 : 0 }
    for row in 0..<16 { matrices[14][row * rank + 1] = matrices[14][row * rank] }
    matrices[15] = (0..<16 * rank).map { $0 % 3 == 0 ? 65536 : $0 % 3 == 1 ? 32768 : 32769 }
    for (lane, matrix) in matrices.enumerated() { block.setMatrix(lane, rank, matrix) }
    let singular = field65537_project(block.lanes, rank, 16)
    for (lane, matrix) in matrices.enumerated() {
      let expected = Self.projection(order: 16, rank: rank, matrix)
      #expect((singular >> UInt32(lane) & 1 == 1) == (expected == nil), "seed \(seed) lane \(lane)")
      if let expected { #expect(block.projection(lane) == expected, "seed \(seed) lane \(lane)") }
    }
    #expect(singular >> 12 & 1 == 1 && singular >> 13 & 1 == 0 && singular >> 14 & 1 == 1)
    #expect(field65537_wrong_traces(block.lanes, rank, 16) & ~singular == 0)
    #expect(field65537_wrong_traces(block.lanes, rank + 1, 16) & 1 == 1)

    for index in [1, 2, 10, 255] {
      var words = [UInt8](repeating: 0, count: 16 * 32)
      let overflow = field65537_share(block.lanes, rank, 16, UInt32(index), &words)
      for (lane, matrix) in matrices.enumerated() {
        let expected = Self.share(order: 16, rank: rank, matrix, index)
        #expect((overflow >> UInt32(lane) & 1 == 1) == expected.contains(65536))
        let stored = (0..<16).map { row in
          UInt32(words[lane * 32 + 2 * row]) | UInt32(words[lane * 32 + 2 * row + 1]) << 8
        }
        #expect(stored == expected.map { $0 & 0xFFFF }, "seed \(seed) lane \(lane)")
      }
    }
  }

  @Test func remaindersOf65536AreReported() {
    let block = Lanes()
    let secret = [UInt8](repeating: 0, count: 16 * 512)
    var remainder = secret
    #expect(field65537_subtract(block.lanes, 16, secret, &remainder) == 0)
    block.setProjection(lane: 5, word: 200, 1)
    block.setProjection(lane: 9, word: 0, 2)
    #expect(field65537_subtract(block.lanes, 16, secret, &remainder) == 1 << 5)
    #expect(Array(remainder[9 * 512..<9 * 512 + 2]) == [0xFF, 0xFF])
    block.setProjection(lane: 5, word: 200, 65536)
    #expect(field65537_subtract(block.lanes, 16, secret, &remainder) == 0)
    #expect(field65537_add(block.lanes, 16, secret, &remainder) == 1 << 5)
  }

  @Test func drawSkipsWhatIsNoElement() {
    let block = Lanes()
    // 65536 is an element, 65537 is not; the upper seven bits do not count.
    let refused: [UInt8] = [0x01, 0x00, 0x01]
    let largest: [UInt8] = [0x00, 0x00, 0xFF]
    var bytes: [UInt8] = []
    for element: UInt8 in 0..<32 {
      bytes += refused
      bytes += element == 3 ? largest : [element, 0, 0xFE]
    }
    bytes.append(0)
    var consumed = [0, 0]
    #expect(field65537_draw(block.lanes, 2, 2, bytes, bytes.count, &consumed) == 1)
    #expect(consumed[0] == 32 * 6)
    // Rows in order: element 3 is row 1, column 1.
    #expect(block.matrix(lane: 0, row: 1, column: 1) == 65536)
    #expect(block.matrix(lane: 0, row: 2, column: 0) == 4)
    #expect(field65537_draw(block.lanes, 2, 2, bytes, bytes.count - 2, &consumed) == 0)
  }

  @Test func inverses() {
    for value: UInt32 in [1, 2, 3, 255, 256, 32768, 32769, 65535, 65536] {
      #expect(UInt64(value) * UInt64(field65537_invert(value)) % Self.prime == 1)
    }
    #expect(field65537_invert(0) == 0)
  }

  @Test func interpolationOfWords() {
    let seed: UInt64 = 5
    let entropy = SeededEntropy(seed: seed)
    let words = (0..<8).map { _ in (0..<37).map { _ in UInt16(truncatingIfNeeded: entropy.next()) }
    }
    let coefficients = (0..<8).map { _ in UInt32(entropy.below(65537)) }
    let flat = words.map { $0.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] } }
    var output = [UInt8](repeating: 0, count: 74)
    let expected = (0..<37).map { at in
      (0..<8).reduce(UInt64(0)) {
        ($0 + UInt64(coefficients[$1]) * UInt64(words[$1][at])) % Self.prime
      }
    }
    let overflow = withPointers(flat) {
      field65537_combine(8, coefficients, $0, 37, &output)
    }
    #expect((overflow != 0) == expected.contains(65536), "seed \(seed)")
    #expect(output == expected.flatMap { [UInt8($0 & 255), UInt8($0 >> 8 & 255)] })
    let minusOne = withPointers([[UInt8](repeating: 1, count: 74)]) {
      field65537_combine(1, [65537 - field65537_invert(257)], $0, 37, &output)
    }
    #expect(minusOne == 1)
  }
}

/// The workspace of the vector kernels, with access to single elements.
final class Lanes {
  let lanes: UnsafeMutablePointer<field65537_lanes>
  private let raw: UnsafeMutableRawPointer
  private static let projectionOffset = 3 * 8 * 16 * 16 * 4

  init() {
    raw = .allocate(byteCount: MemoryLayout<field65537_lanes>.size, alignment: 64)
    raw.initializeMemory(as: UInt8.self, repeating: 0, count: MemoryLayout<field65537_lanes>.size)
    lanes = raw.bindMemory(to: field65537_lanes.self, capacity: 1)
  }

  deinit { raw.deallocate() }

  private func offset(_ element: Int, _ lane: Int) -> Int { (element * 16 + lane) * 4 }

  func setMatrix(_ lane: Int, _ rank: Int, _ matrix: [UInt32]) {
    for (position, value) in matrix.enumerated() {
      let element = position % rank * 16 + position / rank
      raw.storeBytes(of: value, toByteOffset: offset(element, lane), as: UInt32.self)
    }
  }

  func matrix(lane: Int, row: Int, column: Int) -> UInt32 {
    raw.load(fromByteOffset: offset(column * 16 + row, lane), as: UInt32.self)
  }

  func projection(_ lane: Int) -> [UInt32] {
    (0..<256).map {
      raw.load(fromByteOffset: Self.projectionOffset + offset($0, lane), as: UInt32.self)
    }
  }

  func setProjection(lane: Int, word: Int, _ value: UInt32) {
    raw.storeBytes(
      of: value, toByteOffset: Self.projectionOffset + offset(word, lane), as: UInt32.self)
  }
}

func withPointers<Result>(
  _ arrays: [[UInt8]], _ body: ([UnsafePointer<UInt8>]) -> Result
) -> Result {
  func next(_ pointers: [UnsafePointer<UInt8>]) -> Result {
    if pointers.count == arrays.count { return body(pointers) }
    return arrays[pointers.count].withUnsafeBufferPointer { next(pointers + [$0.baseAddress!]) }
  }
  return next([])
}
