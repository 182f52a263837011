import Base
import Messages

/// How one call is made.
public struct CallOptions: Sendable {
  public var timeout: Duration
  /// Wait for a connection until the deadline, where otherwise a failed attempt fails the call.
  public var waitsForReady = false
  public var metadata: [MetadataEntry] = []
  /// For a ``ServiceClient`` and methods without side effects; a single channel has nowhere else to go.
  public var hedging: Hedging?
  var observer: (any CallObserver)?
  /// Whether a channel takes a call that a leaving server did not begin to its next connection.
  var movesWithinChannel = true

  public init(timeout: Duration) { self.timeout = timeout }

  /// For a call made while serving another: its deadline and trace go on.
  public init(within context: CallContext, atMost limit: Duration = .seconds(3600)) {
    timeout = min(context.remaining, limit)
    if let trace = context.trace { self.trace = trace.child() }
  }

  /// The trace that the call belongs to.
  public var trace: TraceContext? {
    get { metadata.isEmpty ? nil : TraceContext(metadata) }
    set {
      metadata.removeAll {
        $0.key == TraceContext.parentKey || $0.key == TraceContext.stateKey
      }
      if let newValue { metadata += newValue.metadata }
    }
  }

  var timeoutNanoseconds: UInt64 { timeout.wholeNanoseconds }
}

/// Sees every call that a channel makes: for tracing, metrics, credentials of one's own.
///
/// ``begins(_:_:)`` runs where the caller is, for every call; ``ended(_:_:_:nanoseconds:)`` where a unary call
/// ended. Neither may wait.
public protocol ClientInterceptor: Sendable {
  /// Before anything is sent; may change how the call is made.
  func begins(_ method: String, _ options: inout CallOptions)
  /// Once for each call of ``Channel/unary(_:_:_:)``, with its outcome; nil is success.
  func ended(_ method: String, _ options: CallOptions, _ error: RPCError?, nanoseconds: UInt64)
}
