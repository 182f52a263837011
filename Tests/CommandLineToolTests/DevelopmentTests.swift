import DaemonSupport
import Foundation
import Testing

@testable import CommandLineTool

@Suite struct DevelopmentTests {
  private func plan(slaves: Int = 5, owners: Int = 1, users: Int = 1) -> DevPlan {
    let names = DevPlan.names(slaves: slaves, owners: owners, users: users)
    let nodes = names.enumerated().map { index, entry in
      DevNode(name: entry.name, role: entry.role, port: UInt16(20_000 + index))
    }
    return DevPlan(nodes: nodes, modelPath: "/m/model.safetensors")
  }

  @Test func daemonsStartBottomUpAndStopTopDown() {
    let plan = plan(slaves: 3, owners: 2)
    #expect(
      plan.nodes.map(\.name) == [
        "kce-1", "scs-1", "scs-2", "scs-3", "witness-1", "mcs-1", "mcs-2", "mo-1", "mo-2", "mu-1",
      ])
    #expect(
      plan.stopOrder.map { $0.map(\.name) } == [
        ["mo-1", "mo-2", "mu-1"], ["mcs-1", "mcs-2"], ["witness-1"],
        ["scs-1", "scs-2", "scs-3"], ["kce-1"],
      ])
    #expect(plan.stopOrder.joined().count == plan.nodes.count)
    #expect(plan.node("scs-2")?.executableName == "sfmedir-scs")
    #expect(plan.node("witness-1")?.executableName == "sfmedir-mcs")
    #expect(plan.node("witness-1")?.arguments == ["--witness"])
    #expect(plan.node("scs-9") == nil)
    let alone = DevPlan.names(slaves: 3, owners: 1, users: 1, masters: 1).map(\.name)
    #expect(alone == ["kce-1", "scs-1", "scs-2", "scs-3", "mcs-1", "mo-1", "mu-1"])
  }

  @Test func thePlanSurvivesItsFile() throws {
    let scratch = try ScratchFolder()
    let folder = DevFolder(scratch.path)
    #expect(try folder.loadPlan() == nil)
    var plan = plan()
    plan.sharing.threshold = 2
    plan.sharing.shadows = 4
    plan.isInitialised = true
    try folder.save(plan)
    #expect(try folder.loadPlan() == plan)
    for damaged in ["", "{}", "[]", plan.json.line.replacingOccurrences(of: "scs", with: "xxx/")] {
      try scratch.write(damaged, "cluster.json")
      #expect(throws: CommandFailure.self, "\(damaged)") { try folder.loadPlan() }
    }
  }

  /// Names what each file must say; the daemons' own tests check that they can read it.
  @Test func configurations() throws {
    let scratch = try ScratchFolder()
    let folder = DevFolder(scratch.path)
    try folder.create()
    let plan = plan(slaves: 3, owners: 2)
    try folder.writeConfigurations(plan)
    let master = try ConfigurationFile(path: folder.configuration("mcs-1"))
    let common = try CommonConfiguration(master)
    #expect(common.cluster == "dev")
    #expect(common.node == "mcs-1")
    #expect("\(common.listen)" == "127.0.0.1:20005")
    #expect(common.stateDirectory == folder.state("mcs-1"))
    #expect(common.keyControl.map { "\($0)" } == "127.0.0.1:20000")
    #expect(common.joinFile == folder.joinFile("mcs-1"))
    let slaves = try master.tables("slaves")
    #expect(try slaves.map { try $0.name("node") } == ["scs-1", "scs-2", "scs-3"])
    #expect(
      try slaves.map { "\(try $0.address("address"))" } == [
        "127.0.0.1:20001", "127.0.0.1:20002", "127.0.0.1:20003",
      ])
    #expect(try master.integer("spare_slaves", default: 1, in: 0...9) == 0)
    #expect(try master.masters().map(\.node) == ["mcs-1", "mcs-2"])
    let witness = try #require(try master.tables("witness").first)
    #expect(try witness.name("node") == "witness-1")
    #expect("\(try witness.address("address"))" == "127.0.0.1:20004")
    try master.finish()

    let keyControl = try ConfigurationFile(path: folder.configuration("kce-1"))
    _ = try CommonConfiguration(keyControl, needsKeyControl: false)
    #expect(try keyControl.absolutePath("seal_key_file") == folder.sealKeyFile)
    try keyControl.finish()

    let user = try ConfigurationFile(path: folder.configuration("mu-1"))
    _ = try CommonConfiguration(user)
    #expect(try user.masters().map { "\($0.address)" } == ["127.0.0.1:20005", "127.0.0.1:20006"])
    #expect(try user.absolutePath("model") == "/m/model.safetensors")
    try user.finish()

    let second = try ClientConfiguration.load(option: folder.client(2))
    #expect(second.imageOwner.map { "\($0)" } == "127.0.0.1:20008")
    #expect(second.imageUser.map { "\($0)" } == "127.0.0.1:20009")
    #expect(second.joinFile == folder.joinFile("operator-1"))
  }

  @Test func pathsWithQuotesAndSpacesComeBack() throws {
    let scratch = try ScratchFolder()
    let folder = DevFolder("\(scratch.path)/a \"b\" \\ c\u{1}")
    try folder.create()
    try folder.writeConfigurations(plan())
    let configuration = try ClientConfiguration.load(option: folder.client(1))
    #expect(configuration.stateDirectory == folder.state("operator-1"))
  }

  @Test func wipingLeavesWhatIsNotOurs() throws {
    let scratch = try ScratchFolder()
    let folder = DevFolder(scratch.path)
    try folder.create()
    try folder.save(plan())
    try folder.writeConfigurations(plan(owners: 3))
    try scratch.write("mine", "notes.txt")
    try scratch.write("mine", "cli-x.toml")
    try folder.wipe()
    #expect(try Files.names(in: scratch.path) == ["cli-x.toml", "notes.txt"])
    let own = DevFolder("\(scratch.path)/own")
    try own.create()
    try own.save(plan())
    try own.wipe()
    #expect(!Files.exists(own.path))
  }

  @Test func aSecondCommandIsKeptOut() throws {
    let scratch = try ScratchFolder()
    let folder = DevFolder(scratch.path)
    let lock = try folder.lock()
    #expect(
      performing: { try folder.lock() }, throws: { ($0 as? CommandFailure)?.status == .temporary })
    lock.release()
    _ = try folder.lock()
  }

  @Test func theLogsEnd() throws {
    let scratch = try ScratchFolder()
    let folder = DevFolder(scratch.path)
    #expect(folder.lastLogLines("a", count: 3).isEmpty)
    try scratch.write((1...5000).map { "line \($0)\n" }.joined() + "no\u{1B}end", "logs/a.log")
    #expect(folder.lastLogLines("a", count: 3) == ["line 4999", "line 5000", "no?end"])
  }
}

