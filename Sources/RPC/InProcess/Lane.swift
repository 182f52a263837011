/// What travels from one end of a link to the other.
enum Parcel: Sendable {
  /// From the client: whoever listens is to take the connection.
  case open
  /// From the server: it is taken, and bytes may flow.
  case accepted
  case bytes([UInt8])
  /// So many bytes were read; as many more may be under way.
  case taken(Int)
  /// Nothing more comes.
  case end
  case failed(RPCError)
}

/// One direction of a link. This one hands parcels over at once; a simulation's takes its time.
class Lane: @unchecked Sendable {
  /// Brings a parcel to the end that it is for; set by the link.
  final var handOver: (Parcel) -> Void = { _ in }

  /// In order, on the sender's loop.
  func carry(_ parcel: Parcel) { handOver(parcel) }
}
