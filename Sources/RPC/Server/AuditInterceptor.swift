import Base
import Logging
import Messages

/// One line in a log for each call that may change something, and for each that was refused: who, what, when,
/// how it ended. Its messages begin with "audit:".
///
/// A flood of calls leaves lines out, counted and said so; refusals, which strangers can cause, have an
/// allowance of their own and so push out no line about a change.
public final class AuditInterceptor: ServerInterceptor {
  private let logger: Logger
  private let changes: LineAllowance
  private let refusals: LineAllowance

  /// Lines at once and in the long run: at about 350 bytes a line, 1.6 GB a day at the very most.
  static let changesAtOnce = 2000
  static let changesPerSecond = 50.0
  static let refusalsAtOnce = 200
  static let refusalsPerSecond = 5.0

  /// - Parameter logger: its lines are notices, and warnings where lines are left out.
  public init(logger: Logger, clock: any Clock = SystemClock()) {
    self.logger = logger
    changes = LineAllowance(
      burst: Self.changesAtOnce, perSecond: Self.changesPerSecond, clock: clock)
    refusals = LineAllowance(
      burst: Self.refusalsAtOnce, perSecond: Self.refusalsPerSecond, clock: clock)
  }

  public func begins(_ context: CallContext) throws(RPCError) {}

  public func ended(_ context: CallContext, _ record: CallRecord) {
    let isRefusal = record.status == .permissionDenied || record.status == .unauthenticated
    guard isRefusal || context.idempotency != .noSideEffects, isGranted(isRefusal) else { return }
    var metadata = Self.metadata(context.method, context.caller, context.trace)
    metadata["status"] = "\(record.status)"
    if !record.reason.isEmpty { metadata["reason"] = "\(record.reason.shortened(toBytes: 64))" }
    metadata["duration_us"] = "\(record.durationNanoseconds / 1000)"
    metadata["received_bytes"] = "\(record.receivedBytes)"
    metadata["sent_bytes"] = "\(record.sentBytes)"
    logger.notice(isRefusal ? "audit: call refused" : "audit: call", metadata: metadata)
  }

  public func refused(_ call: RefusedCall) {
    guard isGranted(true) else { return }
    var metadata = Self.metadata(call.method, call.caller, call.trace)
    metadata["status"] = "\(call.error.code)"
    metadata["reason"] = "\(call.error.message.shortened(toBytes: 200))"
    logger.notice("audit: call refused", metadata: metadata)
  }

  private static func metadata(
    _ method: String, _ caller: Identity?, _ trace: TraceContext?
  ) -> Logger.Metadata {
    var metadata: Logger.Metadata = [
      "method": "\(method)", "caller": "\(caller?.uri ?? "stranger")",
    ]
    if let trace { metadata["trace"] = "\(trace.traceIDText)" }
    return metadata
  }

  private func isGranted(_ isRefusal: Bool) -> Bool {
    let allowance = isRefusal ? refusals : changes
    let kind = isRefusal ? "refusals" : "changes"
    switch allowance.take() {
    case .granted(let leftOut):
      if leftOut > 0 {
        logger.warning(
          "audit: lines were left out", metadata: ["of": "\(kind)", "count": "\(leftOut)"])
      }
      return true
    case .leftOut(let isFirst):
      if isFirst {
        logger.warning(
          "audit: too many calls, lines are left out from here on",
          metadata: ["of": "\(kind)", "per_second": "\(allowance.perSecond)"])
      }
      return false
    }
  }
}
