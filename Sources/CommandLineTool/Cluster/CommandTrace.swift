import Glibc
import Messages
import RPC

/// One trace for all calls of a command, so that the logs of every role that they pass through can be put together.
struct CommandTrace: ClientInterceptor {
  private let root: TraceContext

  /// Nil where nobody asked: neither `--verbose` nor SFMEDIR_TRACE=1.
  init?(
    verbose: Bool,
    environment: (String) -> String? = { name in getenv(name).map { String(cString: $0) } }
  ) {
    guard verbose || environment("SFMEDIR_TRACE") == "1" else { return nil }
    root = .begin()
  }

  var id: String { root.traceIDText }

  func begins(_ method: String, _ options: inout CallOptions) {
    if options.trace == nil { options.trace = root.child() }
  }

  func ended(_ method: String, _ options: CallOptions, _ error: RPCError?, nanoseconds: UInt64) {}
}
