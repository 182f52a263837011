import Glibc

/// The processes of a cluster on one machine, remembered in `DIR/run`.
struct DevProcesses: Sendable {
  let folder: DevFolder
  let executableDirectory: String

  func executable(_ node: DevNode) -> String { "\(executableDirectory)/\(node.executableName)" }

  /// Throws unless every daemon's program is there.
  func checkExecutables(_ nodes: [DevNode]) throws {
    let missing = Set(nodes.map(executable)).filter { access($0, X_OK) != 0 }.sorted()
    guard let first = missing.first else { return }
    throw CommandFailure(
      .notFound, "\(missing.joined(separator: ", ")) cannot be run",
      advice: "build the daemons so that they lie beside sfmedir: "
        + "swift build --product \(Files.lastComponent(of: first))")
  }

  /// Nil where the node does not run.
  func running(_ node: DevNode) -> ProcessIdentity? {
    guard let bytes = try? Files.contents(of: folder.processFile(node.name), limitBytes: 4096),
      let value = try? JSONValue(parsing: String(decoding: bytes, as: UTF8.self)),
      case .object(let object) = value, let process = ProcessIdentity(object),
      ProcessTable.isRunning(process)
    else { return nil }
    return process
  }

  func start(_ node: DevNode) throws(FileError) -> ProcessIdentity {
    let process = try Spawn.daemon(
      executable(node), ["--config", folder.configuration(node.name)] + node.arguments,
      log: folder.log(node.name))
    var object = process.json
    object["node"] = .string(node.name)
    try Files.write(Array((object.line + "\n").utf8), to: folder.processFile(node.name))
    return process
  }

  /// What became of a node that was told to stop.
  enum StopOutcome: String, Sendable {
    case notRunning = "was not running"
    case stopped
    case killed
  }

  /// SIGTERM to all, and SIGKILL to those that still run when the grace is over.
  ///
  /// Goes on when the task is cancelled: what runs must end.
  func stop(
    _ nodes: [DevNode], graceMilliseconds: Int
  ) throws(FileError) -> [(node: DevNode, outcome: StopOutcome)] {
    let processes = nodes.map { ($0, running($0)) }
    for case (_, let process?) in processes { try ProcessTable.signal(process, SIGTERM) }
    let left = waitForEnd(processes.compactMap(\.1), milliseconds: graceMilliseconds)
    for process in left { try ProcessTable.signal(process, SIGKILL) }
    // SIGKILL cannot be refused, but a process in a hanging disk read ends only with that.
    let stuck = waitForEnd(left, milliseconds: 10_000)
    if let stuck = stuck.first {
      throw FileError("end", "process \(stuck.pid)", number: ETIMEDOUT)
    }
    return processes.map { node, process in
      unlink(folder.processFile(node.name))
      guard let process else { return (node, .notRunning) }
      return (node, left.contains(process) ? .killed : .stopped)
    }
  }

  /// SIGKILL, and returns when the process is gone; false where it was not running.
  func kill(_ node: DevNode) throws(FileError) -> Bool {
    guard let process = running(node) else { return false }
    try ProcessTable.signal(process, SIGKILL)
    if !waitForEnd([process], milliseconds: 10_000).isEmpty {
      throw FileError("end", "process \(process.pid)", number: ETIMEDOUT)
    }
    unlink(folder.processFile(node.name))
    return true
  }

  /// Those that still run when the time is over.
  private func waitForEnd(
    _ processes: [ProcessIdentity], milliseconds: Int
  ) -> [ProcessIdentity] {
    let pollMilliseconds = 10
    var left = processes.filter(ProcessTable.isRunning)
    var waited = 0
    while !left.isEmpty, waited < milliseconds {
      usleep(UInt32(pollMilliseconds * 1000))
      waited += pollMilliseconds
      left = left.filter(ProcessTable.isRunning)
    }
    return left
  }
}
