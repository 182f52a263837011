/// Average precision of one ranking, cut at k, in the conventions that are in use.
public enum AveragePrecision {
  /// What the sum of precisions is divided by.
  public enum Convention: String, Sendable, CaseIterable {
    /// Hits among the first k: the deep hashing papers' way (SAAT's `cal_map`). Zero where there is none.
    case hashing
    /// The smaller of k and the relevant items of the database: information retrieval's way.
    case retrieval
  }

  /// - Parameters:
  ///   - relevance: of the items in the order of the ranking.
  ///   - relevant: relevant items of the whole database.
  public static func ranked(
    _ relevance: some Sequence<Bool>, at k: Int, relevant: Int, _ convention: Convention
  ) -> Double {
    var (hits, sum, place) = (0, 0.0, 0)
    for isRelevant in relevance {
      if place == k { break }
      place += 1
      if isRelevant {
        hits += 1
        sum += Double(hits) / Double(place)
      }
    }
    let divisor = convention == .hashing ? hits : min(relevant, k)
    return divisor == 0 ? 0 : sum / Double(divisor)
  }

  /// Expected value over all orders of items of the same distance (McSherry and Najork, ECIR 2008), divided as
  /// information retrieval does.
  /// - Parameter groups: items and relevant ones of each distance, the nearest first.
  public static func tied(
    _ groups: some Sequence<(items: Int, relevant: Int)>, at k: Int, relevant: Int
  ) -> Double {
    let divisor = min(relevant, k)
    if divisor == 0 { return 0 }
    var (before, hits, sum) = (0, 0, 0.0)
    for group in groups {
      if before >= k { break }
      if group.relevant > 0 {
        let share = Double(group.relevant) / Double(group.items)
        // Expected hits before an item grow evenly over the group.
        let slope =
          group.items > 1 ? Double(group.relevant - 1) / Double(group.items - 1) : 0
        for item in 0..<min(group.items, k - before) {
          sum += share * (Double(hits + 1) + Double(item) * slope) / Double(before + item + 1)
        }
      }
      before += group.items
      hits += group.relevant
    }
    return sum / Double(divisor)
  }
}
