import Base
import Messages
import RPC

/// A master that keeps everything in memory, counts, and misbehaves as it is told.
public final class FakeMaster: Sendable {
  public struct Stored: Sendable {
    public var record: ImageRecord
    public var sealed: [UInt8]
  }

  private struct State {
    var images: [ImageID: Stored] = [:]
    var received: [Stored] = []
    var calls: [String: Int] = [:]
    var running = 0
    var failures: [String: [RPCError]] = [:]
    var gates: [String: TestGate] = [:]
    var bulkGates: [ImageID: TestGate] = [:]
    var imageFailures: [ImageID: RPCError] = [:]
    var searches: [SearchImagesRequest] = []
    var deletions: [DeleteImageRequest] = []
    var deniesImages = false
    var failureAfterResults: (count: Int, error: RPCError, gate: TestGate)?
  }

  private let state = Locked(State())

  public init() {}

  // MARK: what a test sets and sees

  public func images() -> [ImageID: Stored] { state.withLock { $0.images } }
  /// Every upload as it arrived, also those that were refused after it.
  public func received() -> [Stored] { state.withLock { $0.received } }
  public func calls<Request, Reply>(_ method: Method<Request, Reply>) -> Int {
    state.withLock { $0.calls[method.name] ?? 0 }
  }
  public var runningCalls: Int { state.withLock { $0.running } }
  /// As they came, also those that then failed.
  public var deletions: [DeleteImageRequest] { state.withLock { $0.deletions } }
  public var searches: [SearchImagesRequest] { state.withLock { $0.searches } }

  /// The next calls of the method fail so, in this order.
  public func fail<Request, Reply>(_ method: Method<Request, Reply>, with errors: [RPCError]) {
    state.withLock { $0.failures[method.name] = errors }
  }

  /// Calls of the method stop at the gate, once they have read their request.
  public func stop<Request, Reply>(_ method: Method<Request, Reply>, at gate: TestGate) {
    state.withLock { $0.gates[method.name] = gate }
  }

  /// Asked whether it has an image, it says no: what a caller sees whose question came a moment too early.
  public func denyImages() { state.withLock { $0.deniesImages = true } }

  /// The encrypted image is sent after the gate opened, its message before.
  public func stopBulk(of image: ImageID, at gate: TestGate) {
    state.withLock { $0.bulkGates[image] = gate }
  }

  /// Searches list the image without its bytes.
  public func failImage(_ image: ImageID, with error: RPCError) {
    state.withLock { $0.imageFailures[image] = error }
  }

  /// Searches end with the error after that many results, once the gate opens: a failure overtakes
  /// what its receiver has not read yet.
  public func failSearch(after count: Int, with error: RPCError, at gate: TestGate) {
    state.withLock { $0.failureAfterResults = (count, error, gate) }
  }

  public func alter(_ image: ImageID, _ change: (inout Stored) -> Void) {
    state.withLock { state in
      guard var stored = state.images[image] else { return }
      change(&stored)
      state.images[image] = stored
    }
  }

  // MARK: the service

  public func register(in router: inout Router) {
    router.streaming(MasterCloudMethods.putImage) { [self] call in
      try await counted(MasterCloudMethods.putImage) { try await putImage(call) }
    }
    router.unary(MasterCloudMethods.hasImages) { [self] request, _ in
      try await counted(MasterCloudMethods.hasImages) {
        try await obstacles(MasterCloudMethods.hasImages)
        var reply = HasImagesReply()
        reply.stored = state.withLock { state in
          request.imageIDs.map { id in
            !state.deniesImages && ImageID(id).map { state.images[$0] != nil } ?? false
          }
        }
        return reply
      }
    }
    router.streaming(MasterCloudMethods.searchImages) { [self] call in
      try await counted(MasterCloudMethods.searchImages) { try await search(call) }
    }
    router.streaming(MasterCloudMethods.fetchImage) { [self] call in
      try await counted(MasterCloudMethods.fetchImage) { try await fetch(call) }
    }
    router.unary(MasterCloudMethods.deleteImage) { [self] request, _ in
      try await counted(MasterCloudMethods.deleteImage) {
        state.withLock { $0.deletions.append(request) }
        try await obstacles(MasterCloudMethods.deleteImage)
        var reply = DeleteImageReply()
        reply.existed = state.withLock { state in
          ImageID(request.imageID).map { state.images.removeValue(forKey: $0) != nil } ?? false
        }
        return reply
      }
    }
    router.unary(MasterCloudMethods.listImages) { [self] request, _ in
      try await counted(MasterCloudMethods.listImages) { list(request) }
    }
    router.unary(MasterCloudMethods.clusterStatus) { [self] _, _ in
      try await counted(MasterCloudMethods.clusterStatus) {
        try await obstacles(MasterCloudMethods.clusterStatus)
        var reply = ClusterStatusReply()
        reply.node = "mcs-1"
        reply.images = UInt64(images().count)
        return reply
      }
    }
  }

