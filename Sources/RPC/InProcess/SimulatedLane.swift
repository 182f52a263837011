/// One direction of a simulated connection: in order, after a while, and not at all while the way is cut.
final class SimulatedLane: Lane, @unchecked Sendable {
  let from: String
  let to: String
  private let connection: Int
  private unowned let network: SimulatedNetwork
  private var underWay: [(parcel: Parcel, due: UInt64)] = []
  private var lastDue: UInt64 = 0
  private var freeNanoseconds: UInt64 = 0
  /// The connection is gone: what is sent on it reaches nobody.
  private(set) var isDead = false

  init(from: String, to: String, connection: Int, network: SimulatedNetwork) {
    self.from = from
    self.to = to
    self.connection = connection
    self.network = network
  }

  override func carry(_ parcel: Parcel) {
    let carried = network.sabotage?(self, parcel) ?? [parcel]
    for parcel in carried where !isDead { send(parcel) }
  }

  private func send(_ parcel: Parcel) {
    let now = network.time.nowNanoseconds
    var delay = network.time.random(in: network.conditions.delayNanoseconds)
    if network.conditions.bytesPerSecond > 0 {
      let took = UInt64(parcel.byteCount) * 1_000_000_000 / network.conditions.bytesPerSecond
      freeNanoseconds = max(freeNanoseconds, now) + took
      delay += freeNanoseconds - now
    }
    lastDue = max(lastDue, now + delay)
    underWay.append((parcel, lastDue))
    network.time.schedule(atNanoseconds: lastDue) { [self] in bringDue() }
  }

  private func bringDue() {
    let now = network.time.nowNanoseconds
    while !isDead, !network.isCut(from: from, to: to), let first = underWay.first, first.due <= now
    {
      underWay.removeFirst()
      network.transcript.note(now, connection, from, to, first.parcel)
      handOver(first.parcel)
    }
  }

  /// The way is open again: what was lost meanwhile is sent again, as TCP does.
  func wayIsHealed() {
    let soonest =
      network.time.nowNanoseconds + network.time.random(in: network.conditions.delayNanoseconds)
    for index in underWay.indices { underWay[index].due = max(underWay[index].due, soonest) }
    lastDue = max(lastDue, soonest)
    network.time.schedule(atNanoseconds: soonest) { [self] in bringDue() }
  }

  func die() {
    isDead = true
    underWay = []
  }
}

extension Parcel {
  fileprivate var byteCount: Int { if case .bytes(let bytes) = self { bytes.count } else { 0 } }
}
