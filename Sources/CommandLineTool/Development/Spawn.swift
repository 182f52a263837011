import Glibc

/// Starting programs without a shell.
enum Spawn {
  // Not among the names that Swift's Glibc has (spawn.h, glibc 2.26 and later).
  private static let setSession: Int16 = 0x80

  /// The folder of the program that runs now, where its companions lie.
  static func executableDirectory() throws(FileError) -> String {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let length = buffer.withUnsafeMutableBytes {
      readlink("/proc/self/exe", $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
    }
    guard length > 0 else { throw FileError("read", "/proc/self/exe") }
    return Files.parent(of: String(decoding: buffer[..<length], as: UTF8.self))
  }

  /// Starts a program in a session of its own, so that neither Ctrl-C nor the end of the terminal
  /// reaches it; its output is appended to the log.
  static func daemon(
    _ executable: String, _ arguments: [String], log: String
  ) throws(FileError) -> ProcessIdentity {
    let pid = try start(executable, arguments, log: log, ownSession: true)
    guard let identity = ProcessTable.identity(of: pid) else {
      // It has ended already: its log says why, and the caller will look there.
      return ProcessIdentity(pid: pid, startTicks: 0, bootID: ProcessTable.bootID())
    }
    return identity
  }

  /// Runs a program to its end; its output is appended to the log.
  static func run(
    _ executable: String, _ arguments: [String], log: String
  ) throws(FileError) -> Int32 {
    let pid = try start(executable, arguments, log: log, ownSession: false)
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0 {
      guard errno == EINTR else { throw FileError("wait for", executable) }
    }
    // WIFEXITED and WEXITSTATUS are macros that Swift does not see.
    return status & 0x7F == 0 ? (status >> 8) & 0xFF : 128 + (status & 0x7F)
  }

  private static func start(
    _ executable: String, _ arguments: [String], log: String, ownSession: Bool
  ) throws(FileError) -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0o644)
    posix_spawn_file_actions_adddup2(&actions, 1, 2)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // This command blocks some signals and ignores SIGPIPE; a new program begins with none of that.
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    var usual = sigset_t()
    sigemptyset(&usual)
    for number in [SIGPIPE, SIGINT, SIGTERM, SIGHUP] { sigaddset(&usual, number) }
    posix_spawnattr_setsigdefault(&attributes, &usual)
    let flags = Int16(POSIX_SPAWN_SETSIGMASK) | Int16(POSIX_SPAWN_SETSIGDEF)
    posix_spawnattr_setflags(&attributes, ownSession ? flags | setSession : flags)
    var words = ([executable] + arguments).map { strdup($0) } + [nil]
    defer { for word in words { free(word) } }
    var pid: pid_t = 0
    let failure = posix_spawn(&pid, executable, &actions, &attributes, &words, environ)
    guard failure == 0 else { throw FileError("start", executable, number: failure) }
    return pid
  }
}
