import Logging

/// Hosts, connections between them and all that goes wrong with them, on simulated time.
///
/// A host is a name: that of the address where a server listens, and the one that a channel is made from. Each
/// connection keeps its bytes in order and waits for nobody else's, so that connections overtake one another.
/// On the simulation's thread only, but not from within its loops: ``SimulatedTime/schedule(afterNanoseconds:_:)``.
public final class SimulatedNetwork: @unchecked Sendable {
  public struct Conditions: Sendable {
    /// From one host to another, anew for each piece.
    public var delayNanoseconds: ClosedRange<UInt64> = 100_000...1_000_000
    /// Of each direction of a connection; 0: no limit.
    public var bytesPerSecond: UInt64 = 0

    public init() {}
  }

  /// Which side learns that a connection broke. The other sees silence: it is half open.
  public enum Witness: Sendable, CaseIterable { case both, client, server }

  private struct Way: Hashable {
    var from: String
    var to: String
  }

  private struct Connection {
    var number: Int
    var link: InProcessLink
    var toServer: SimulatedLane
    var toClient: SimulatedLane
  }

  public let time: SimulatedTime
  public let conditions: Conditions
  public internal(set) var transcript: Transcript
  private let listeners = InProcessListeners()
  private var connections: [Connection] = []
  private var lastNumber = 0
  private var cuts: Set<Way> = []
  private var refusing: Set<String> = []
  /// What a broken transport would carry instead of a parcel: for tests of the tests.
  var sabotage: ((SimulatedLane, Parcel) -> [Parcel])?

  /// - Parameter keepsText: ``transcript`` has lines to print, not only a digest.
  public init(
    time: SimulatedTime, conditions: Conditions = Conditions(), keepsText: Bool = false
  ) {
    self.time = time
    self.conditions = conditions
    transcript = Transcript(keepsText: keepsText)
  }

  /// Adds a line of the test's own to the transcript.
  public func note(_ text: String) { transcript.note(time.nowNanoseconds, text) }

  /// As ``InProcessNetwork/listen(_:as:at:admitsStrangers:)``.
  public func listen(
    _ server: Server, as identity: Identity, at address: Address, admitsStrangers: Bool = false
  ) throws(RPCError) {
    try listeners.add(
      InProcessListener(server: server, identity: identity, admitsStrangers: admitsStrangers),
      at: address)
  }

  /// A channel from a host to whoever listens at the address when it connects.
  public func channel(
    from host: String, as identity: Identity?, to address: Address,
    expecting expectation: PeerExpectation, group: EventLoopGroup, logger: Logger,
    limits: ConnectionLimits = ConnectionLimits(), interceptors: [any ClientInterceptor] = []
  ) -> Channel {
    let connector = InProcessConnector(name: "\(address) simulated") { [self] loop in
      makeLink(from: host, as: identity, to: address, loop)
    }
    return Channel(
      address: address, connector: connector, expecting: expectation, loop: group.nextLoop(),
      logger: logger, limits: limits, interceptors: interceptors)
  }

  private func makeLink(
    from host: String, as identity: Identity?, to address: Address, _ loop: EventLoop
  ) -> InProcessLink {
    lastNumber += 1
    let there = SimulatedLane(
      from: host, to: address.host, connection: lastNumber, network: self)
    let back = SimulatedLane(from: address.host, to: host, connection: lastNumber, network: self)
    let link = InProcessLink(
      name: "\(host) > \(address) #\(lastNumber)", clientIdentity: identity, clientLoop: loop,
      toServer: there, toClient: back
    ) { [unowned self] in
      refusing.contains(address.host) ? nil : listeners.find(address)
    }
    connections.removeAll { $0.link.isOver }
    connections.append(
      Connection(number: lastNumber, link: link, toServer: there, toClient: back))
    return link
  }

  // MARK: faults

  func isCut(from: String, to: String) -> Bool { cuts.contains(Way(from: from, to: to)) }

  /// Nothing arrives in this direction any more until it is healed. What is sent meanwhile is not lost: as with
  /// TCP, it waits for the way to open, or for one side to lose its patience.
  public func cut(from: String, to: String) {
    note("cut \(from) > \(to)")
    cuts.insert(Way(from: from, to: to))
  }

  public func heal(from: String, to: String) {
    guard cuts.remove(Way(from: from, to: to)) != nil else { return }
    note("healed \(from) > \(to)")
    for connection in connections {
      for lane in [connection.toServer, connection.toClient]
      where lane.from == from && lane.to == to { lane.wayIsHealed() }
    }
  }

  /// Whether the host answers who wants to connect with a refusal.
  public func setRefusing(_ host: String, _ refuses: Bool) {
    note("\(host) \(refuses ? "refuses" : "takes") connections")
    if refuses { refusing.insert(host) } else { refusing.remove(host) }
  }

  /// All ways are open and all hosts take connections.
  public func healAll() {
    for way in cuts.sorted(by: { ($0.from, $0.to) < ($1.from, $1.to) }) {
      heal(from: way.from, to: way.to)
    }
    for host in refusing.sorted() { setRefusing(host, false) }
  }

  /// Connections whose ends are not both closed, in the order they were made.
  public var openConnections: [Int] {
    connections.compactMap { $0.link.isOver ? nil : $0.number }
  }

  /// Breaks a connection: what is under way is lost.
  public func breakConnection(_ number: Int, seenBy witness: Witness) {
    guard let connection = connections.first(where: { $0.number == number }) else { return }
    note("connection \(number) breaks, seen by \(witness)")
    connection.toServer.die()
    connection.toClient.die()
    let reset = RPCError(
      .unavailable, "the connection was reset", reason: CloseReason.peerClosed)
    if witness != .server { connection.link.fail(isClient: true, reset) }
    if witness != .client { connection.link.fail(isClient: false, reset) }
  }
}
