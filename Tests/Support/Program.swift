import Dispatch
import Glibc

/// How a program ended, and what it printed.
public struct ProgramOutcome: Sendable {
  public var status: Int32
  public var output: [UInt8]
  public var errors: [UInt8]
}

/// Runs a program to its end, on a thread that may block: a wait on one of Swift's own few would hold up
/// every other test.
public func runProgram(
  _ path: String, _ arguments: [String], environment: [String: String] = [:]
) async throws -> ProgramOutcome {
  try await withCheckedThrowingContinuation { continuation in
    DispatchQueue.global().async {
      continuation.resume(
        with: Result { try runProgramBlocking(path, arguments, environment: environment) })
    }
  }
}

/// Its output goes through files, so that a daemon it leaves behind cannot
/// keep the caller waiting at a pipe.
private func runProgramBlocking(
  _ path: String, _ arguments: [String], environment: [String: String]
) throws -> ProgramOutcome {
  let scratch = try TemporaryDirectory("program")
  let (output, errors) = (scratch.path("output"), scratch.path("errors"))
  var actions = posix_spawn_file_actions_t()
  posix_spawn_file_actions_init(&actions)
  defer { posix_spawn_file_actions_destroy(&actions) }
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
  posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
  posix_spawn_file_actions_addopen(&actions, 2, errors, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
  var variables: [String] = []
  var next = environ
  while let entry = next.pointee {
    let variable = String(cString: entry)
    if !environment.keys.contains(where: { variable.hasPrefix($0 + "=") }) {
      variables.append(variable)
    }
    next += 1
  }
  variables += environment.map { "\($0.key)=\($0.value)" }
  var process: pid_t = 0
  let failure = withCStrings([path] + arguments) { arguments in
    withCStrings(variables) { posix_spawn(&process, path, &actions, nil, arguments, $0) }
  }
  guard failure == 0 else { throw ProgramFailure(path: path, code: failure) }
  var state: Int32 = 0
  while waitpid(process, &state, 0) < 0 {
    guard errno == EINTR else { throw ProgramFailure(path: path, code: errno) }
  }
  // Exited: bits 8 to 15 are the status; else the low bits name the signal.
  let status = state & 0x7f == 0 ? (state >> 8) & 0xff : 128 + (state & 0x7f)
  return ProgramOutcome(
    status: status, output: try scratch.read("output"), errors: try scratch.read("errors"))
}

public struct ProgramFailure: Error, CustomStringConvertible {
  let path: String
  let code: Int32

  public var description: String { "\(path) cannot be run: error \(code)" }
}

private func withCStrings<Result>(
  _ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Result
) -> Result {
  let copies = strings.map { strdup($0) }
  defer { for copy in copies { free(copy) } }
  return body(copies + [nil])
}

/// The folder of the build's products, where the programs lie beside the tests.
public func productsFolder() -> String? {
  var buffer = [CChar](repeating: 0, count: 4096)
  let length = readlink("/proc/self/exe", &buffer, buffer.count - 1)
  let executable = String(
    decoding: buffer.prefix(max(0, length)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  for path in [executable] + CommandLine.arguments {
    guard let slash = path.lastIndex(of: "/") else { continue }
    let folder = String(path[..<slash])
    if access(folder + "/wiregen", X_OK) == 0 { return folder }
  }
  return nil
}
