@testable import Raft

/// The commands of a transcript, one a line:
///
///     set KEY NUMBER               before `new`: heartbeat, witnessBytes, retainedBytes, step, lease (0: none), flight
///     new a b w(witness)           a group of new nodes
///     add d[(witness)]             a node that knows nobody, to be put in another's place
///     tick [a] N                   N ticks pass; all nodes are told, or one
///     run N                        N ticks pass in tens, all is heard at once, only outcomes are told
///     elect a                      time passes for a alone until it leads; only outcomes are told
///     deliver [a->b]               until nothing is left to hear, on one link if one is named
///     once [a->b]                  the oldest message
///     again a->b                   the oldest message is heard, and stays to be heard again
///     drop [a->b]                  messages are lost
///     cut a->b | cut a-b           now and from now on
///     isolate a, heal
///     hold a, persist a, free a    writes of a stay under way; the oldest ends; all end, and later ones at once
///     propose a x [N], read a      `N`: so many bytes
///     transfer a [b], replace a b by d[(witness)]
///     crash a, start a, restart a  what was not durable is lost
///     lose a N                     the last N entries vanish from the disk of a node that is down
///     nocheckpoint a, checkpoint a the state of a is durable only when it is said
///     unreachable a b              a finds nobody at b's address
///     status                       where everybody stands
struct Script {
  var group = Group()
  private var configuration = RaftConfiguration()
  private var requests: UInt64 = 0

  struct Mistake: Error, CustomStringConvertible { let description: String }

  init() {
    configuration.compactionStep = 1000
    configuration.maximumInFlight = 64
    configuration.sparesWitness = false
    group.story = Story()
  }

  static func trace(of commands: [String]) throws -> [String] {
    var script = Script()
    for line in commands { try script.perform(line) }
    return script.group.story!.lines
  }

  mutating func perform(_ line: String) throws {
    let words = line.split(separator: " ").map(String.init)
    guard let verb = words.first else {
      group.story!.say("")
      return
    }
    group.story!.say(line.hasPrefix("#") ? line : "> \(line)")
    guard !line.hasPrefix("#") else { return }
    let rest = Array(words.dropFirst())
    guard
      try administer(verb, rest) || passTime(verb, rest) || carry(verb, rest)
        || live(verb, rest)
    else { throw Mistake(description: "no such command: \(line)") }
  }

  private func node(_ words: [String], _ position: Int = 0) throws -> NodeID {
    guard words.indices.contains(position), group.nodes[NodeID(words[position])] != nil else {
      throw Mistake(description: "no such node: \(words)")
    }
    return NodeID(words[position])
  }

  private func number(_ words: [String], _ position: Int) throws -> UInt64 {
    guard words.indices.contains(position), let number = UInt64(words[position]) else {
      throw Mistake(description: "no number: \(words)")
    }
    return number
  }

  private func member(_ word: String) -> Member {
    word.hasSuffix("(witness)")
      ? Member(id: NodeID(String(word.dropLast(9))), role: .witness)
      : Member(id: NodeID(word), role: .data)
  }

  private func links(_ words: [String]) throws -> [Link] {
    guard let word = words.first else { return [] }
    let isOneWay = word.contains("->")
    let ends = word.split(separator: "-").map {
      NodeID($0.hasPrefix(">") ? String($0.dropFirst()) : String($0))
    }
    guard ends.count == 2 else { throw Mistake(description: "no such link: \(word)") }
    let link = Link(from: ends[0], to: ends[1])
    return isOneWay ? [link] : [link, Link(from: ends[1], to: ends[0])]
  }

  private mutating func administer(_ verb: String, _ words: [String]) throws -> Bool {
    switch verb {
    case "set": try set(words[0], number(words, 1))
    case "new":
      let members = words.map(member)
      for member in members { group.add(member, configuration, Membership(members)) }
    case "add": for word in words { group.add(member(word), configuration) }
    case "status": for id in group.names { group.story!.say("  " + status(of: id)) }
    case "nocheckpoint": group.nodes[try node(words)]!.checkpointsAtOnce = false
    case "checkpoint": group.checkpoint(try node(words))
    case "unreachable": group.happen(.unreachable(try node(words, 1)), to: try node(words))
    default: return false
    }
    return true
  }

