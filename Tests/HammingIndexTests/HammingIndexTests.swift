import HammingIndex
import Testing

/// Sixteen bytes in order, as image identifiers are.
struct SixteenBytes: Hashable, Comparable, Sendable {
  let high: UInt64
  let low: UInt64

  static func < (left: Self, right: Self) -> Bool {
    (left.high, left.low) < (right.high, right.low)
  }
}

struct IndexCase: Sendable, CustomTestStringConvertible {
  let bitCount: Int
  let kind: CodeSource.Kind
  let size: Int
  let method: CodeSearchMethod

  var seed: UInt64 { UInt64(1000 * bitCount + size) }
  var testDescription: String {
    "\(bitCount) bits, \(kind), \(size) codes, \(method), seed \(seed)"
  }

  /// Lengths that the networks use, and some that share no width with a machine word. Left to itself an
  /// index of this size mostly scans, so the tables are asked for too.
  static let all: [IndexCase] = [1, 8, 16, 17, 32, 50, 64].flatMap { bitCount in
    CodeSource.Kind.allCases.flatMap { kind in
      [300, 9000].flatMap { size in
        (bitCount <= 16 ? [.automatic] : CodeSearchMethod.allCases).map { method in
          IndexCase(bitCount: bitCount, kind: kind, size: size, method: method)
        }
      }
    }
  }
}

@Suite struct HammingIndexTests {
  @Test(arguments: IndexCase.all)
  func agreesWithALinearScan(_ test: IndexCase) throws {
    var generator = SeededGenerator(seed: test.seed)
    let source = CodeSource(bitCount: test.bitCount, kind: test.kind, generator: &generator)
    var index = HammingIndex<SixteenBytes>(bitCount: test.bitCount, method: test.method)
    var oracle = LinearScan<SixteenBytes>()
    var known: [SixteenBytes] = []

    func check(queries: Int) throws {
      #expect(index.count == oracle.codes.count, "seed \(test.seed)")
      for _ in 0..<queries {
        let query = source.draw(&generator)
        let limit = [1, 2, 10, 100].randomElement(using: &generator)!
        #expect(
          try index.nearest(to: query, limit: limit) == oracle.nearest(to: query, limit: limit),
          "seed \(test.seed), query \(query), limit \(limit)")
      }
    }

