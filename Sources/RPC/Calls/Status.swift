import Messages

/// gRPC's status codes, with their numbers.
public enum StatusCode: UInt32, Sendable, CaseIterable, CustomStringConvertible {
  case ok = 0
  case cancelled = 1
  case unknown = 2
  case invalidArgument = 3
  case deadlineExceeded = 4
  case notFound = 5
  case alreadyExists = 6
  case permissionDenied = 7
  case resourceExhausted = 8
  case failedPrecondition = 9
  case aborted = 10
  case outOfRange = 11
  case unimplemented = 12
  case internalError = 13
  case unavailable = 14
  case dataLoss = 15
  case unauthenticated = 16

  public var description: String {
    switch self {
    case .ok: "OK"
    case .cancelled: "CANCELLED"
    case .unknown: "UNKNOWN"
    case .invalidArgument: "INVALID_ARGUMENT"
    case .deadlineExceeded: "DEADLINE_EXCEEDED"
    case .notFound: "NOT_FOUND"
    case .alreadyExists: "ALREADY_EXISTS"
    case .permissionDenied: "PERMISSION_DENIED"
    case .resourceExhausted: "RESOURCE_EXHAUSTED"
    case .failedPrecondition: "FAILED_PRECONDITION"
    case .aborted: "ABORTED"
    case .outOfRange: "OUT_OF_RANGE"
    case .unimplemented: "UNIMPLEMENTED"
    case .internalError: "INTERNAL"
    case .unavailable: "UNAVAILABLE"
    case .dataLoss: "DATA_LOSS"
    case .unauthenticated: "UNAUTHENTICATED"
    }
  }
}

/// How a call failed: gRPC's code, a sentence for people, and the domain's own name of the error.
public struct RPCError: Error, Equatable, Sendable, CustomStringConvertible {
  public var code: StatusCode
  public var message: String
  /// For programs, stable, for instance "NotEnoughShadows"; empty where the code says it all.
  public var reason: String
  /// Typed messages for programs; the wire carries at most 16 of them and 8 KiB.
  public var details: [MetadataEntry]
  var standing = Standing.plain

  public init(
    _ code: StatusCode, _ message: String, reason: String = "", details: [MetadataEntry] = []
  ) {
    self.code = code
    self.message = message
    self.reason = reason
    self.details = details
  }

  /// How an error came about is no part of what it says.
  public static func == (left: RPCError, right: RPCError) -> Bool {
    left.code == right.code && left.message == right.message && left.reason == right.reason
      && left.details == right.details
  }

  public var description: String {
    reason.isEmpty ? "\(code): \(message)" : "\(code) (\(reason)): \(message)"
  }
}

/// A domain error that knows its status code; a handler that throws one answers with it.
public protocol RPCErrorConvertible: Error {
  var rpcError: RPCError { get }
}

extension RPCError {
  /// What a handler's error becomes on the wire. An unknown error is our bug or the machine's trouble:
  /// its text stays in the log of the server.
  public init(answering error: any Error) {
    switch error {
    case let error as RPCError: self = error
    case let error as any RPCErrorConvertible: self = error.rpcError
    case is CancellationError: self = RPCError(.cancelled, "the call was cancelled")
    default: self = RPCError(.internalError, "internal error; the server's log has the details")
    }
  }
}