  private mutating func set(_ key: String, _ value: UInt64) throws {
    switch key {
    case "heartbeat": configuration.heartbeatTicks = value
    case "witnessBytes": configuration.maximumWitnessLogBytes = value
    case "retainedBytes": configuration.retainedLogBytes = value
    case "appendBytes": configuration.maximumAppendBytes = value
    case "uncommittedBytes": configuration.maximumUncommittedBytes = value
    case "step": configuration.compactionStep = value
    case "lease": configuration.readsUseLease = value > 0
    case "flight": configuration.maximumInFlight = Int(value)
    case "seed": configuration.seed = value
    default: throw Mistake(description: "no such setting: \(key)")
    }
  }

  private func status(of id: NodeID) -> String {
    guard let raft = group.nodes[id]!.raft else { return "\(id) is down" }
    if raft.isHalted { return "\(id) has halted" }
    return "\(id) is \(group.story!.text(raft.leadership)), log \(raft.firstIndex) to "
      + "\(raft.lastPosition), commit \(raft.commit), applied \(raft.applied), of "
      + group.story!.text(raft.membership)
  }

  private mutating func passTime(_ verb: String, _ words: [String]) throws -> Bool {
    switch verb {
    case "tick":
      group.now += try number(words, words.count - 1)
      for id in words.count > 1 ? [try node(words)] : group.names {
        group.story!.head("\(id) looks at the clock")
        group.happen(.tick, to: id)
      }
    case "run":
      group.story!.detail = .outcomes
      group.run(try number(words, 0))
      group.story!.detail = .everything
    case "elect":
      let id = try node(words)
      group.story!.detail = .outcomes
      group.now += 300
      group.happen(.tick, to: id)
      group.deliverAll()
      group.now += 40
      group.happen(.tick, to: id)
      group.deliverAll()
      group.story!.detail = .everything
      guard group.raft(id).role == .leader else { throw Mistake(description: "\(id) lost") }
    default: return false
    }
    return true
  }

  private mutating func carry(_ verb: String, _ words: [String]) throws -> Bool {
    switch verb {
    case "deliver", "once", "again":
      let named = try links(words)
      func isMeant(_ parcel: Parcel) -> Bool {
        named.isEmpty || named.contains(Link(from: parcel.from, to: parcel.to))
      }
      while let position = group.pool.firstIndex(where: isMeant) {
        if verb == "again" { group.hear(group.pool[position]) } else { group.deliver(at: position) }
        if verb != "deliver" { break }
      }
    case "drop":
      let named = try links(words)
      let lost = group.pool.filter {
        named.isEmpty || named.contains(Link(from: $0.from, to: $0.to))
      }
      group.pool.removeAll { lost.contains($0) }
      for parcel in lost { group.fail(parcel) }
    case "cut": for link in try links(words) { group.cut(link.from, link.to) }
    case "isolate":
      let id = try node(words)
      for other in group.names where other != id {
        group.cut(id, other)
        group.cut(other, id)
      }
    case "heal": group.cuts = []
    case "hold": group.nodes[try node(words)]!.isDiskHeld = true
    case "persist": group.persist(try node(words))
    case "free":
      let id = try node(words)
      group.nodes[id]!.isDiskHeld = false
      group.persist(id)
    default: return false
    }
    return true
  }

  private mutating func live(_ verb: String, _ words: [String]) throws -> Bool {
    let id = try node(words)
    switch verb {
    case "propose":
      requests += 1
      let bytes =
        words.count > 2
        ? [UInt8](repeating: words[1].utf8.first!, count: Int(try number(words, 2)))
        : Array(words[1].utf8)
      group.happen(.propose(id: requests, command: bytes), to: id)
    case "read":
      requests += 1
      group.happen(.read(id: requests), to: id)
    case "transfer": group.happen(.transfer(to: words.count > 1 ? NodeID(words[1]) : nil), to: id)
    case "replace":
      guard words.count == 4, words[2] == "by" else {
        throw Mistake(description: "replace a b by d: \(words)")
      }
      requests += 1
      group.happen(
        .replace(id: requests, old: NodeID(words[1]), new: member(words[3])), to: id)
    case "crash": group.crash(id)
    case "start": group.start(id)
    case "restart":
      group.crash(id)
      group.start(id)
    case "lose":
      let count = Int(try number(words, 1))
      group.nodes[id]!.disk.entries.removeLast(count)
      let position = group.nodes[id]!.disk.lastIndex
      precondition(
        group.nodes[id]!.checkpoint.base.position.index <= position, "the state has applied that")
    default: return false
    }
    return true
  }
}
