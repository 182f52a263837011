internal import CKernels

/// What pictures find by their pixels alone, with nothing learned: the baseline beside every figure of a network.
///
/// Where neighbouring slices of one person stand on both sides of a split, it finds nearly all that there is to find.
public struct NearestPixels: Sendable {
  /// Share of queries whose nearest picture is of their class.
  public private(set) var accuracy = 0.0
  /// As of codes. Pictures that are equal in every pixel aside, distances have no ties: tie-aware means as ranked.
  public private(set) var cuts: [RetrievalScores.Cut]

  public func cut(_ k: Int) -> RetrievalScores.Cut? { cuts.first { $0.k == k } }

  /// Pictures are compared at so many pixels a side, where that divides theirs.
  private static let side = 32

  /// Euclidean distances between means of blocks.
  /// - Parameters:
  ///   - queries: numbers of pictures of the set.
  ///   - database: numbers of pictures of the set.
  ///   - ks: lengths of the result list.
  ///   - isCancelled: asked now and then; what then comes back is of no use.
  public init(
    set: TrainingSet, queries: [Int], database: [Int], ks: [Int],
    isCancelled: () -> Bool = { false }
  ) {
    cuts = ks.map { RetrievalScores.Cut(k: $0) }
    guard !queries.isEmpty, !database.isEmpty else { return }
    let length = Self.length(of: set)
    let stored = Self.features(set, database)
    let asked = Self.features(set, queries)
    let norms = (0..<database.count).map {
      Float(sfmedir_sum_of_squares(stored.pointer + $0 * length, length))
    }
    var relevant = [Int](repeating: 0, count: set.classes.count)
    for picture in database { relevant[set.labels[picture]] += 1 }
    let products = FloatBuffer(count: Self.block * database.count)
    let longest = max(ks.max() ?? 1, 1)
    var hits = 0
    for first in stride(from: 0, to: queries.count, by: Self.block) where !isCancelled() {
      let count = min(Self.block, queries.count - first)
      MatrixProduct.apply(
        stored.pointer, to: asked.pointer + first * length, output: products.pointer, rows: count,
        inputs: length, outputs: database.count)
      for row in 0..<count {
        let label = set.labels[queries[first + row]]
        // The query's own norm is the same for all.
        let distances = norms.indices.map {
          norms[$0] - 2 * products.pointer[row * database.count + $0]
        }
        let order = distances.indices.sorted { (distances[$0], $0) < (distances[$1], $1) }
        let relevance = order.prefix(longest).map { set.labels[database[$0]] == label }
        hits += relevance[0] ? 1 : 0
        for index in cuts.indices { cuts[index].add(relevance, relevant: relevant[label]) }
      }
    }
    accuracy = Double(hits) / Double(queries.count)
    for index in cuts.indices {
      cuts[index].tieAware = cuts[index].retrieval
      cuts[index].divide(by: Double(queries.count))
    }
  }

  /// Queries of one matrix product.
  private static let block = 64

  private static func length(of set: TrainingSet) -> Int {
    let isDivided = set.height % side == 0 && set.width % side == 0
    return isDivided ? set.channels * side * side : set.imageElements
  }

  private static func features(_ set: TrainingSet, _ pictures: [Int]) -> FloatBuffer {
    let length = length(of: set)
    let features = FloatBuffer(count: pictures.count * length)
    let isWhole = length == set.imageElements
    let (rows, columns) = isWhole ? (1, 1) : (set.height / side, set.width / side)
    for (number, picture) in pictures.enumerated() {
      let image = set.image(picture)
      let out = features.pointer + number * length
      if isWhole {
        out.update(from: image, count: length)
        continue
      }
      for plane in 0..<set.channels {
        for y in 0..<side {
          for x in 0..<side {
            var sum: Float = 0
            for row in 0..<rows {
              for column in 0..<columns {
                sum +=
                  image[(plane * set.height + y * rows + row) * set.width + x * columns + column]
              }
            }
            out[(plane * side + y) * side + x] = sum / Float(rows * columns)
          }
        }
      }
    }
    return features
  }
}