  private func counted<Request, Reply, Result>(
    _ method: Method<Request, Reply>, _ body: () async throws -> Result
  ) async throws -> Result {
    state.withLock { state in
      state.calls[method.name, default: 0] += 1
      state.running += 1
    }
    defer { state.withLock { $0.running -= 1 } }
    return try await body()
  }

  private func obstacles<Request, Reply>(_ method: Method<Request, Reply>) async throws {
    let (gate, failure) = state.withLock { state in
      let failures = state.failures[method.name] ?? []
      state.failures[method.name] = Array(failures.dropFirst())
      return (state.gates[method.name], failures.first)
    }
    if let gate { try await gate.pass() }
    if let failure { throw failure }
  }

  private func putImage(_ call: ServerCall<PutImageHeader, PutImageReply>) async throws {
    guard var record = try await call.receiveMessage().record, let id = ImageID(record.imageID)
    else { throw RPCError(.invalidArgument, "no record") }
    var reply = PutImageReply()
    reply.existed = images()[id] != nil
    if reply.existed {
      // Without a look at the bytes, which are still on their way.
      try await call.send(reply)
      return
    }
    let sealed = try await call.receiveBulk(count: record.sealedBytes, maximum: 1 << 30)
    let stored = Stored(record: record, sealed: sealed)
    state.withLock { $0.received.append(stored) }
    try await obstacles(MasterCloudMethods.putImage)
    guard sha256(sealed) == record.sealedDigest else {
      throw RPCError(.invalidArgument, "another digest")
    }
    record.owner = call.context.identity.node
    record.storedAtMilliseconds = 1_700_000_000_000
    state.withLock { $0.images[id] = Stored(record: record, sealed: sealed) }
    reply.shadows = 3
    reply.shadowBytes = UInt64(2 * sealed.count)
    try await call.send(reply)
  }

  private func fetch(_ call: ServerCall<FetchImageRequest, FetchImageHeader>) async throws {
    let request = try await call.receiveMessage()
    try await obstacles(MasterCloudMethods.fetchImage)
    guard let id = ImageID(request.imageID), let stored = images()[id] else {
      throw RPCError(.notFound, "no such image", reason: "NoSuchImage")
    }
    var header = FetchImageHeader()
    header.record = stored.record
    try await call.send(header)
    try await state.withLock { $0.bulkGates[id] }?.pass()
    try await call.send(bulk: stored.sealed)
  }

  private func search(_ call: ServerCall<SearchImagesRequest, SearchResult>) async throws {
    let request = try await call.receiveMessage()
    state.withLock { $0.searches.append(request) }
    try await obstacles(MasterCloudMethods.searchImages)
    let hits = hits(of: request)
    let (failures, gates, ending) = state.withLock {
      ($0.imageFailures, $0.bulkGates, $0.failureAfterResults)
    }
    for (index, hit) in hits.prefix(Int(request.count)).enumerated() {
      if let ending, ending.count == index {
        try await ending.gate.pass()
        throw ending.error
      }
      var result = SearchResult()
      result.rank = UInt32(index + 1)
      result.distance = UInt32(hit.distance)
      result.record = hit.stored.record
      if let failure = failures[hit.id] {
        result.imageStatus = failure.code.rawValue
        result.imageMessage = failure.message
        result.imageReason = failure.reason
      }
      try await call.send(result)
      guard request.withImages, result.imageStatus == 0 else { continue }
      try await gates[hit.id]?.pass()
      try await call.send(bulk: hit.stored.sealed)
    }
  }

  private func hits(
    of request: SearchImagesRequest
  ) -> [(distance: Int, id: ImageID, stored: Stored)] {
    images().compactMap { id, stored in
      let distances = stored.record.codes.flatMap { code in
        request.codes.compactMap { asked -> Int? in
          guard asked.modelVersion == code.modelVersion, asked.bits == code.bits,
            asked.indexKeyVersion == code.indexKeyVersion
          else { return nil }
          return (asked.code ^ code.code).nonzeroBitCount
        }
      }
      return distances.min().map { ($0, id, stored) }
    }
    .sorted { ($0.distance, $0.id) < ($1.distance, $1.id) }
  }

  private func list(_ request: ListImagesRequest) -> ListImagesReply {
    let after = ImageID(request.after)
    let sorted = images().sorted { $0.key < $1.key }.filter { after == nil || $0.key > after! }
    let limit = request.limit == 0 ? 100 : Int(request.limit)
    var reply = ListImagesReply()
    reply.records = sorted.prefix(limit).map(\.value.record)
    reply.more = sorted.count > limit
    return reply
  }
}
