import Base
import RPC

/// Exit codes of `sfmedir`, after sysexits.h; documented in docs/command-line.md.
public enum ExitStatus: Int32, Sendable, CaseIterable {
  case success = 0
  /// The command ran, and some of its items failed.
  case someFailed = 1
  case usage = 64
  case badInput = 65
  case notFound = 66
  case unavailable = 69
  case internalError = 70
  case inputOutput = 74
  case temporary = 75
  case notPermitted = 77
  case configuration = 78
  /// As a shell reports a program that SIGINT ended.
  case interrupted = 130

  public init(_ code: StatusCode) {
    switch code {
    case .ok: self = .success
    case .invalidArgument, .outOfRange, .alreadyExists: self = .badInput
    case .notFound: self = .notFound
    case .unavailable, .failedPrecondition: self = .unavailable
    case .deadlineExceeded, .resourceExhausted, .aborted, .cancelled: self = .temporary
    case .permissionDenied, .unauthenticated: self = .notPermitted
    case .dataLoss: self = .inputOutput
    case .unknown, .unimplemented, .internalError: self = .internalError
    }
  }
}

/// Why a command ends: a sentence, what to do about it, and the exit code.
public struct CommandFailure: Error, Equatable, Sendable, CustomStringConvertible {
  public var message: String
  /// Empty where nothing can be advised.
  public var advice: String
  public var status: ExitStatus
  /// Stable, for programs: a gRPC status name, or the command line's own.
  public var code: String
  /// The domain's own name of a failed call's error, for instance "UndecodableImage"; else empty.
  public var reason = ""

  public init(_ status: ExitStatus, _ message: String, advice: String = "", code: String? = nil) {
    self.status = status
    self.message = message
    self.advice = advice
    self.code = code ?? Self.name(of: status)
  }

  /// - Parameter action: what failed, as a clause: "storing scan.dcm".
  public init(_ error: RPCError, during action: String) {
    message = "\(action): \(error.message)"
    advice = Self.advice(for: error)
    // It will not become smaller by waiting.
    status = error.reason == "ImageTooLarge" ? .badInput : ExitStatus(error.code)
    code = error.code.description
    reason = error.reason
  }

  /// The file is no picture, as the image owner judges it.
  public var isUndecodableImage: Bool { reason == "UndecodableImage" }

  /// The members that an item's line of JSON has where the item failed.
  func add(to line: inout JSONObject) {
    line["error"] = .string(message)
    line["advice"] = .string(advice)
    line["code"] = .string(code)
    line["reason"] = .string(reason)
  }

  /// Any error that a command may end with.
  public init(_ error: any Error, during action: String = "") {
    switch error {
    case let error as CommandFailure: self = error
    case let error as RPCError: self.init(error, during: action.isEmpty ? "the call" : action)
    case let error as FileError:
      self.init(
        error.exitStatus, action.isEmpty ? error.description : "\(action): \(error.description)",
        advice: error.advice)
    case let error as any RPCErrorConvertible:
      self.init(error.rpcError, during: action.isEmpty ? "the call" : action)
    case is CancellationError: self.init(.interrupted, "interrupted")
    default:
      self.init(.internalError, action.isEmpty ? "\(error)" : "\(action): \(error)")
    }
  }

  public var description: String { advice.isEmpty ? message : "\(message) (\(advice))" }

  static func name(of status: ExitStatus) -> String {
    switch status {
    case .success: "OK"
    case .someFailed: "SOME_FAILED"
    case .usage: "USAGE"
    case .badInput: "BAD_INPUT"
    case .notFound: "FILE_NOT_FOUND"
    case .unavailable: "UNAVAILABLE"
    case .internalError: "INTERNAL"
    case .inputOutput: "INPUT_OUTPUT"
    case .temporary: "TEMPORARY"
    case .notPermitted: "NOT_PERMITTED"
    case .configuration: "CONFIGURATION"
    case .interrupted: "INTERRUPTED"
    }
  }

  /// What a person can do about a failed call.
  public static func advice(for error: RPCError) -> String {
    if error.reason == "NotEnoughShadows" {
      return "too many slaves are down: 'sfmedir status' names them; start them and try again"
    }
    if error.reason == "ImageTooLarge" {
      return "'maximum_image_bytes' in the daemons' configuration is the limit"
    }
    switch error.reason {
    case "QuotaExceeded":
      return "delete images, or let an operator raise the quota: 'sfmedir quota set'"
    case "NotEnoughDomains":
      return "too few hosts, racks or zones have slaves that take shadows: 'sfmedir node list'"
    case "NotEnoughSlaves", "DiskNearlyFull":
      return
        "too few slaves take shadows: 'sfmedir status' says why; 'spare_slaves' may be too high"
    default: break
    }
    switch error.code {
    case .unavailable, .failedPrecondition:
      return "see 'sfmedir status' for what is down, start it, and run the command again"
    case .deadlineExceeded:
      return "run the command again, or give it more time with --timeout"
    case .resourceExhausted, .aborted:
      return "wait a little and run the command again"
    case .permissionDenied:
      return "this needs another role: check 'node' and 'state_directory' in the configuration"
    case .unauthenticated:
      return
        "the certificates do not fit: check 'cluster', addresses and identity in the configuration"
    case .notFound: return "'sfmedir ls --all' lists what is stored"
    case .dataLoss: return "look at the daemons' logs before trying again"
    case .unknown, .internalError: return "the log of the daemon that was called has the details"
    case .unimplemented:
      return "client and daemons are of different versions: upgrade them together"
    case .ok, .cancelled, .invalidArgument, .outOfRange, .alreadyExists: return ""
    }
  }
}
