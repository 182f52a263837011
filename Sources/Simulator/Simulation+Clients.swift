import Raft
import Replication

/// What a client sends to a node.
struct ClientRequest {
  var client: Int
  /// The client's own number of this attempt; answers to earlier ones are ignored.
  var number: UInt64
  var register: UInt64
  var input: RegisterInput
  /// Under which the command has its effect once.
  var identity: UInt64
  var sequence: UInt64
  /// Of a read: what was so many milliseconds ago is good enough, and any data node may answer.
  var staleness: UInt64?
}

enum ClientReply {
  case output(RegisterOutput)
  case tryElsewhere(NodeID?)
}

/// One who does one thing after another, and goes on with it elsewhere until it is answered or given up.
struct SimulatedClient {
  let number: Int
  var attempt: UInt64 = 0
  var identity: UInt64
  var sequence: UInt64 = 0
  var target: NodeID?
  /// Index in its register's history, and when it is given up.
  var current:
    (
      register: UInt64, input: RegisterInput, staleness: UInt64?, invoked: UInt64,
      givenUpAt: UInt64
    )?
  var nextValue: UInt64 = 1

  init(number: Int) {
    self.number = number
    identity = UInt64(number) << 32
  }
}

extension Simulation {
  private static let patience: UInt64 = 400

  /// Whether clients still think of something new: not for long once all is calm, but until something was done.
  var mayBegin: Bool {
    time < configuration.faultyMilliseconds + 2000 || operationsInCalm == 0
  }

  /// The client's time to do something: a new operation, or the old one again.
  mutating func act(_ client: Int, _ number: UInt64) {
    guard clients[client].attempt == number else { return }
    if let current = clients[client].current, time >= current.givenUpAt {
      giveUp(client)
    }
    if clients[client].current == nil {
      guard mayBegin else { return }
      begin(client)
    }
    let current = clients[client].current!
    clients[client].attempt += 1
    let target = clients[client].target ?? pick(nodes).id
    // The next attempt goes to anybody, unless an answer says whom.
    clients[client].target = nil
    let request = ClientRequest(
      client: client, number: clients[client].attempt, register: current.register,
      input: current.input, identity: clients[client].identity, sequence: clients[client].sequence,
      staleness: current.staleness)
    if !chance(network.loss) {
      queue.add(.request(to: target, request), at: time + draw(0...network.longestDelay))
    }
    queue.add(
      .client(client, number: clients[client].attempt), at: time + Self.patience + draw(0...200))
  }

  private mutating func begin(_ client: Int) {
    clients[client].sequence += 1
    let register = draw(0...(configuration.registers - 1))
    // No two writes are of the same value: what is read names the write it saw.
    let value = clients[client].nextValue * 100 + UInt64(client) + 1
    var staleness: UInt64?
    let input: RegisterInput
    if chance(style.reads) {
      input = .read
      if chance(style.staleReads) { staleness = draw(20...2000) }
    } else {
      clients[client].nextValue += 1
      if chance(70) {
        input = .write(value)
      } else {
        let known = nodes.filter { $0.isUp && $0.role == .data }.map {
          $0.machine.value(of: register)
        }
        input = .exchange(expected: known.min() ?? 0, new: value)
      }
    }
    clients[client].current = (register, input, staleness, time, time + draw(1000...6000))
  }

  private mutating func giveUp(_ client: Int) {
    record(client, output: nil)
    report.unknownOperations += 1
    // It may still take effect: whoever goes on is another.
    clients[client].identity += 1 << 16
    clients[client].sequence = 0
  }

  private mutating func record(_ client: Int, output: RegisterOutput?) {
    guard let current = clients[client].current else { return }
    clients[client].current = nil
    report.operations += 1
    if isCalm && output != nil { operationsInCalm += 1 }
    // What may be old is held against the ledger where it is answered.
    if current.staleness != nil || output == nil && current.input == .read { return }
    history[Int(current.register), default: []].append(
      Operation(
        client: UInt64(client), input: current.input, output: output, invoked: current.invoked,
        completed: time))
  }

