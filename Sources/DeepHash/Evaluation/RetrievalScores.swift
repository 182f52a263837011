internal import Base

/// Codes and what they stand for.
public struct LabelledCodes: Sendable {
  public var codes: [HashCode]
  public var labels: [Int]

  public init(codes: [HashCode], labels: [Int]) {
    precondition(codes.count == labels.count, "\(codes.count) codes, \(labels.count) labels")
    self.codes = codes
    self.labels = labels
  }

  /// - Parameter outputs: of a network, [image][l].
  public init(outputs: [Float], bits: Int, labels: [Int]) {
    self.init(
      codes: labels.indices.map { HashCode(outputs: outputs[$0 * bits..<($0 + 1) * bits]) },
      labels: labels)
  }
}

/// How well codes find what is relevant: another item is where its label is the same.
public struct RetrievalScores: Sendable {
  /// At one k, means over all queries.
  public struct Cut: Sendable {
    public let k: Int
    /// mAP@k, divided by hits, ties broken by a keyed hash of the item's number.
    public var hashing = 0.0
    /// mAP@k, divided as information retrieval does, ties broken alike.
    public var retrieval = 0.0
    /// mAP@k, expected over all orders of ties.
    public var tieAware = 0.0
    public var precision = 0.0
    public var recall = 0.0

    init(k: Int) { self.k = k }

    /// Adds a query's; `tieAware` stays.
    /// - Parameters:
    ///   - ranking: whether each item is relevant, the nearest first; at least k of them, or all that there are.
    ///   - relevant: how many there are of them.
    mutating func add(_ ranking: [Bool], relevant: Int) {
      let hits = ranking.prefix(k).count { $0 }
      hashing += AveragePrecision.ranked(ranking, at: k, relevant: relevant, .hashing)
      retrieval += AveragePrecision.ranked(ranking, at: k, relevant: relevant, .retrieval)
      precision += Double(hits) / Double(k)
      recall += relevant == 0 ? 0 : Double(hits) / Double(relevant)
    }

    mutating func divide(by queries: Double) {
      hashing /= queries
      retrieval /= queries
      tieAware /= queries
      precision /= queries
      recall /= queries
    }
  }

  /// At one Hamming radius, sums over all queries.
  public struct Radius: Sendable {
    public let radius: Int
    public var precision = 0.0
    public var recall = 0.0
  }

  public var cuts: [Cut]
  /// Precision and recall of all items within each radius, in the mean over queries; where nothing is within it a
  /// precision of 1 would flatter and one of 0 would punish, so such queries have no part in the precision. A radius within
  /// which no query finds anything is left out.
  public var radii: [Radius]

  public func cut(_ k: Int) -> Cut? { cuts.first { $0.k == k } }

  /// - Parameters:
  ///   - ks: lengths of the result list.
  ///   - seed: of the order of ties.
  public init(queries: LabelledCodes, database: LabelledCodes, ks: [Int], seed: UInt64 = 7) {
    let bits = queries.codes.first?.length ?? 1
    cuts = ks.map { Cut(k: $0) }
    radii = (0...bits).map { Radius(radius: $0) }
    guard !queries.codes.isEmpty, !database.codes.isEmpty else { return }
    let order = Self.tieOrder(database.codes.count, seed: seed)
    let items = order.map { (code: database.codes[$0].bits, label: database.labels[$0]) }
    let classes = (database.labels.max() ?? 0) + 1
    var relevantItems = [Int](repeating: 0, count: classes)
    for label in database.labels { relevantItems[label] += 1 }
    let longest = min(ks.max() ?? 0, items.count)
    var answered = [Int](repeating: 0, count: bits + 1)
    var distances = [Int](repeating: 0, count: items.count)
    var ranking = [Bool](repeating: false, count: longest)

    for (query, label) in zip(queries.codes, queries.labels) {
      var groups = [(items: Int, relevant: Int)](repeating: (0, 0), count: bits + 1)
      for (at, item) in items.enumerated() {
        let distance = (item.code ^ query.bits).nonzeroBitCount
        distances[at] = distance
        groups[distance].items += 1
        if item.label == label { groups[distance].relevant += 1 }
      }
      // Where each distance begins in the ranking; items of the same keep the order of ties.
      var next = [Int](repeating: 0, count: bits + 1)
      for distance in 1..<(bits + 1) {
        next[distance] = next[distance - 1] + groups[distance - 1].items
      }
      for (at, item) in items.enumerated() {
        let place = next[distances[at]]
        next[distances[at]] += 1
        if place < longest { ranking[place] = item.label == label }
      }
      let relevant = label < classes ? relevantItems[label] : 0
      for index in cuts.indices {
        cuts[index].add(ranking, relevant: relevant)
        cuts[index].tieAware += AveragePrecision.tied(
          groups, at: cuts[index].k, relevant: relevant)
      }
      var (within, hits) = (0, 0)
      for radius in 0...bits {
        within += groups[radius].items
        hits += groups[radius].relevant
        if within > 0 {
          radii[radius].precision += Double(hits) / Double(within)
          answered[radius] += 1
        }
        radii[radius].recall += relevant == 0 ? 0 : Double(hits) / Double(relevant)
      }
    }
    let count = Double(queries.codes.count)
    for index in cuts.indices { cuts[index].divide(by: count) }
    for radius in radii.indices where answered[radius] > 0 {
      radii[radius].precision /= Double(answered[radius])
      radii[radius].recall /= count
    }
    radii.removeAll { answered[$0.radius] == 0 }
  }

  /// Items in the order that ties are broken in: by a keyed hash of their number, which no label has a part in.
  private static func tieOrder(_ count: Int, seed: UInt64) -> [Int] {
    let keys = (0..<count).map { number -> UInt64 in
      var dice = SplitMix64(seed: seed ^ (UInt64(number) &* 0xD129_0C5A_3C62_8F15))
      return dice.next()
    }
    return (0..<count).sorted { (keys[$0], $0) < (keys[$1], $1) }
  }
}
