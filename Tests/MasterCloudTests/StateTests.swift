import Base
import Messages
import RPC
import Raft
import TestSupport
import Testing

@testable import MasterCloud

@Suite(.timeLimit(.minutes(2))) struct StateTests {
  /// Commands as uploads, deletions and sweeps would make them, and some that make no sense.
  private static func commands(_ entropy: SeededEntropy, count: Int) -> [LogCommand] {
    (0..<count).map { index in
      let id = [UInt8](repeating: UInt8(entropy.uniform(below: 6)), count: 16)
      let epoch = UInt32(1 + entropy.uniform(below: 5))
      var placement = ShadowPlacement()
      placement.index = 1
      placement.slave = "scs-\(entropy.uniform(below: 3))"
      placement.name = id.prefix(12) + [UInt8(epoch), 0, 0, 0]
      placement.digest = [UInt8](repeating: 1, count: 32)
      var command = LogCommand()
      command.proposedAtMilliseconds = UInt64(index)
      switch entropy.uniform(below: 9) {
      case 0:
        var begin = BeginUpload()
        (begin.imageID, begin.epoch, begin.placements) = (id, epoch, [placement])
        command.beginUpload = begin
      case 1:
        var commit = CommitUpload()
        var record = TestImage(seed: UInt64(id[0]), bytes: 10, code: UInt64(id[0])).record
        record.imageID = id
        record.owner = "mo-\(entropy.uniform(below: 2))"
        (commit.record, commit.epoch, commit.placements) = (record, epoch, [placement])
        command.commitUpload = commit
      case 2:
        var abort = AbortUpload()
        (abort.imageID, abort.epoch) = (id, epoch)
        command.abortUpload = abort
      case 3:
        var delete = DeleteImage()
        (delete.imageID, delete.owner) = (id, "mo-\(entropy.uniform(below: 2))")
        command.deleteImage = delete
      case 4:
        var begin = BeginMove()
        (begin.imageID, begin.epoch, begin.index) = (id, epoch, 1)
        (begin.oldName, begin.slave) = (placement.name, "scs-\(entropy.uniform(below: 3))")
        begin.name = id.prefix(12) + [UInt8(epoch), 1, UInt8(entropy.uniform(below: 2)), 0]
        command.beginMove = begin
      case 5:
        var commit = CommitMove()
        (commit.imageID, commit.epoch, commit.index) = (id, epoch, 1)
        commit.name = id.prefix(12) + [UInt8(epoch), 1, UInt8(entropy.uniform(below: 2)), 0]
        command.commitMove = commit
      case 6:
        var abort = AbortMove()
        (abort.imageID, abort.epoch, abort.index) = (id, epoch, 1)
        abort.name = id.prefix(12) + [UInt8(epoch), 1, UInt8(entropy.uniform(below: 2)), 0]
        command.abortMove = abort
      case 7:
        var set = SetSlaveCondition()
        set.slave = placement.slave
        set.condition = SlaveCondition(rawValue: UInt32(entropy.uniform(below: 5)))
        command.setSlaveCondition = set
      default:
        var collected = ShadowsCollected()
        (collected.slave, collected.names) = (placement.slave, [placement.name])
        command.shadowsCollected = collected
      }
      return command
    }
  }

  private static func contents(_ state: ClusterState) async throws -> [String] {
    var lines: [String] = []
    for record in try await state.records(after: [], limit: 100, owner: nil) {
      let image = try #require(try await state.image(record.imageID))
      lines.append("\(image.record.imageID.hex) \(image.epoch) \(image.placements.count)")
      #expect(!image.placements.isEmpty)
    }
    for slave in 0..<3 {
      for name in try await state.garbage(on: "scs-\(slave)", limit: 1000) {
        lines.append("garbage \(slave) \(name.hex)")
      }
    }
    lines.append("\(try await state.pendingUploads().map(\.imageID.hex).sorted())")
    lines.append("\(try await state.pendingMoves().map { "\($0)" }.sorted())")
    lines.append("\(try await state.decisions().sorted { $0.key < $1.key })")
    lines.append("\(try await state.owners())")
    lines.append("\(try await state.counts())")
    return lines
  }

  /// Batches must not matter, nor whether a replica was restarted in between.
  @Test func replicasThatApplyTheSameCommandsAgree() async throws {
    let entropy = SeededEntropy.announced()
    for _ in 0..<10 {
      let commands = Self.commands(entropy, count: 120)
      let directory = try TemporaryDirectory("state")
      let one = try ClusterState(path: directory.path("one.sqlite"))
      await one.fillIndex()
      _ = try await one.apply(commands, first: 1)
      var two = try ClusterState(path: directory.path("two.sqlite"))
      var index = 0
      while index < commands.count {
        let count = min(commands.count - index, 1 + Int(entropy.uniform(below: 20)))
        _ = try await two.apply(Array(commands[index..<index + count]), first: UInt64(index + 1))
        index += count
        // Filled a little at a time, while the state changes before and behind that place.
        if entropy.uniform(below: 3) == 0 { _ = try await two.fillMore() }
        if entropy.uniform(below: 8) == 0 {
          two = try ClusterState(path: directory.path("two.sqlite"), indexedAtOnce: 3)
        }
      }
      await two.fillIndex()
      #expect(try await Self.contents(one) == Self.contents(two))
      // The index over the state is the state's own: rebuilt or kept up, searches agree.
      let rebuilt = try ClusterState(path: directory.path("one.sqlite"))
      await rebuilt.fillIndex()
      for code in 0..<6 {
        var masked = MaskedCode()
        (masked.modelVersion, masked.indexKeyVersion, masked.bits) = ("model-a", 1, 16)
        masked.code = UInt64(code)
        let kept = try await one.search([masked], count: 20).map(\.record.imageID)
        let fresh = try await rebuilt.search([masked], count: 20).map(\.record.imageID)
        let filled = try await two.search([masked], count: 20).map(\.record.imageID)
        #expect(kept == fresh)
        #expect(filled == fresh)
        #expect(Set(kept).count == kept.count)
      }
    }
  }

  /// A shadow is never both needed and garbage.
  @Test func nothingNeededBecomesGarbage() async throws {
    let entropy = SeededEntropy.announced()
    let directory = try TemporaryDirectory("state")
    let state = try ClusterState(path: directory.path("state.sqlite"))
    for (offset, command) in Self.commands(entropy, count: 400).enumerated() {
      _ = try await state.apply([command], first: UInt64(offset + 1))
      var garbage: Set<[UInt8]> = []
      for slave in 0..<3 {
        garbage.formUnion(try await state.garbage(on: "scs-\(slave)", limit: 1000))
      }
      for record in try await state.records(after: [], limit: 100, owner: nil) {
        let image = try #require(try await state.image(record.imageID))
        for placement in image.placements { #expect(!garbage.contains(placement.name)) }
      }
      // What is kept up is what counting would find.
      let records = try await state.records(after: [], limit: 100, owner: nil)
      for usage in try await state.owners() {
        let own = records.filter { $0.owner == usage.owner }
        #expect(usage.images == UInt64(own.count))
        #expect(usage.bytes == own.reduce(0) { $0 + $1.sealedBytes })
      }
      for move in try await state.pendingMoves() { #expect(!garbage.contains(move.name)) }
    }
  }

  @Test func theLogReplaysWhatTheStateMissed() async throws {
    let directory = try TemporaryDirectory("log")
    let commands = Self.commands(SeededEntropy(seed: 4), count: 60)
    let reference = try ClusterState(path: directory.path("reference.sqlite"))
    _ = try await reference.apply(commands, first: 1)
    do {
      let state = try ClusterState(path: directory.path("first.sqlite"))
      let log = try await LoneVoter.open(directory: directory.path, state: state)
      for command in commands { _ = try await log.propose(command) }
      await log.close()
    }
    // The state is lost altogether: the log alone brings it back.
    let state = try ClusterState(path: directory.path("second.sqlite"))
    let log = try await LoneVoter.open(directory: directory.path, state: state)
    // And the first entries of two leaders.
    try await log.readBarrier()
    #expect(try await state.appliedIndex() == 62)
    #expect(try await Self.contents(state) == Self.contents(reference))
    await log.close()
  }

  @Test func proposalsAtTheSameTimeAreAllAppliedOnce() async throws {
    let directory = try TemporaryDirectory("log")
    let state = try ClusterState(path: directory.path("state.sqlite"))
    let log = try await LoneVoter.open(directory: directory.path, state: state)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for index in 0..<300 {
        group.addTask {
          var begin = BeginUpload()
          begin.imageID = []
          begin.imageID.append(bigEndian: UInt64(index))
          begin.imageID.append(bigEndian: UInt64(0))
          begin.epoch = 1
          var command = LogCommand()
          command.beginUpload = begin
          let outcome = try await log.propose(command)
          #expect(outcome.status == 0)
        }
      }
      try await group.waitForAll()
    }
    #expect(try await state.pendingUploads().count == 300)
    #expect(try await state.appliedIndex() == 301)
    await log.close()
  }

  /// Proposed twice, and given up in between: the second must not make what is about to be swept.
  @Test func aMoveThatWasGivenUpDoesNotBeginAgain() async throws {
    var stored = try await Stored()
    #expect(try await stored.begin(1, from: 1, to: "scs-3", as: 11).status == 0)
    var abort = AbortMove()
    (abort.imageID, abort.epoch, abort.index, abort.name) = (stored.id, 1, 1, Stored.name(11))
    let outcome = try await stored.apply { [abort] in $0.abortMove = abort }
    #expect(outcome.status == 0)
    #expect(try await stored.begin(1, from: 1, to: "scs-3", as: 11).reason == "MoveSwept")
    #expect(try await stored.state.pendingMoves().isEmpty)
    #expect(try await stored.begin(1, from: 1, to: "scs-3", as: 12).status == 0)
  }

  /// The answer of a deletion is lost with the leader that gave it; the next one is asked again.
  @Test func aRequestThatIsRepeatedIsAnsweredAsBefore() async throws {
    var stored = try await Stored()
    var delete = DeleteImage()
    (delete.imageID, delete.owner) = (stored.id, "mo-1")
    let client = [UInt8](repeating: 9, count: 16)
    func ask(_ sequence: UInt64, _ client: [UInt8]) async throws -> Bool {
      try await stored.apply { command in
        command.deleteImage = delete
        (command.client, command.sequence) = (client, sequence)
      }.existed
    }
    #expect(try await ask(1, client))
    #expect(try await ask(1, client))
    // Another request, another client, and one that does not say.
    #expect(try await !ask(2, client))
    #expect(try await !ask(1, [UInt8](repeating: 8, count: 16)))
    #expect(try await !ask(1, []))
    #expect(try await ask(1, client))
  }

  /// A search waits for the index, and no longer than somebody fills it.
  @Test func aSearchWaitsForTheIndex() async throws {
    let directory = try TemporaryDirectory("state")
    let commands = Self.commands(SeededEntropy(seed: 6), count: 200)
    _ = try await ClusterState(path: directory.path("state.sqlite")).apply(commands, first: 1)
    var code = MaskedCode()
    (code.modelVersion, code.indexKeyVersion, code.bits) = ("model-a", 1, 16)
    let state = try ClusterState(path: directory.path("state.sqlite"), indexedAtOnce: 1)
    #expect(await !state.canSearch)
    let searching = Task { [code] in try await state.search([code], count: 9).count }
    // One that ends before it is done leaves nobody waiting.
    let filling = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      return await state.fillIndex()
    }
    #expect(await !filling.value)
    await #expect(throws: CancellationError.self) { try await searching.value }
    #expect(await state.fillIndex())
    #expect(try await state.search([code], count: 9).count > 0)
  }

  /// A transaction that is lost takes more back than was told to nobody: what is left answers nothing, and changes nothing.
  @Test func aLostTransactionIsTheEndOfTheConnection() throws {
    let directory = try TemporaryDirectory("state")
    let path = directory.path("state.sqlite")
    func step(_ number: Int, bytes: Int) -> StateMachine.Step {
      let image = TestImage(seed: UInt64(number), bytes: 10)
      var (begin, command) = (BeginUpload(), LogCommand())
      (begin.imageID, begin.epoch, begin.owner) = (image.record.imageID, 1, "mo-1")
      var placement = ShadowPlacement()
      (placement.slave, placement.name) = ("scs-1", [UInt8](repeating: 1, count: bytes))
      begin.placements = [placement]
      command.beginUpload = begin
      return .init(entry: Entry(term: 1, payload: .command(command.encoded())), command: command)
    }
    do {
      let machine = try StateMachine(path: path)
      _ = try machine.apply([step(1, bytes: 10)], first: 1)
      try machine.settle()
      // Told to their callers, and not settled.
      _ = try machine.apply([step(2, bytes: 10)], first: 2)
      var pages: Int64 = 0
      try machine.database.query("PRAGMA page_count") {
        (row) throws(DatabaseError) in pages = row.integer(0)
      }
      try machine.database.execute("PRAGMA max_page_count = \(pages)")
      #expect(throws: DatabaseError.self) {
        try machine.apply([step(3, bytes: 10), step(4, bytes: 100_000)], first: 3)
      }
      #expect(throws: DatabaseError.self) { try machine.appliedIndex() }
      #expect(throws: DatabaseError.self) { try machine.counts() }
      #expect(throws: DatabaseError.self) { try machine.settle() }
      #expect(throws: DatabaseError.self) { try machine.checkpoint() }
      #expect(throws: DatabaseError.self) { try machine.apply([step(3, bytes: 10)], first: 3) }
    }
    // A command that cannot be applied, and SQLite that gives the transaction up over a statement outside of any command.
    do {
      let machine = try StateMachine(path: path)
      let client = [UInt8](repeating: 7, count: 16)
      _ = try machine.apply([step(2, bytes: 10)], first: 2)
      try machine.database.query(
        "INSERT INTO requests VALUES (?, 1, 1, x'ff')", [.blob(client)])
      var asked = LogCommand()
      (asked.client, asked.sequence) = (client, 1)
      let entry = Entry(term: 1, payload: .command(asked.encoded()))
      #expect(throws: DatabaseError.self) {
        try machine.apply([.init(entry: entry, command: asked)], first: 3)
      }
      #expect(throws: DatabaseError.self) { try machine.appliedIndex() }
      #expect(throws: DatabaseError.self) { try machine.settle() }
    }
    do {
      let machine = try StateMachine(path: path)
      _ = try machine.apply([step(2, bytes: 10)], first: 2)
      try machine.database.execute("PRAGMA max_page_count = 1")
      #expect(throws: DatabaseError.self) {
        try machine.database.query("INSERT INTO consensus VALUES ('large', zeroblob(100000))")
      }
      #expect(throws: DatabaseError.self) { try machine.appliedIndex() }
      #expect(throws: DatabaseError.self) { try machine.settle() }
    }
    // The log goes on from where the file is.
    let again = try StateMachine(path: path)
    #expect(try again.appliedIndex() == 1)
    _ = try again.apply([step(2, bytes: 10)], first: 2)
    #expect(try again.counts().pendingUploads == 2)
  }

  /// A state that is sent to another master says who votes, though no entry of it ever did.
  @Test func aStateTravelsWithWhoVotes() async throws {
    let directory = try TemporaryDirectory("state")
    let commands = Self.commands(SeededEntropy(seed: 6), count: 200)
    let sender = try ClusterState(path: directory.path("sender.sqlite"))
    _ = try await sender.apply(commands, first: 1)
    var base = try await sender.writeSnapshot(to: directory.path("sent"))
    #expect(base.position == Position(term: 1, index: 200))
    base.membership = Membership([
      Member(id: "mcs-1", role: .data, address: "h:1"), Member(id: "mcs-2", role: .data),
      Member(id: "witness-1", role: .witness),
    ])
    // The receiver had another past.
    let receiver = try ClusterState(path: directory.path("receiver.sqlite"))
    _ = try await receiver.apply(Array(commands.prefix(7)), first: 1)
    let sent = try directory.read("sent")
    try directory.write("other", sent)
    var wrong = base
    wrong.position.index += 1
    await #expect(throws: DatabaseError.self) {
      try await receiver.install(directory.path("other"), base: wrong)
    }
    #expect(try await receiver.appliedIndex() == 7)
    try await receiver.install(directory.path("sent"), base: base)
    // What can be found there is what the sender has, too.
    await sender.fillIndex()
    var code = MaskedCode()
    (code.modelVersion, code.indexKeyVersion, code.bits) = ("model-a", 1, 16)
    let found = try await receiver.search([code], count: 1000).map(\.record.imageID)
    #expect(try await found == sender.search([code], count: 1000).map(\.record.imageID))
    #expect(!found.isEmpty)
    #expect(try await Self.contents(receiver) == Self.contents(sender))
    #expect(try await receiver.base() == base)
    // After a restart too, and with the same future.
    let again = try ClusterState(path: directory.path("receiver.sqlite"))
    #expect(try await again.base() == base)
    #expect(try await Self.contents(again) == Self.contents(sender))
    let more = Self.commands(SeededEntropy(seed: 7), count: 120)
    _ = try await sender.apply(more, first: 201)
    _ = try await again.apply(more, first: 201)
    #expect(await again.marks().last == sender.marks().last)
    // What the log says at its beginning is taken where the state does not know better.
    try await sender.adopt(base.membership)
    #expect(try await sender.base().membership == base.membership)
    try await sender.adopt(Membership([]))
    #expect(try await sender.base().membership == base.membership)
  }

  // MARK: moves, conditions, quotas

  /// An image with shadows 1 and 2 on scs-1 and scs-2, and what applies commands to its state.
  private struct Stored {
    let directory: TemporaryDirectory
    let state: ClusterState
    let id = [UInt8](repeating: 5, count: 16)
    private var next: UInt64 = 1

    init() async throws {
      directory = try TemporaryDirectory("state")
      state = try ClusterState(path: directory.path("state.sqlite"))
      var begin = BeginUpload()
      (begin.imageID, begin.epoch, begin.owner, begin.sealedBytes) = (id, 1, "mo-1", 100)
      begin.placements = (1...2).map { index in
        var placement = ShadowPlacement()
        placement.index = UInt32(index)
        placement.slave = "scs-\(index)"
        placement.name = Self.name(index)
        placement.digest = [UInt8](repeating: 7, count: 32)
        return placement
      }
      _ = try await apply { $0.beginUpload = begin }
      var commit = CommitUpload()
      var record = TestImage(seed: 1, bytes: 100).record
      (record.imageID, record.owner) = (id, "mo-1")
      (commit.record, commit.epoch, commit.placements) = (record, 1, begin.placements)
      _ = try await apply { $0.commitUpload = commit }
    }

    static func name(_ number: Int) -> [UInt8] { [UInt8](repeating: UInt8(number), count: 16) }

    mutating func apply(_ set: (inout LogCommand) -> Void) async throws -> LogOutcome {
      var command = LogCommand()
      set(&command)
      let outcome = try await state.apply([command], first: next)[0]
      next += 1
      return outcome
    }

    mutating func begin(
      _ index: Int, from old: Int, to slave: String, as name: Int
    ) async throws -> LogOutcome {
      var begin = BeginMove()
      (begin.imageID, begin.epoch, begin.index) = (id, 1, UInt32(index))
      (begin.oldName, begin.slave, begin.name) = (Self.name(old), slave, Self.name(name))
      return try await apply { $0.beginMove = begin }
    }

    mutating func commit(_ index: Int, as name: Int) async throws -> LogOutcome {
      var commit = CommitMove()
      (commit.imageID, commit.epoch, commit.index) = (id, 1, UInt32(index))
      commit.name = Self.name(name)
      return try await apply { $0.commitMove = commit }
    }

    func places() async throws -> [String] {
      try #require(try await state.image(id)).placements.sorted { $0.index < $1.index }.map {
        "\($0.slave)/\($0.name[0])"
      }
    }
  }

  @Test func aMoveChangesThePlaceAndLeavesTheOldOneToTheSweep() async throws {
    var stored = try await Stored()
    #expect(try await stored.begin(1, from: 1, to: "scs-3", as: 11).status == 0)
    #expect(try await stored.places() == ["scs-1/1", "scs-2/2"])
    #expect(try await stored.commit(1, as: 11).status == 0)
    #expect(try await stored.places() == ["scs-3/11", "scs-2/2"])
    #expect(try await stored.state.garbage(on: "scs-1", limit: 9) == [Stored.name(1)])
    #expect(try await stored.state.pendingMoves().isEmpty)
    #expect(try await stored.state.image(stored.id)?.placements[0].digest.first == 7)
    // Once is enough.
    #expect(try await stored.commit(1, as: 11).reason == "MoveSwept")
    // From its old name it cannot move any more.
    #expect(try await stored.begin(1, from: 1, to: "scs-4", as: 12).reason == "ShadowMoved")
  }

  @Test func twoShadowsOfAnImageNeverMeet() async throws {
    var stored = try await Stored()
    #expect(try await stored.begin(1, from: 1, to: "scs-2", as: 11).reason == "SlaveTaken")
    #expect(try await stored.begin(1, from: 1, to: "scs-3", as: 11).status == 0)
    // Where one is on its way, no other may go.
    #expect(try await stored.begin(2, from: 2, to: "scs-3", as: 12).reason == "SlaveTaken")
    // To its own slave a shadow may go: the one there was bad.
    #expect(try await stored.begin(1, from: 1, to: "scs-1", as: 13).status == 0)
    // Which gave up the move before it.
    #expect(try await stored.commit(1, as: 11).reason == "MoveSwept")
    #expect(try await stored.state.garbage(on: "scs-3", limit: 9) == [Stored.name(11)])
    // It may have been written there: until it is swept the other shadow may not come.
    #expect(try await stored.begin(2, from: 2, to: "scs-3", as: 14).reason == "SlaveTaken")
    #expect(
      try await stored.state.garbage(of: stored.id, epoch: 1).map { "\($0.slave)/\($0.index)" }
        == ["scs-3/1"])
    #expect(try await stored.commit(1, as: 13).status == 0)
    #expect(try await stored.places() == ["scs-1/13", "scs-2/2"])
    var collected = ShadowsCollected()
    (collected.slave, collected.names) = ("scs-3", [Stored.name(11)])
    _ = try await stored.apply { $0.shadowsCollected = collected }
    #expect(try await stored.begin(2, from: 2, to: "scs-3", as: 14).status == 0)
  }

  @Test func movesEndWithTheirImage() async throws {
    var stored = try await Stored()
    _ = try await stored.begin(1, from: 1, to: "scs-3", as: 11)
    var delete = DeleteImage()
    (delete.imageID, delete.owner) = (stored.id, "mo-1")
    #expect(try await stored.apply { $0.deleteImage = delete }.existed)
    #expect(try await stored.state.pendingMoves().isEmpty)
    #expect(try await stored.state.garbage(on: "scs-3", limit: 9) == [Stored.name(11)])
    #expect(try await stored.commit(1, as: 11).reason == "MoveSwept")
    #expect(try await stored.begin(1, from: 1, to: "scs-3", as: 12).reason == "NoSuchImage")
    #expect(try await stored.state.counts().shadows == 0)
  }

  @Test func slavesThatAreNotActiveTakeNothing() async throws {
    var stored = try await Stored()
    for condition in [SlaveCondition.draining, .lost] {
      var set = SetSlaveCondition()
      (set.slave, set.condition) = ("scs-3", condition)
      _ = try await stored.apply { $0.setSlaveCondition = set }
      #expect(try await stored.begin(1, from: 1, to: "scs-3", as: 11).reason == "SlaveNotActive")
    }
    var set = SetSlaveCondition()
    (set.slave, set.condition) = ("scs-3", .active)
    _ = try await stored.apply { $0.setSlaveCondition = set }
    #expect(try await stored.state.decisions().isEmpty)
    #expect(try await stored.begin(1, from: 1, to: "scs-3", as: 11).status == 0)
  }

  @Test func anOwnerStoresNoMoreThanItsQuota() async throws {
    var stored = try await Stored()
    var quota = SetQuota()
    (quota.owner, quota.maximumBytes) = ("mo-1", 250)
    _ = try await stored.apply { $0.setQuota = quota }
    func begin(_ number: UInt8, _ bytes: UInt64, owner: String = "mo-1") async throws -> LogOutcome
    {
      var begin = BeginUpload()
      begin.imageID = [UInt8](repeating: number, count: 16)
      (begin.epoch, begin.owner, begin.sealedBytes) = (1, owner, bytes)
      return try await stored.apply { $0.beginUpload = begin }
    }
    // 100 are stored; those of uploads under way count too.
    #expect(try await begin(20, 151).reason == "QuotaExceeded")
    #expect(try await begin(21, 150).status == 0)
    #expect(try await begin(22, 1).reason == "QuotaExceeded")
    #expect(try await begin(23, UInt64.max).reason == "QuotaExceeded")
    #expect(try await begin(24, 1 << 40, owner: "mo-2").status == 0)
    var abort = AbortUpload()
    (abort.imageID, abort.epoch) = ([UInt8](repeating: 21, count: 16), 1)
    _ = try await stored.apply { $0.abortUpload = abort }
    #expect(try await begin(22, 150).status == 0)
    let usage = try #require(try await stored.state.owners().first { $0.owner == "mo-1" })
    #expect(usage.bytes == 100 && usage.pendingBytes == 150 && usage.images == 1)
    #expect(usage.maximumBytes == 250)
    // What is stored already is stored, quota or not.
    #expect(try await begin(5, 1 << 40).existed)
    quota.maximumBytes = 0
    _ = try await stored.apply { $0.setQuota = quota }
    #expect(try await begin(25, 1 << 40).status == 0)
  }

  /// A file as the first version wrote it: its tables, made by hand.
  @Test func aStateOfTheFirstVersionIsTakenOver() async throws {
    let directory = try TemporaryDirectory("state")
    let path = directory.path("state.sqlite")
    var record = TestImage(seed: 1, bytes: 100).record
    record.imageID = [UInt8](repeating: 5, count: 16)
    record.owner = "mo-1"
    do {
      let database = try Database(path: path)
      try database.execute(
        """
        CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
        CREATE TABLE images (
          image_id BLOB PRIMARY KEY, owner TEXT NOT NULL, epoch INTEGER NOT NULL,
          record BLOB NOT NULL, encrypted_threshold BLOB NOT NULL, scheme TEXT NOT NULL,
          sealed_bytes INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE epochs (image_id BLOB PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE uploads (image_id BLOB NOT NULL, epoch INTEGER NOT NULL,
          begun_at INTEGER NOT NULL, PRIMARY KEY (image_id, epoch)) WITHOUT ROWID;
        CREATE TABLE placements (image_id BLOB NOT NULL, epoch INTEGER NOT NULL,
          shadow INTEGER NOT NULL, slave TEXT NOT NULL, name BLOB NOT NULL, digest BLOB NOT NULL,
          PRIMARY KEY (image_id, epoch, shadow)) WITHOUT ROWID;
        CREATE TABLE garbage (slave TEXT NOT NULL, name BLOB NOT NULL, PRIMARY KEY (slave, name))
          WITHOUT ROWID;
        INSERT INTO meta VALUES ('format_version', 1), ('applied_index', 7);
        """)
      try database.query(
        "INSERT INTO images VALUES (?, 'mo-1', 1, ?, x'00', 'bai', 100)",
        [.blob(record.imageID), .blob(record.encoded())])
      for shadow in 1...3 {
        try database.query(
          "INSERT INTO placements VALUES (?, 1, ?, ?, ?, x'07')",
          [
            .blob(record.imageID), .integer(Int64(shadow)), .text("scs-\(shadow)"),
            .blob(Stored.name(shadow)),
          ])
      }
      try database.query(
        "INSERT INTO uploads VALUES (?, 2, 0)", [.blob(Stored.name(9))])
    }
    for _ in 0..<2 {
      let state = try ClusterState(path: path)
      #expect(try await state.appliedIndex() == 7)
      let counts = try await state.counts()
      #expect(counts.images == 1 && counts.imageBytes == 100 && counts.shadows == 3)
      #expect(counts.pendingUploads == 1)
      #expect(try await state.owners().map(\.owner) == ["mo-1"])
      #expect(try await state.shadows(on: "scs-2", after: [], limit: 9).count == 1)
    }
    let database = try Database(path: path)
    try database.setMeta("format_version", 4)
    #expect(throws: DatabaseError.self) { try StateMachine(path: path) }
  }

  @Test func shadowsOfASlaveAreListedInPages() async throws {
    var stored = try await Stored()
    _ = try await stored.begin(1, from: 1, to: "scs-3", as: 11)
    #expect(try await stored.state.holders() == ["scs-1", "scs-2"])
    #expect(try await stored.state.shadows(on: "scs-1", after: [], limit: 5).map(\.index) == [1])
    #expect(
      try await stored.state.shadows(on: "scs-1", after: Stored.name(1), limit: 5).isEmpty)
    #expect(try await stored.state.shadow(named: Stored.name(2), on: "scs-2")?.index == 2)
    #expect(try await stored.state.shadow(named: Stored.name(2), on: "scs-1") == nil)
    // Known: what is placed, what is on its way. Not known: anything else.
    let unknown = try await stored.state.unknown([Stored.name(11), Stored.name(77)], on: "scs-3")
    #expect(unknown == [Stored.name(77)])
  }
}