  mutating func answer(_ client: Int, _ number: UInt64, _ reply: ClientReply) {
    guard clients[client].attempt == number, clients[client].current != nil else { return }
    switch reply {
    case .output(let output):
      record(client, output: output)
      clients[client].attempt += 1
      queue.add(
        .client(client, number: clients[client].attempt), at: time + draw(1...style.longestThought))
    case .tryElsewhere(let node):
      clients[client].target = node
      clients[client].attempt += 1
      queue.add(.client(client, number: clients[client].attempt), at: time + draw(5...60))
    }
  }

  /// All that clients did is on record, and what was not answered stays open.
  mutating func closeHistories() {
    for client in clients.indices where clients[client].current != nil { giveUp(client) }
  }

  // MARK: at the node

  mutating func serve(_ request: ClientRequest, at id: NodeID) throws {
    guard let node = node(id), node.isUp else { return }
    let number = nextRequest
    nextRequest += 1
    waiting[number] = Waiting(request: request, node: id, incarnation: node.incarnation)
    if let staleness = request.staleness {
      try readStale(number, noOlderThan: staleness, at: node)
    } else if request.input == .read && configuration.mutant == .answersReadsUnasked
      && node.raft!.role == .leader
    {
      read(number, at: node)
    } else if request.input == .read {
      try step(node, .read(id: number))
    } else {
      let command = RegisterCommand(
        client: request.identity, sequence: request.sequence, register: request.register,
        input: request.input)
      try propose(number, command.encoded(), at: node)
    }
  }

  /// A follower answers from what it has, if it can tell how old that is.
  private mutating func readStale(
    _ number: UInt64, noOlderThan bound: UInt64, at node: SimulatedNode
  ) throws {
    guard node.role == .data, let (ticks, index) = node.raft!.staleness(at: node.clock(time)),
      ticks <= bound, node.machine.base.position.index >= index
    else {
      reply(number, .tryElsewhere(nil), from: node)
      return
    }
    report.staleReads += 1
    // Its clock may be slow, by no more than clocks are allowed to be.
    let oldest = time - min(time, ticks + ticks / 20 + 2)
    guard ledger.includes(index, committedBy: oldest) else {
      throw violation(
        .staleness,
        "\(node.id) says that \(index) is all that was committed \(ticks) ticks ago, which is not so"
      )
    }
    read(number, at: node)
  }

  /// For whoever believes to lead: work that nobody waits for, so that a leader that is cut off has a log of its own.
  mutating func proposeBallast() throws {
    guard !isCalm else { return }
    queue.add(.ballast, at: time + draw(1...(2 * style.ballast)))
    for node in nodes where node.isUp && node.replica!.raft.role == .leader {
      let number = nextRequest
      nextRequest += 1
      let command = RegisterCommand(
        client: 1 << 63, sequence: number, register: 1 << 63, input: .write(number))
      try propose(number, command.encoded(), at: node)
    }
  }

  private mutating func reply(_ number: UInt64, _ reply: ClientReply, from node: SimulatedNode) {
    guard let waiting = waiting.removeValue(forKey: number),
      waiting.incarnation == node.incarnation, !chance(network.loss)
    else { return }
    queue.add(
      .reply(client: waiting.request.client, number: waiting.request.number, reply),
      at: time + draw(0...network.longestDelay))
  }

  mutating func finish(_ number: UInt64, _ output: RegisterOutput?, at node: SimulatedNode) {
    // A later command of the client was applied before: nobody waits for this one any more.
    guard let output else {
      waiting[number] = nil
      return
    }
    reply(number, .output(output), from: node)
  }

  mutating func read(_ number: UInt64, at node: SimulatedNode) {
    guard let register = waiting[number]?.request.register else { return }
    reply(number, .output(.value(node.machine.value(of: register))), from: node)
  }

  mutating func fail(_ number: UInt64, _ failure: Replica.Failure, at node: SimulatedNode) {
    var hint: NodeID?
    if case .refused(.notLeader(let leadership)) = failure, leadership.leader != node.id {
      hint = leadership.leader
    }
    reply(number, .tryElsewhere(hint), from: node)
  }
}
