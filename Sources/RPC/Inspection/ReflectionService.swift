import Base
import CWire
import Messages

/// Tells an operator which methods a server has, of which types, and what it has counted of them.
public final class ReflectionService: Sendable {
  private struct Served {
    let methods: [String]
    let permissions: PermissionTable
    let metrics: MethodMetrics
  }

  private static let maximumNames = 64
  private let served = Locked<Served?>(nil)

  init() {}

  /// The server says what it serves: only it has the whole router and the table in force.
  func bind(methods: [String], permissions: PermissionTable, metrics: MethodMetrics) {
    served.withLock {
      $0 = Served(methods: methods, permissions: permissions, metrics: metrics)
    }
  }

  private func current() throws(RPCError) -> Served {
    guard let served = served.withLock({ $0 }) else {
      throw RPCError(.internalError, "no server has this router yet")
    }
    return served
  }

  // MARK: the methods

  func listMethods() throws(RPCError) -> ListMethodsReply {
    let served = try current()
    let compiled = Self.compiledMethods()
    var reply = ListMethodsReply()
    reply.methods = served.methods.map { name in
      var method = compiled[name] ?? Self.unknown(name)
      method.roles = served.permissions.roles(of: name).map(\.rawValue).sorted()
      method.open = served.permissions.isOpen(name)
      return method
    }
    return reply
  }

  func describeTypes(_ request: DescribeTypesRequest) throws(RPCError) -> DescribeTypesReply {
    guard (1...Self.maximumNames).contains(request.names.count) else {
      throw RPCError(
        .invalidArgument, "1 to \(Self.maximumNames) names of types, not \(request.names.count)")
    }
    return try CompiledTypes.describe(request.names)
  }

  func methodMetrics() throws(RPCError) -> MethodMetricsReply {
    var reply = MethodMetricsReply()
    reply.methods = try current().metrics.snapshot().map(Self.figures)
    return reply
  }

  // MARK: descriptions

  private static func compiledMethods() -> [String: MethodDescription] {
    var methods: [String: MethodDescription] = [:]
    for index in 0..<sfm_registered_method_count {
      let entry = sfm_registered_method_at(index).pointee
      let service = entry.service.pointee
      var method = MethodDescription()
      method.service = String(cString: service.name)
      method.name = String(cString: entry.method)
      method.clientStreams = entry.client_streams != 0
      method.serverStreams = entry.server_streams != 0
      method.idempotency = MethodIdempotency(rawValue: UInt32(entry.idempotency))
      for index in 0..<Int(service.n_methods) {
        let types = service.methods[index]
        guard String(cString: types.name) == method.name else { continue }
        method.requestType = String(cString: types.input.pointee.name)
        method.replyType = String(cString: types.output.pointee.name)
      }
      methods["\(method.service)/\(method.name)"] = method
    }
    return methods
  }

  /// A method that no schema has, which only a test would register.
  private static func unknown(_ fullName: String) -> MethodDescription {
    var method = MethodDescription()
    let parts = fullName.split(separator: "/", maxSplits: 1).map(String.init)
    method.service = parts.first ?? ""
    method.name = parts.last ?? ""
    return method
  }

  private static func figures(_ snapshot: MethodMetricsSnapshot) -> MethodFigures {
    func nanoseconds(_ microseconds: Double) -> UInt64 { UInt64((microseconds * 1000).rounded()) }
    var figures = MethodFigures()
    figures.method = snapshot.method
    figures.calls = snapshot.calls
    figures.inFlight = snapshot.inFlight
    figures.statuses = snapshot.statuses.sorted { $0.key.rawValue < $1.key.rawValue }.map {
      var count = StatusCount()
      (count.status, count.calls) = ($0.key.rawValue, $0.value)
      return count
    }
    figures.receivedBytes = snapshot.receivedBytes
    figures.sentBytes = snapshot.sentBytes
    figures.p50Nanoseconds = nanoseconds(snapshot.p50Microseconds)
    figures.p90Nanoseconds = nanoseconds(snapshot.p90Microseconds)
    figures.p99Nanoseconds = nanoseconds(snapshot.p99Microseconds)
    figures.maximumNanoseconds = nanoseconds(snapshot.maximumMicroseconds)
    return figures
  }
}

extension Router {
  /// Offers the reflection service; the server that takes this router fills it.
  public mutating func addReflection() {
    let service = ReflectionService()
    unary(ReflectionMethods.listMethods) { _, _ in try service.listMethods() }
    unary(ReflectionMethods.describeTypes) { request, _ in try service.describeTypes(request) }
    unary(ReflectionMethods.methodMetrics) { _, _ in try service.methodMetrics() }
    reflection = service
  }
}
