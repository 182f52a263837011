import Glibc

/// Where everything of a cluster on one machine lies.
public struct DevFolder: Sendable, Equatable {
  /// Absolute.
  public let path: String

  public init(_ path: String) { self.path = Files.absolute(path) }

  public var planFile: String { "\(path)/cluster.json" }
  public var sealKeyFile: String { "\(path)/secrets/kce-1.seal" }
  public func configuration(_ node: String) -> String { "\(path)/config/\(node).toml" }
  public func state(_ node: String) -> String { "\(path)/state/\(node)" }
  public func joinFile(_ node: String) -> String { "\(path)/join/\(node).join" }
  public func log(_ node: String) -> String { "\(path)/logs/\(node).log" }
  public func processFile(_ node: String) -> String { "\(path)/run/\(node).json" }
  public func client(_ number: Int) -> String {
    number == 1 ? "\(path)/cli.toml" : "\(path)/cli-\(number).toml"
  }

  static let subfolders: [(name: String, mode: mode_t)] = [
    ("config", 0o755), ("logs", 0o755), ("run", 0o755), ("state", 0o700), ("join", 0o700),
    ("secrets", 0o700),
  ]

  func create() throws(FileError) {
    try Files.createDirectories(path)
    for (name, mode) in Self.subfolders {
      try Files.createDirectories("\(path)/\(name)", mode: mode)
    }
  }

  /// Nil where there is no cluster in the folder.
  func loadPlan() throws -> DevPlan? {
    guard Files.exists(planFile) else { return nil }
    let bytes = try Files.contents(of: planFile, limitBytes: 1 << 20)
    guard let value = try? JSONValue(parsing: String(decoding: bytes, as: UTF8.self)),
      case .object(let object) = value, let plan = DevPlan(object)
    else {
      throw CommandFailure(
        .badInput, "\(planFile) is damaged or of another version",
        advice: "remove the folder \(path) and begin anew")
    }
    return plan
  }

  func save(_ plan: DevPlan) throws(FileError) {
    try Files.write(Array((plan.json.line + "\n").utf8), to: planFile)
  }

  func writeConfigurations(_ plan: DevPlan) throws(FileError) {
    let text = DevConfigurationText(plan: plan, folder: self)
    for node in plan.nodes {
      try Files.write(Array(text.daemon(node).utf8), to: configuration(node.name))
    }
    for number in 1...max(plan.nodes(.imageOwner).count, plan.nodes(.imageUser).count) {
      try Files.write(Array(text.client(number).utf8), to: client(number))
    }
  }

  /// Removes what `dev` made, and the folder where nothing else is in it.
  func wipe() throws(FileError) {
    let names = try Files.names(in: path)
    for (name, _) in Self.subfolders { try Files.removeTree("\(path)/\(name)") }
    for name in names where name == "lock" || name == "cli.toml" || Self.isClientFile(name) {
      try Files.removeTree("\(path)/\(name)")
    }
    // Last: while it is there, an interrupted wipe can be repeated.
    try Files.removeTree(planFile)
    guard rmdir(path) == 0 || errno == ENOTEMPTY || errno == EEXIST else {
      throw FileError("remove", path)
    }
  }

  static func isClientFile(_ name: String) -> Bool {
    guard name.hasPrefix("cli-"), name.hasSuffix(".toml") else { return false }
    return Int(name.dropFirst(4).dropLast(5)) != nil
  }

  /// The last lines of a node's log.
  func lastLogLines(_ node: String, count: Int) -> [String] {
    guard let descriptor = Optional(open(log(node), O_RDONLY | O_CLOEXEC)), descriptor >= 0 else {
      return []
    }
    defer { close(descriptor) }
    let wanted = 64 << 10
    let end = lseek(descriptor, 0, SEEK_END)
    lseek(descriptor, max(0, end - wanted), SEEK_SET)
    var bytes = [UInt8](repeating: 0, count: wanted)
    let got = read(descriptor, &bytes, wanted)
    guard got > 0 else { return [] }
    let lines = String(decoding: bytes[..<got], as: UTF8.self).split(separator: "\n")
    return lines.suffix(count).map { printable(String($0)) }
  }

  /// Keeps a second `dev` command out of the folder until it is released.
  func lock() throws -> FolderLock { try FolderLock("\(path)/lock") }
}

/// An advisory lock, released with the process at the latest.
final class FolderLock: Sendable {
  private let descriptor: Int32

  init(_ path: String) throws {
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw FileError("create", path) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      close(descriptor)
      throw CommandFailure(
        .temporary, "another 'sfmedir dev' works on \(Files.parent(of: path))",
        advice: "wait until it has ended and run the command again")
    }
  }

  deinit { close(descriptor) }

  /// Says where the lock ends; without it the optimizer may let it go early.
  func release() {
    flock(descriptor, LOCK_UN)
  }
}
