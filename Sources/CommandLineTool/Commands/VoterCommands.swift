import ArgumentParser
import Base
import Messages
import RPC

struct NodeMastersCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "masters",
    abstract: "List the masters and the witness: who leads, and how far the others are.",
    discussion: """
      EXAMPLE
        sfmedir node masters

      JSON: a line {"type":"voter"} for each with node, role, address, leads, leaving, durable_index, \
      behind, silent_milliseconds; then one {"type":"consensus"} with leader, term, commit_index, \
      applied_index, log_bytes, alarm.

      Exit codes: 0; 69 no master leads; see docs/command-line.md.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  func execute(_ output: Output) async throws -> ExitStatus {
    let leader = try await LeaderCalls(try await connection.connect(output), connection.timeouts)
    VoterReport.show(leader.status, to: output)
    return .success
  }
}

struct NodeTransferCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "transfer",
    abstract: "Let another master lead, for instance before this one is stopped.",
    discussion: """
      Writes wait for some milliseconds meanwhile; none is lost.

      EXAMPLE
        sfmedir node transfer
        sfmedir node transfer mcs-2

      JSON: one line {"type":"consensus"} with the keys of 'sfmedir node masters'.

      Exit codes: 0; 66 no such master; 69 no master leads; 75 nobody has taken over; see docs/command-line.md.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  @Argument(help: "The master that shall lead (default: any other).") var master: String?

  func execute(_ output: Output) async throws -> ExitStatus {
    let leader = try await LeaderCalls(try await connection.connect(output), connection.timeouts)
    if let master, leader.status.leader == master {
      output.emit(VoterReport.line(of: leader.status))
      output.print("\(master) leads already")
      return .success
    }
    var request = TransferLeadershipRequest()
    request.to = master ?? ""
    let began = SystemClock().monotonicNanoseconds()
    let status = try await leader.call(
      ConsensusMethods.transferLeadership, request, during: "handing over")
    let milliseconds = (SystemClock().monotonicNanoseconds() - began) / 1_000_000
    output.emit(VoterReport.line(of: status))
    output.print("\(status.leader) leads now, after \(milliseconds) ms")
    return .success
  }
}

/// Calls to the master that leads, on its own channel: what concerns the consensus each node answers for itself.
struct LeaderCalls: Sendable {
  let status: ConsensusStatusReply
  private let channel: Channel
  /// Closes its channels when it goes.
  private let cluster: ClusterConnection
  private let timeouts: CallTimeouts

  /// Asks all masters who leads, also one that only they know.
  init(_ cluster: ClusterConnection, _ timeouts: CallTimeouts) async throws {
    self.timeouts = timeouts
    self.cluster = cluster
    // Whoever answers this leads, after an election where one is under way.
    _ = try await MasterCalls(cluster, timeouts).call(
      MasterCloudMethods.listOwners, Empty(), during: "looking for the master that leads")
    let answers = await Self.ask(
      cluster.configuration.masters.map { ($0.address, $0.node) }, cluster, timeouts)
    let known = answers.compactMap { try? $0.get() }
    if let found = known.first(where: Self.leads) {
      (status, channel) = found
      return
    }
    let members = known.max { $0.status.commitIndex < $1.status.commitIndex }?.status.members ?? []
    let others = members.filter { !$0.witness }.compactMap { member in
      Address(member.address).map { ($0, Optional(member.node)) }
    }
    let more = await Self.ask(others, cluster, timeouts)
    guard let found = more.compactMap({ try? $0.get() }).first(where: Self.leads) else {
      let problems = (answers + more).compactMap { answer in
        if case .failure(let error) = answer { error.message } else { nil }
      }
      throw CommandFailure(
        .unavailable,
        problems.isEmpty
          ? "no master leads" : "no master leads: \(problems.joined(separator: "; "))",
        advice: "'sfmedir status' shows which masters answer")
    }
    (status, channel) = found
  }

  private typealias Answer = (status: ConsensusStatusReply, channel: Channel)

  private static func leads(_ answer: Answer) -> Bool {
    answer.status.leader == answer.status.node
  }

  /// All at once: one that is silent must not hold up the others.
  private static func ask(
    _ masters: [(Address, String?)], _ cluster: ClusterConnection, _ timeouts: CallTimeouts
  ) async -> [Result<Answer, RPCError>] {
    await withTaskGroup(of: (Int, Result<Answer, RPCError>).self) { group in
      for (number, master) in masters.enumerated() {
        group.addTask {
          let channel = cluster.channel(to: master.0, role: .master, node: master.1)
          do throws(RPCError) {
            let status = try await channel.unary(
              ConsensusMethods.consensusStatus, Empty(),
              CallOptions(timeout: min(timeouts.small, patience)))
            return (number, .success((status, channel)))
          } catch { return (number, .failure(error)) }
        }
      }
      return await group.reduce(into: []) { $0.append($1) }.sorted { $0.0 < $1.0 }.map(\.1)
    }
  }

  private static let patience = Duration.seconds(3)

  func call<Request, Reply>(
    _ method: Method<Request, Reply>, _ request: Request, during action: String
  ) async throws -> Reply {
    do {
      return try await channel.unary(method, request, CallOptions(timeout: timeouts.small))
    } catch {
      var failure = CommandFailure(error, during: action)
      switch error.reason {
      case "NoSuchMaster", "NoSuchMember":
        failure.advice = "'sfmedir node masters' lists the masters and the witness"
      case "Leads": failure.advice = "'sfmedir node transfer' lets another master lead"
      default: break
      }
      throw failure
    }
  }
}

/// The masters and the witness, as the leader sees them.
enum VoterReport {
  static func show(_ status: ConsensusStatusReply, to output: Output) {
    var table = Table([
      .init("node"), .init("role"), .init("address"), .init("state"), .init("behind", .right),
      .init("last heard", .right),
    ])
    for member in status.members {
      let behind = status.lastIndex - min(member.match, status.lastIndex)
      output.emit([
        "type": "voter", "node": .string(member.node),
        "role": .string(member.witness ? "witness" : "mcs"), "address": .string(member.address),
        "leads": .bool(member.leader), "leaving": .bool(member.leaving),
        "durable_index": JSONValue(member.match), "behind": JSONValue(behind),
        "silent_milliseconds": JSONValue(member.millisecondsSinceHeard),
      ])
      table.add([
        member.node, member.witness ? "witness" : "master", member.address, state(of: member),
        "\(behind)", member.leader ? "-" : "\(member.millisecondsSinceHeard) ms ago",
      ])
    }
    output.emit(line(of: status))
    output.print(table)
    output.print("term \(status.term), \(status.commitIndex) entries committed")
    if !status.alarm.isEmpty { output.print(output.styled(printable(status.alarm), .red)) }
  }

  /// Three heartbeats of the usual settings, and some: shorter silences are no news.
  private static let silenceMilliseconds: UInt64 = 1000

  private static func state(of member: MemberHealth) -> String {
    if member.leaving { return "is being replaced" }
    if member.leader { return "leads" }
    return member.millisecondsSinceHeard < silenceMilliseconds ? "follows" : "silent"
  }

  static func line(of status: ConsensusStatusReply) -> JSONObject {
    [
      "type": "consensus", "leader": .string(status.leader), "term": JSONValue(status.term),
      "commit_index": JSONValue(status.commitIndex),
      "applied_index": JSONValue(status.appliedIndex), "log_bytes": JSONValue(status.logBytes),
      "alarm": .string(status.alarm),
    ]
  }
}