@Suite struct ProcessTests {
  @Test func theStatLineOfAnAwkwardName() {
    let line =
      "4242 (a) b (c)) S 1 4242 4242 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2 3"
    let parsed = ProcessTable.parse(stat: line)
    #expect(parsed?.state == "S")
    #expect(parsed?.startTicks == 987_654)
    #expect(ProcessTable.parse(stat: "4242 (a) S 1") == nil)
    #expect(ProcessTable.parse(stat: "") == nil)
  }

  @Test func aProcessOfAnotherStartIsNotOurs() throws {
    let own = try #require(ProcessTable.identity(of: getpid()))
    #expect(ProcessTable.isRunning(own))
    #expect(ProcessIdentity(own.json) == own)
    for other in [
      ProcessIdentity(pid: own.pid, startTicks: own.startTicks + 1, bootID: own.bootID),
      ProcessIdentity(pid: own.pid, startTicks: own.startTicks, bootID: "another"),
    ] {
      #expect(!ProcessTable.isRunning(other))
      // Were it mistaken for ours, this would end the test.
      try ProcessTable.signal(other, SIGKILL)
    }
    for pid in [Int64(1), 0, -1, Int64.max] {
      var object = own.json
      object["pid"] = .integer(pid)
      #expect(ProcessIdentity(object) == nil, "pid \(pid)")
    }
  }

  @Test func programsAreStartedStoppedAndReaped() throws {
    let scratch = try ScratchFolder()
    let log = "\(scratch.path)/log"
    #expect(try Spawn.run("/bin/sh", ["-c", "echo out; echo err >&2; exit 7"], log: log) == 7)
    #expect(try scratch.text("log") == "out\nerr\n")
    #expect(try Spawn.run("/bin/sh", ["-c", "kill -9 $$"], log: log) == 128 + 9)
    #expect(throws: FileError.self) { try Spawn.run("/nowhere/x", [], log: log) }
    let process = try Spawn.daemon("/bin/sleep", ["1000"], log: log)
    #expect(ProcessTable.isRunning(process))
    #expect(getsid(process.pid) == process.pid)
    try ProcessTable.signal(process, SIGTERM)
    while ProcessTable.isRunning(process) { usleep(1000) }
    // Nothing is left to wait for.
    #expect(waitpid(process.pid, nil, WNOHANG) == -1)
  }

  @Test func blockedSignalsAreNotInherited() throws {
    var blocked = sigset_t()
    sigemptyset(&blocked)
    sigaddset(&blocked, SIGTERM)
    var before = sigset_t()
    pthread_sigmask(SIG_BLOCK, &blocked, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    let scratch = try ScratchFolder()
    let status = try Spawn.run(
      "/bin/sh", ["-c", "kill -TERM $$; exit 3"], log: "\(scratch.path)/log")
    #expect(status == 128 + SIGTERM)
  }

  @Test func chosenPortsAreFreeAndDifferent() throws {
    let ports = try DevPorts.choose(12)
    #expect(Set(ports).count == 12)
    #expect(ports.allSatisfy { $0 >= 20_000 })
  }

  @Test func theModelIsFoundAboveTheProgram() throws {
    let scratch = try ScratchFolder()
    let bin = "\(scratch.path)/.build/x/debug"
    try Files.createDirectories(bin)
    try scratch.write("m", "Models/a.safetensors")
    try scratch.write("card", "Models/a.md")
    let found = try DefaultModel.find(option: nil, executableDirectory: bin)
    #expect(found == Files.absolute("\(scratch.path)/Models/a.safetensors"))
    try scratch.write("m", "Models/b.safetensors")
    #expect(throws: CommandFailure.self) {
      try DefaultModel.find(option: nil, executableDirectory: bin)
    }
    try scratch.write("m", "Models/default.safetensors")
    #expect(
      try DefaultModel.find(option: nil, executableDirectory: bin)
        == Files.absolute("\(scratch.path)/Models/default.safetensors"))
    #expect(throws: CommandFailure.self) {
      try DefaultModel.find(option: "\(scratch.path)/none", executableDirectory: bin)
    }
  }
}
