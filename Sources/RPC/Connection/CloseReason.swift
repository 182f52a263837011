/// Why a connection ended: `reason` of the error, key of the server's counters and of its log.
enum CloseReason {
  static let peerClosed = "PeerClosed"
  static let handshakeFailed = "HandshakeFailed"
  static let handshakeTimeout = "HandshakeTimeout"
  static let tlsFailed = "TLSFailed"
  static let refused = "Refused"
  static let revoked = "Revoked"
  static let violation = "Violation"
  static let notReading = "NotReading"
  static let silent = "Silent"
  static let tooManyPings = "TooManyPings"
  static let drained = "Drained"
  static let cut = "Cut"

  /// Ends that are part of every day: nothing for an operator to look at.
  static func isOrderly(_ reason: String) -> Bool {
    reason == peerClosed || reason == drained || reason == cut
  }
}