    for step in 0..<test.size {
      switch UInt.random(in: 0..<10, using: &generator) {
      case 0 where !known.isEmpty:
        let id = known.remove(at: Int.random(in: 0..<known.count, using: &generator))
        #expect(index.remove(id) == oracle.codes[id], "seed \(test.seed)")
        oracle.remove(id)
      case 1 where !known.isEmpty:
        let id = known.randomElement(using: &generator)!
        let code = source.draw(&generator)
        #expect(try index.insert(id, code: code) == oracle.codes[id], "seed \(test.seed)")
        oracle.insert(id, code: code)
      default:
        let id = SixteenBytes(high: generator.next() & 3, low: generator.next())
        let code = source.draw(&generator)
        #expect(try index.insert(id, code: code) == nil, "seed \(test.seed)")
        oracle.insert(id, code: code)
        known.append(id)
      }
      if step % (test.size / 10) == 0 { try check(queries: 1) }
    }
    try check(queries: 10)
  }

  @Test(arguments: [16, 64])
  func emptiesAndFillsAgain(bitCount: Int) throws {
    let seed: UInt64 = 77
    var generator = SeededGenerator(seed: seed)
    let source = CodeSource(bitCount: bitCount, kind: .clustered, generator: &generator)
    var index = HammingIndex<Int>(bitCount: bitCount)
    var oracle = LinearScan<Int>()
    for _ in 0..<3 {
      for id in (0..<6000).shuffled(using: &generator) {
        let code = source.draw(&generator)
        try index.insert(id, code: code)
        oracle.insert(id, code: code)
      }
      for id in (0..<6000).shuffled(using: &generator).dropLast(5) {
        #expect(index.remove(id) == oracle.codes[id], "seed \(seed)")
        oracle.remove(id)
      }
      let query = source.draw(&generator)
      #expect(
        try index.nearest(to: query, limit: 10) == oracle.nearest(to: query, limit: 10),
        "seed \(seed)")
      for id in oracle.codes.keys {
        index.remove(id)
        oracle.remove(id)
      }
      #expect(index.count == 0)
      #expect(try index.nearest(to: query, limit: 10).isEmpty)
    }
  }

  @Test(arguments: [8, 16, 32, 64], CodeSource.Kind.allCases)
  func filtersExactly(bitCount: Int, kind: CodeSource.Kind) throws {
    let seed = UInt64(bitCount)
    var generator = SeededGenerator(seed: seed)
    let source = CodeSource(bitCount: bitCount, kind: kind, generator: &generator)
    var index = HammingIndex<Int>(bitCount: bitCount)
    var oracle = LinearScan<Int>()
    for id in 0..<8000 {
      let code = source.draw(&generator)
      try index.insert(id, code: code)
      oracle.insert(id, code: code)
    }
    for divisor in [1, 3, 500, 7999, 9001] {
      let query = source.draw(&generator)
      let isIncluded: (Int) -> Bool = { $0 % divisor == divisor - 1 }
      let hits = try index.nearest(to: query, limit: 20, where: isIncluded)
      #expect(
        hits == oracle.nearest(to: query, limit: 20, where: isIncluded),
        "seed \(seed), every \(divisor)th")
    }
  }

  @Test(arguments: [8, 16, 32, 64])
  func handlesLimitsAtTheEdge(bitCount: Int) throws {
    var index = HammingIndex<Int>(bitCount: bitCount)
    #expect(try index.nearest(to: 0, limit: 5).isEmpty)
    for id in [5, 3, 9, 1] { try index.insert(id, code: 1) }
    #expect(try index.nearest(to: 0, limit: 0).isEmpty)
    #expect(try index.nearest(to: 0, limit: 2).map(\.id) == [1, 3])
    #expect(try index.nearest(to: 0, limit: 4).map(\.id) == [1, 3, 5, 9])
    #expect(try index.nearest(to: 0, limit: .max).map(\.distance) == [1, 1, 1, 1])
  }

  @Test func finishesTheRadiusOfTheLastHit() throws {
    var index = HammingIndex<Int>(bitCount: 16)
    // All at distance 1 from the query; the smallest identifier has the mask that is visited last.
    for bit in 0..<16 { try index.insert(100 - bit, code: 1 << UInt64(bit)) }
    #expect(try index.nearest(to: 0, limit: 1).map(\.id) == [85])
  }

  @Test func movesAnIdentifierThatIsInsertedAgain() throws {
    for bitCount in [16, 64] {
      var index = HammingIndex<Int>(bitCount: bitCount)
      #expect(try index.insert(7, code: 3) == nil)
      #expect(try index.insert(7, code: 3) == 3)
      #expect(try index.insert(7, code: 5) == 3)
      #expect(index.count == 1)
      #expect(index.code(of: 7) == 5)
      #expect(
        try index.nearest(to: 5, limit: 9) == [HammingIndex.Hit(id: 7, code: 5, distance: 0)])
      #expect(index.remove(7) == 5)
      #expect(index.remove(7) == nil)
    }
  }

  @Test func refusesCodesThatAreTooLong() throws {
    var index = HammingIndex<Int>(bitCount: 16)
    let expected = HammingIndexError.codeTooLong(code: 0x10000, bitCount: 16)
    #expect(throws: expected) { try index.insert(1, code: 0x10000) }
    #expect(throws: expected) { try index.nearest(to: 0x10000, limit: 1) }
    #expect(index.count == 0)
    #expect("\(expected)" == "The code 10000 has more than the 16 bits of the index.")
  }

  @Test(arguments: [16, 64])
  func snapshotsDoNotChange(bitCount: Int) async throws {
    let seed: UInt64 = 5
    var generator = SeededGenerator(seed: seed)
    let source = CodeSource(bitCount: bitCount, kind: .clustered, generator: &generator)
    var index = HammingIndex<Int>(bitCount: bitCount)
    for id in 0..<5000 { try index.insert(id, code: source.draw(&generator)) }
    let queries = (0..<40).map { _ in source.draw(&generator) }
    let snapshot = index
    let expected = try queries.map { try snapshot.nearest(to: $0, limit: 10) }

    // Readers search the snapshot on other threads while this one changes everything.
    let agree = try await withThrowingTaskGroup(of: Bool.self) { group in
      for _ in 0..<2 {
        group.addTask { try queries.map { try snapshot.nearest(to: $0, limit: 10) } == expected }
      }
      for id in 0..<5000 {
        if id % 2 == 0 { index.remove(id) } else { try index.insert(id, code: 0) }
      }
      return try await group.reduce(true) { $0 && $1 }
    }
    #expect(agree, "seed \(seed)")
    #expect(snapshot.count == 5000)
    #expect(index.count == 2500)
    #expect(try index.nearest(to: 0, limit: 3).map(\.id) == [1, 3, 5])
  }
}
