import Logging

/// A debug line for each call whose caller has its trace recorded; with the same trace id at every role that a
/// call passes through.
public final class TracingInterceptor: ServerInterceptor {
  private let logger: Logger

  public init(logger: Logger) { self.logger = logger }

  public func begins(_ context: CallContext) throws(RPCError) {}

  public func ended(_ context: CallContext, _ record: CallRecord) {
    guard logger.logLevel <= .debug, let trace = context.trace, trace.isSampled else { return }
    logger.debug(
      "call traced",
      metadata: [
        "trace": "\(trace.traceIDText)", "span": "\(trace.spanIDText)",
        "method": "\(context.method)", "caller": "\(context.caller?.uri ?? "stranger")",
        "status": "\(record.status)", "duration_us": "\(record.durationNanoseconds / 1000)",
      ])
  }
}
