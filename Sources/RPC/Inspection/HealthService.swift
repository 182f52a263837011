import Base
import Messages

/// gRPC's health service (grpc.health.v1): whether this server, and each of its services, takes calls.
///
/// The empty name stands for the whole server. Everything begins as NOT_SERVING.
public final class HealthService: Sendable {
  private struct Watcher {
    let service: String
    var sent: ServingStatus?
    var waiting: UnsafeContinuation<ServingStatus?, Never>?
  }

  private struct State {
    var statuses: [String: ServingStatus]
    var isShutDown = false
    var watchers: [UInt64: Watcher] = [:]
    var lastWatcher: UInt64 = 0

    /// What a watcher is to be told: a status, nil for the end; no value where it has to wait.
    mutating func news(for id: UInt64) -> ServingStatus?? {
      guard let watcher = watchers[id] else { return .some(nil) }
      let status = statuses[watcher.service] ?? .serviceUnknown
      if status != watcher.sent {
        watchers[id]?.sent = status
        return status
      }
      return isShutDown ? .some(nil) : nil
    }
  }

  /// A name that is longer is nobody's service, and would be kept for as long as it is watched.
  private static let longestNameBytes = 256

  private let maximumWatchers: Int
  private let state: Locked<State>

  /// - Parameters:
  ///   - services: full names, "sfmedir.v1.MasterCloud".
  ///   - maximumWatchers: more calls of Watch are refused with RESOURCE_EXHAUSTED.
  public init(services: [String] = [], maximumWatchers: Int = 256) {
    self.maximumWatchers = maximumWatchers
    let names = services + [""]
    state = Locked(
      State(statuses: Dictionary(names.map { ($0, .notServing) }, uniquingKeysWith: { $1 })))
  }

  /// Watchers learn of it; a slow one learns of the latest status only.
  ///
  /// - Parameter service: a service's full name, or empty for the whole server.
  public func set(_ status: ServingStatus, for service: String) {
    change { if !$0.isShutDown { $0.statuses[service] = status } }
  }

  /// The same status for the server and all its services.
  public func setAll(_ status: ServingStatus) {
    change { state in
      if !state.isShutDown { state.statuses = state.statuses.mapValues { _ in status } }
    }
  }

  /// Everything is NOT_SERVING from here on, whatever is set later; watches end once they have said so.
  public func shutDown() {
    change { state in
      state.statuses = state.statuses.mapValues { _ in .notServing }
      state.isShutDown = true
    }
  }

  private func change(_ body: (inout State) -> Void) {
    let due = state.withLock { state in
      body(&state)
      var due: [(UnsafeContinuation<ServingStatus?, Never>, ServingStatus?)] = []
      for (id, watcher) in state.watchers {
        guard let waiting = watcher.waiting, let news = state.news(for: id) else { continue }
        state.watchers[id]?.waiting = nil
        due.append((waiting, news))
      }
      return due
    }
    for (waiting, news) in due { waiting.resume(returning: news) }
  }

  // MARK: the methods

  func check(_ request: HealthCheckRequest) throws -> HealthCheckResponse {
    guard let status = state.withLock({ $0.statuses[request.service] }) else {
      throw RPCError(.notFound, "no service '\(request.service.prefix(100))' here")
    }
    return Self.response(status)
  }

  func watch(_ call: ServerCall<HealthCheckRequest, HealthCheckResponse>) async throws {
    let request = try await call.receiveMessage()
    guard request.service.utf8.count <= Self.longestNameBytes else {
      throw RPCError(
        .invalidArgument, "a service's name has at most \(Self.longestNameBytes) bytes")
    }
    let id = try beginWatching(request.service)
    defer { endWatching(id) }
    // An error at the end could overtake the last status, which readers drop then: the end is a good one.
    while let status = await next(id) { try await call.send(Self.response(status)) }
    try Task.checkCancellation()
  }

  private func beginWatching(_ service: String) throws(RPCError) -> UInt64 {
    let id = state.withLock { state -> UInt64? in
      guard state.watchers.count < maximumWatchers else { return nil }
      state.lastWatcher += 1
      state.watchers[state.lastWatcher] = Watcher(service: service)
      return state.lastWatcher
    }
    guard let id else {
      throw RPCError(
        .resourceExhausted, "\(maximumWatchers) calls watch already", reason: "Overloaded")
    }
    return id
  }

  private func endWatching(_ id: UInt64) {
    let watcher = state.withLock { $0.watchers.removeValue(forKey: id) }
    watcher?.waiting?.resume(returning: nil)
  }

  /// The next status to be sent; nil when the watch is over, or its caller has gone.
  private func next(_ id: UInt64) async -> ServingStatus? {
    await withTaskCancellationHandler {
      await withUnsafeContinuation { waiting in
        let news = state.withLock { state -> ServingStatus?? in
          let news = state.news(for: id)
          if news == nil { state.watchers[id]?.waiting = waiting }
          return news
        }
        if let news { waiting.resume(returning: news) }
      }
    } onCancel: {
      endWatching(id)
    }
  }

  /// Calls of Watch under way, for tests.
  var watcherCount: Int { state.withLock { $0.watchers.count } }

  private static func response(_ status: ServingStatus) -> HealthCheckResponse {
    var response = HealthCheckResponse()
    response.status = status
    return response
  }
}

extension Router {
  /// Offers gRPC's health service.
  public mutating func addHealth(_ health: HealthService) {
    unary(HealthMethods.check) { request, _ in try health.check(request) }
    streaming(HealthMethods.watch) { call in try await health.watch(call) }
  }

  /// What every daemon of the cluster has beside its own methods, which are registered before this.
  ///
  /// - Returns: the health of the services registered so far, not serving yet.
  public mutating func addHealthAndReflection() -> HealthService {
    let health = HealthService(services: services)
    addHealth(health)
    addReflection()
    return health
  }

  /// Full names of the services whose methods are registered.
  var services: [String] {
    Set(methods.compactMap { $0.split(separator: "/").first.map(String.init) }).sorted()
  }
}
