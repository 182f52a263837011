/// Which address leads, as far as answers tell.
struct Leadership: Equatable {
  private(set) var endpoint: Int?
  private(set) var term: UInt64 = 0

  /// A server said that it does not lead.
  ///
  /// - Parameters:
  ///   - hinted: the leader it named, where that is an address the client may go to.
  /// - Returns: where to go now; nil where nobody is known to lead.
  mutating func denied(by speaker: Int, hinted: Int?, term: UInt64) -> Int? {
    if endpoint == speaker {
      // Whatever term made it the leader here, it is over; a made-up one must not bind us for ever.
      endpoint = nil
      self.term = 0
    }
    let hinted = hinted == speaker ? nil : hinted
    if term > self.term {
      self.term = term
      endpoint = hinted
    } else if term == self.term, let hinted {
      endpoint = hinted
    }
    return endpoint
  }

  /// The leader cannot be reached: who leads now is an open question.
  mutating func unreachable(_ lost: Int) {
    if endpoint == lost { endpoint = nil }
  }
}
