import Glibc

/// A process that cannot be mistaken for another with the same number.
public struct ProcessIdentity: Sendable, Equatable {
  public let pid: pid_t
  /// Clock ticks from the machine's start to the process's (field 22 of /proc/PID/stat).
  public let startTicks: UInt64
  /// The kernel's name for this run of the machine.
  public let bootID: String

  public var json: JSONObject {
    [
      "pid": JSONValue(pid), "start_ticks": JSONValue(startTicks), "boot_id": .string(bootID),
    ]
  }

  public init(pid: pid_t, startTicks: UInt64, bootID: String) {
    self.pid = pid
    self.startTicks = startTicks
    self.bootID = bootID
  }

  public init?(_ object: JSONObject) {
    // 1 is never ours, and 0 or less would mean whole groups to kill(2).
    guard let pid = object.integer("pid").flatMap(pid_t.init(exactly:)), pid > 1,
      let ticks = object.integer("start_ticks").flatMap(UInt64.init(exactly:)),
      let bootID = object.string("boot_id")
    else { return nil }
    self.init(pid: pid, startTicks: ticks, bootID: bootID)
  }
}

/// What /proc says about processes.
enum ProcessTable {
  /// State letter and start of a /proc/PID/stat line. The command's name may hold spaces and
  /// brackets, so fields are counted from its last closing bracket.
  static func parse(stat line: String) -> (state: Character, startTicks: UInt64)? {
    guard let bracket = line.lastIndex(of: ")") else { return nil }
    let fields = line[line.index(after: bracket)...].split(separator: " ")
    // The state is field 3 of the line, the start field 22.
    guard fields.count > 19, let state = fields[0].first, let ticks = UInt64(fields[19]) else {
      return nil
    }
    return (state, ticks)
  }

  /// Processors of this machine.
  static var processorCount: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }

  /// Files in /proc say 0 for their size, so they are read until they end.
  static func text(_ path: String) throws(FileError) -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError("open", path) }
    defer { close(descriptor) }
    var text: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while text.count < 1 << 20 {
      let got = read(descriptor, &buffer, buffer.count)
      if got < 0 && errno == EINTR { continue }
      guard got >= 0 else { throw FileError("read", path) }
      if got == 0 { break }
      text += buffer[..<got]
    }
    return String(decoding: text, as: UTF8.self)
  }

  static func bootID() -> String {
    let text = (try? text("/proc/sys/kernel/random/boot_id")) ?? ""
    return String(text.prefix { !$0.isWhitespace })
  }

  /// Nil where there is no such process, or only what a dead one leaves until its parent asks.
  static func identity(of pid: pid_t) -> ProcessIdentity? {
    guard let line = try? text("/proc/\(pid)/stat"), let (state, ticks) = parse(stat: line),
      state != "Z", state != "X"
    else { return nil }
    return ProcessIdentity(pid: pid, startTicks: ticks, bootID: bootID())
  }

  static func isRunning(_ process: ProcessIdentity) -> Bool {
    // A child of this very command is taken leave of here; others have another parent.
    var status: Int32 = 0
    _ = waitpid(process.pid, &status, WNOHANG)
    return identity(of: process.pid) == process
  }

  /// Sends a signal to this process and no other.
  static func signal(_ process: ProcessIdentity, _ number: Int32) throws(FileError) {
    guard isRunning(process) else { return }
    guard kill(process.pid, number) == 0 || errno == ESRCH else {
      throw FileError("signal", "process \(process.pid)")
    }
  }
}
