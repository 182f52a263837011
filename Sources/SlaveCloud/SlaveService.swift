import Base
import Logging
import Messages
import RPC
import SegmentStore

/// A slave: opaque shadows under random names, in append-only segments.
///
/// It knows neither keys nor thresholds, nor which shadows belong together: the master strips a
/// shadow's header before sending it.
public final class SlaveService: Sendable {
  private let node: String
  private let directory: String
  private let disk: any Disk
  private let keeper: StoreKeeper
  private let caretaker: Caretaker
  private let care = Locked<Task<Void, Never>?>(nil)
  private let maximumShadowBytes: Int
  private let reserveBytes: UInt64
  private let logger: Logger

  public static let nameBytes = 16
  private static let maximumListed = 10_000

  /// Opens the segments; those without hints are read. Care for them begins with ``startCare()``.
  public init(
    node: String, directory: String, disk: any Disk = SystemDisk(),
    configuration: SegmentStoreConfiguration, care: CareConfiguration = CareConfiguration(),
    logger: Logger
  ) throws {
    self.node = node
    self.directory = directory
    self.disk = disk
    self.logger = logger
    maximumShadowBytes = configuration.maximumPayloadSizeBytes
    keeper = try StoreKeeper(
      directory: directory, disk: disk, configuration: configuration, logger: logger)
    reserveBytes = care.reserveBytes
    caretaker = Caretaker(keeper: keeper, configuration: care, logger: logger)
  }

  private var store: SegmentStore { keeper.store }

  /// Scrubs and compacts in the background until ``stop()``.
  public func startCare() {
    let caretaker = caretaker
    care.withLock { $0 = $0 ?? Task { await caretaker.run() } }
  }

  /// An operator says that a disk that had failed, or was full, is good again.
  public func reopen() async { await keeper.reopen() }

  public func stop() async {
    let care = self.care.withLock { care in
      defer { care = nil }
      return care
    }
    care?.cancel()
    await care?.value
    await keeper.stop()
  }

  public func register(on router: inout Router) {
    router.streaming(SlaveCloudMethods.putShadow) { try await self.putShadow($0) }
    router.streaming(SlaveCloudMethods.getShadow) { try await self.getShadow($0) }
    router.unary(SlaveCloudMethods.deleteShadows) { request, _ in
      try await self.deleteShadows(request)
    }
    router.unary(SlaveCloudMethods.listShadows) { request, _ in try self.listShadows(request) }
    router.unary(SlaveCloudMethods.listBadShadows) { request, _ in self.listBadShadows(request) }
    router.unary(SlaveCloudMethods.startScrub) { _, _ in
      guard self.caretaker.configuration.scrubBytesPerSecond > 0 else {
        throw RPCError(
          .failedPrecondition, "scrub_mib_per_second is 0 on \(self.node)", reason: "ScrubOff")
      }
      self.keeper.scrub.withLock { $0.isWanted = true }
      self.caretaker.wake()
      return Empty()
    }
    router.unary(SlaveCloudMethods.slaveStatus) { _, _ in await self.status() }
  }

  private func putShadow(_ call: ServerCall<PutShadowHeader, PutShadowReply>) async throws {
    let header = try await call.receiveMessage()
    try check(header.name)
    try await checkRoom(for: header.bodyBytes)
    let body = try await call.receiveBulk(count: header.bodyBytes, maximum: maximumShadowBytes)
    var reply = PutShadowReply()
    do {
      if store.contains(key: header.name) {
        // A name is random and used once: the same bytes are a repeated call, others are a mistake.
        guard try await isStored(body, as: header.name) else {
          throw RPCError(.alreadyExists, "another shadow has this name", reason: "NameTaken")
        }
        reply.existed = true
      } else {
        _ = try await store.append(key: header.name, payload: body)
      }
    } catch let error as SegmentStoreError {
      throw error.rpcError(node)
    }
    try await call.send(reply)
  }

  private func isStored(
    _ body: [UInt8], as name: [UInt8]
  ) async throws(SegmentStoreError) -> Bool {
    guard let stream = try await store.stream(key: name), stream.payloadSizeBytes == body.count
    else { return false }
    while true {
      let start = stream.position
      guard let piece = try await stream.next() else { return true }
      guard body[start..<start + piece.count].elementsEqual(piece) else { return false }
    }
  }

  private func getShadow(_ call: ServerCall<GetShadowRequest, GetShadowHeader>) async throws {
    let name = try await call.receiveMessage().name
    try check(name)
    do {
      guard let stream = try await store.stream(key: name) else {
        throw RPCError(.notFound, "\(node) has no such shadow", reason: "NoSuchShadow")
      }
      var header = GetShadowHeader()
      header.bodyBytes = UInt64(stream.payloadSizeBytes)
      try await call.send(header)
      while let piece = try await stream.next() { try await call.send(bulk: piece) }
    } catch let error as SegmentStoreError {
      if case .damaged = error { keeper.scrub.withLock { $0.addBad(name) } }
      logger.error("a shadow cannot be read", metadata: ["reason": "\(error)"])
      throw error.rpcError(node)
    }
  }

