extension String {
  /// Its beginning, of at most `limit` bytes of UTF-8 and cut between scalars. Not `prefix`: one
  /// character may have any number of combining marks, so text of a peer has no bound in characters.
  func shortened(toBytes limit: Int) -> String {
    guard utf8.count > limit else { return self }
    var end = utf8.index(utf8.startIndex, offsetBy: limit)
    while utf8[end] & 0xc0 == 0x80 { end = utf8.index(before: end) }
    return String(self[..<end])
  }
}
