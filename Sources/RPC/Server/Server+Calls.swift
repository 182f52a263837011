import Base
import Logging
import Messages

/// How a server takes calls: who may, how much at once, who hears of them.
extension Server {
  /// - Parameter full: why the connection takes no more calls, where it takes none.
  func begin(
    _ stream: Stream, _ start: RequestStart, _ full: RPCError?, on connection: Connection
  ) {
    let entry = routes.find(start.method)
    if let refusal = full ?? refusal(entry, start, connection.peer) {
      note(refusal, start, connection.peer)
      connection.finish(stream, refusal)
      return
    }
    guard let entry else { preconditionFailure("an unknown method was not refused") }
    let now = connection.loop.nowNanoseconds()
    let deadline = now + start.timeoutMicroseconds * 1000
    let context = CallContext(
      method: entry.route.name, caller: connection.peer, deadlineNanoseconds: deadline,
      arrivalNanoseconds: now, metadata: start.metadata,
      idempotency: entry.route.idempotency, loop: connection.loop)
    for (index, interceptor) in configuration.interceptors.enumerated() {
      do throws(RPCError) {
        try interceptor.begins(context)
      } catch {
        // Those before it have seen the call begin.
        end(context, error, interceptors: index)
        connection.finish(stream, error)
        return
      }
    }
    methodMetrics.began(entry.index)
    connection.setDeadline(of: stream, deadline)
    entry.route.start(stream, context, self, entry.index)
  }

  private func note(_ refusal: RPCError, _ start: RequestStart, _ caller: Identity?) {
    let counter = countRefusal(refusal)
    if !configuration.interceptors.isEmpty {
      let call = RefusedCall(
        method: Self.text(start.method), caller: caller, error: refusal, metadata: start.metadata)
      for interceptor in configuration.interceptors { interceptor.refused(call) }
    }
    guard refusal.code == .permissionDenied || refusal.code == .unauthenticated else { return }
    log(
      .warning, "call refused",
      [
        "method": "\(Self.text(start.method))",
        "reason": "\(refusal.message.shortened(toBytes: 200))",
        "caller": "\(caller?.uri ?? "none")", "counter": "\(counter)",
      ])
  }

  /// Counts a call that was turned away; returns the counter's name.
  @discardableResult
  func countRefusal(_ refusal: RPCError) -> String {
    let counter = "Call" + (refusal.reason.isEmpty ? "Refused" : refusal.reason)
    counters.count(counter)
    return counter
  }

  /// What strangers can cause as often as they like.
  func log(
    _ level: Logger.Level, _ message: Logger.Message, _ metadata: [String: Logger.MetadataValue]
  ) {
    guard logger.logLevel <= level else { return }
    let kind = "\(message) \(metadata["counter"].map { "\($0)" } ?? "")"
    guard case .granted(let held) = limiter.take(kind) else { return }
    var metadata = metadata
    if held > 0 { metadata["left-out-before"] = "\(held)" }
    logger.log(level: level, message, metadata: metadata)
  }

  private static func text(_ method: UnsafeRawBufferPointer) -> String {
    String(decoding: method.prefix(100), as: UTF8.self)
  }

  /// Called by every call's end, on its loop.
  func ended(_ route: Int, _ context: CallContext, _ record: CallRecord) {
    methodMetrics.ended(
      route, status: record.status, durationNanoseconds: record.durationNanoseconds,
      receivedBytes: record.receivedBytes, sentBytes: record.sentBytes)
    for interceptor in configuration.interceptors.reversed() {
      interceptor.ended(context, record)
    }
  }

  private func end(_ context: CallContext, _ error: RPCError, interceptors count: Int) {
    let record = CallRecord(
      status: error.code, reason: error.reason, durationNanoseconds: 0, receivedBytes: 0,
      sentBytes: 0)
    for interceptor in configuration.interceptors[..<count].reversed() {
      interceptor.ended(context, record)
    }
  }

  func logHandlerFailure(_ context: CallContext, _ error: any Error) {
    var metadata: Logger.Metadata = ["method": "\(context.method)", "error": "\(error)"]
    if let trace = context.trace { metadata["trace"] = "\(trace.traceIDText)" }
    logger.error("handler failed", metadata: metadata)
  }

  private func refusal(
    _ entry: RouteTable.Entry?, _ start: RequestStart, _ caller: Identity?
  ) -> RPCError? {
    guard let entry, entry.allows(caller) else {
      return refusalOfStranger(entry, Self.text(start.method), caller)
    }
    guard start.timeoutMicroseconds > 0 else {
      return RPCError(.invalidArgument, "every call has a deadline")
    }
    guard start.timeoutMicroseconds / 1000 <= configuration.limits.maximumTimeoutMilliseconds
    else {
      return RPCError(.invalidArgument, "the deadline is too far away")
    }
    if !start.metadata.isEmpty {
      let metadataBytes = start.metadata.reduce(0) { $0 + $1.key.utf8.count + $1.value.count }
      guard start.metadata.count <= ConnectionLimits.maximumMetadataEntries,
        metadataBytes <= ConnectionLimits.maximumMetadataBytes
      else {
        return RPCError(.resourceExhausted, "\(metadataBytes) bytes of metadata are too many")
      }
    }
    return refusalOfLoad(route: entry.index)
  }

  /// Asked when a header comes, and again when a unary request is whole: only then its handler begins.
  func refusalOfLoad(route: Int) -> RPCError? {
    if routes.isEssential(route) { return nil }
    if load.runningCalls >= configuration.maximumRunningCalls
      || load.unreadBytes + load.waitingBytes >= configuration.maximumUnreadBytes
    {
      return RPCError(
        .resourceExhausted, "the server has more to do than it takes on", reason: "Overloaded"
      ).asRefusal
    }
    return nil
  }

  /// Unknown methods are told from forbidden ones only to those who may call something here.
  private func refusalOfStranger(
    _ entry: RouteTable.Entry?, _ method: String, _ caller: Identity?
  ) -> RPCError? {
    if entry == nil && caller != nil {
      return RPCError(.unimplemented, "this server does not know \(method)").asRefusal
    }
    return configuration.permissions.refusal(of: method, to: caller)?.asRefusal
      ?? RPCError(.permissionDenied, "\(method) is not for this caller").asRefusal
  }
}