  private func deleteShadows(_ request: DeleteShadowsRequest) async throws -> DeleteShadowsReply {
    guard request.names.count <= 1000 else {
      throw RPCError(.invalidArgument, "at most 1000 names at once")
    }
    for name in request.names { try check(name) }
    defer { keeper.scrub.withLock { $0.badNames.subtract(request.names) } }
    // Together, so that they share one synchronization.
    let deleted = try await withThrowingTaskGroup(of: Bool.self) { group in
      for name in Set(request.names) {
        group.addTask { [store, node] in
          do throws(SegmentStoreError) {
            return try await store.delete(key: name)
          } catch {
            throw error.rpcError(node)
          }
        }
      }
      return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    var reply = DeleteShadowsReply()
    reply.deleted = UInt32(deleted)
    return reply
  }

  private func listShadows(_ request: ListShadowsRequest) throws(RPCError) -> ListShadowsReply {
    let limit =
      request.limit == 0 ? Self.maximumListed : min(Int(request.limit), Self.maximumListed)
    let names = store.keys(after: request.after.isEmpty ? nil : request.after, limit: limit + 1)
    var reply = ListShadowsReply()
    reply.names = Array(names.prefix(limit))
    reply.more = names.count > limit
    return reply
  }

  private func listBadShadows(_ request: ListShadowsRequest) -> ListShadowsReply {
    let limit =
      request.limit == 0 ? Self.maximumListed : min(Int(request.limit), Self.maximumListed)
    let names = keeper.scrub.withLock { $0.badNames }.filter {
      request.after.isEmpty || request.after.lexicographicallyPrecedes($0)
    }.sorted { $0.lexicographicallyPrecedes($1) }
    var reply = ListShadowsReply()
    reply.names = Array(names.prefix(limit))
    reply.more = names.count > limit
    return reply
  }

  private func status() async -> SlaveStatusReply {
    // First, so that all the rest is of one moment.
    let free = await freeSpaceBytes()
    let statistics = store.statistics()
    var reply = SlaveStatusReply()
    reply.node = node
    reply.shadows = UInt64(statistics.keys)
    reply.storedBytes = statistics.liveSizeBytes
    reply.diskBytes = statistics.totalSizeBytes
    reply.freeBytes = free ?? 0
    reply.reserveBytes = reserveBytes
    reply.instance = keeper.instance
    if case .readOnly(let reason) = store.status {
      reply.readOnly = true
      reply.readOnlyReason = "\(reason)"
    }
    reply.damages = UInt64(keeper.report.damages.count) + statistics.damagedReads
    keeper.scrub.withLock { scrub in
      reply.lastFullScrubMilliseconds = scrub.progress.lastFullMilliseconds
      reply.scrubbedBytes = scrub.progress.position == .start ? 0 : scrub.progress.sizeBytes
      reply.scrubFindings = UInt64(max(scrub.findings, scrub.lastFindings))
      reply.badShadows = UInt64(scrub.badNames.count)
    }
    return reply
  }

  /// Refused before a byte is taken, as the disk would refuse later and with worse effects.
  private func checkRoom(for bytes: UInt64) async throws(RPCError) {
    let (needed, overflow) = bytes.addingReportingOverflow(reserveBytes / 2)
    guard let free = await freeSpaceBytes(), overflow || free < needed else { return }
    throw RPCError(
      .resourceExhausted, "\(node): \(free) bytes are free, \(reserveBytes / 2) are kept back",
      reason: "DiskNearlyFull")
  }

  /// Nil where the disk does not say. It may take its time, and other calls share the event loop.
  private func freeSpaceBytes() async -> UInt64? {
    try? await offload { [disk, directory] in try disk.freeSpaceBytes(directory) }
  }

  private func check(_ name: [UInt8]) throws(RPCError) {
    guard name.count == Self.nameBytes else {
      throw RPCError(.invalidArgument, "a shadow's name has 16 bytes, not \(name.count)")
    }
  }
}

extension SegmentStoreError {
  /// What the master sees: whether to try elsewhere, to come back, or to give this shadow up.
  func rpcError(_ node: String) -> RPCError {
    switch self {
    case .damaged: RPCError(.dataLoss, "\(node): \(self)", reason: "DamagedRecord")
    case .readOnly: RPCError(.failedPrecondition, "\(node): \(self)", reason: "ReadOnly")
    case .overloaded: RPCError(.resourceExhausted, "\(node): \(self)", reason: "Overloaded")
    case .payloadTooLarge, .invalidKeySize:
      RPCError(.invalidArgument, "\(node): \(self)", reason: "InvalidShadow")
    default: RPCError(.unavailable, "\(node): \(self)", reason: "StorageFailed")
    }
  }
}
