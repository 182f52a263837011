import Base
import Consensus
import Enrollment
import Logging
import Messages
import RPC
import Raft

/// A master: its state, its slaves, and the methods of the service MasterCloud.
public final class MasterService: Sendable {
  private let node: String
  let configuration: MasterConfiguration
  /// Taken before anything in the folder is opened, given back last.
  private let lock: any DiskLock
  let state: ClusterState
  let log: any ReplicatedLog
  let voter: ConsensusNode<ClusterState>
  private let consensus: ConsensusService<ClusterState>
  private let leadership: LeadershipWatch
  private let comparison: StateComparison
  let slaves: SlaveDirectory
  let bad = BadShadows()
  let keys: KeyRing
  let reader: ShadowReader
  let survey: CareSurvey
  let care: ClusterCare
  private let foreground = ForegroundGauge()
  private let uploads: UploadPipeline
  private let fetches: FetchPipeline
  let sweeper: Sweeper
  let logger: Logger
  private let bytesInMemory = Locked(0)
  private let background = Locked<[Task<Void, Never>]>([])

  private static let maximumResults = 1000
  static let maximumListed = 500
  private static let pieceBytes = 512 << 10

  /// Opens the state and the log under `directory`, which must exist. A master that is alone makes its log where there
  /// is neither; several are made by ``ConsensusFolder/create(in:cluster:node:members:)``, once.
  ///
  /// - Parameters:
  ///   - dialer: the way to the slaves.
  ///   - peers: the way to the other masters and the witness; the dialer's where there is none.
  ///   - clock: by which slaves are silent for too long.
  ///   - onHalt: this master takes no part any more and has to be started anew.
  public init(
    node: String, cluster: String, directory: String, configuration: MasterConfiguration,
    keys: KeyRing, dialer: Dialer, peers: Dialer? = nil, clock: any Clock = SystemClock(),
    logger: Logger, onHalt: @escaping @Sendable (String) -> Void = { _ in }
  ) async throws {
    self.node = node
    self.configuration = configuration
    self.logger = logger
    guard let lock = try SystemDisk().lock(directory + "/master.lock") else {
      throw RPCError(.unavailable, "another master uses \(directory)", reason: "InUse")
    }
    self.lock = lock
    let own = Member(id: NodeID(node), role: .data)
    let members = configuration.members.isEmpty ? [own] : configuration.members
    if configuration.members.isEmpty && !ConsensusFolder.exists(in: directory)
      && !Self.hasState(directory)
    {
      try await ConsensusFolder.create(
        in: directory, cluster: cluster, node: node, members: members)
    }
    let state = try await offload { try ClusterState(path: directory + "/state.sqlite") }
    self.state = state
    let leadership = LeadershipWatch()
    self.leadership = leadership
    let voter = try await ConsensusNode(
      node: node, cluster: cluster, directory: directory, role: .data, members: members,
      configuration: configuration.consensus, machine: state, state: try await state.base(),
      dialer: peers ?? dialer, logger: logger, onLeadership: { leadership.set($0) },
      onHalt: {
        // It leads no more, and whoever waits for that would wait for ever.
        leadership.end()
        onHalt($0)
      })
    self.voter = voter
    let comparison = StateComparison(logger: logger)
    self.comparison = comparison
    consensus = ConsensusService(
      driver: voter.driver, directory: directory, marks: { await state.marks() },
      alarm: { comparison.alarm })
    let log = ConsensusLog(driver: voter.driver)
    self.log = log
    self.keys = keys
    let slaves = SlaveDirectory(
      configuration.slaves, cluster: cluster, dialer: dialer,
      repairAfter: configuration.care.repairAfter, bad: bad, clock: clock, logger: logger)
    self.slaves = slaves
    let activeUploads = ActiveSet<PendingUpload>()
    let activeMoves = ActiveSet<PendingMove>()
    let reader = ShadowReader(
      slaves: slaves, state: state, bad: bad, hedgeAfter: configuration.hedgeAfter, logger: logger)
    self.reader = reader
    uploads = UploadPipeline(
      configuration: configuration, state: state, log: log, slaves: slaves, keys: keys,
      active: activeUploads, logger: logger)
    fetches = FetchPipeline(reader: reader, state: state, keys: keys)
    sweeper = Sweeper(
      state: state, log: log, slaves: slaves, active: activeUploads, activeMoves: activeMoves,
      logger: logger)
    survey = CareSurvey(state: state, slaves: slaves, bad: bad, keys: keys, logger: logger)
    care = ClusterCare(
      state: state, slaves: slaves, survey: survey,
      audit: SlaveAudit(state: state, slaves: slaves, bad: bad, logger: logger),
      mover: ShadowMover(
        state: state, log: log, slaves: slaves, keys: keys, reader: reader, bad: bad,
        active: activeMoves, spreading: configuration.surviveLossOf, progress: CareProgress()),
      balance: Balance(
        threshold: configuration.care.balanceThreshold, spreading: configuration.surviveLossOf),
      pace: CarePace(configuration.care, foreground: foreground),
      configuration: configuration.care, logger: logger)
  }

  /// Looks at the slaves once, then keeps looking, sweeping and caring until ``stop()``.
  public func start() async {
    await startLog()
    await look()
    let watching = Task {
      while !Task.isCancelled {
        try? await Task.sleep(for: .seconds(1))
        if !Task.isCancelled { await self.look() }
      }
    }
    let leading = Task {
      var work: [Task<Void, Never>] = []
      func end() async {
        for task in work { task.cancel() }
        for task in work { await task.value }
        work = []
      }
      for await isLeading in leadership.changes {
        await end()
        if isLeading && !Task.isCancelled { work = lead() }
      }
      await end()
    }
    background.withLock { $0 += [watching, leading] }
  }

  private static func fillIndex(of state: ClusterState, _ logger: Logger) async {
    let clock = SystemClock()
    let begin = clock.monotonicNanoseconds()
    guard await state.fillIndex() else { return }
    let milliseconds = (clock.monotonicNanoseconds() - begin) / 1_000_000
    logger.notice("images can be searched", metadata: ["after_milliseconds": "\(milliseconds)"])
  }

  /// Takes part in the consensus from here on. A master that is alone leads on return.
  func startLog() async {
    voter.start()
    let indexing = Task { [state, logger] in await Self.fillIndex(of: state, logger) }
    background.withLock { $0.append(indexing) }
    guard configuration.members.isEmpty else { return }
    await leadership.waitUntilLeading()
    await Self.waitUntilCurrent(log)
  }

  /// What earlier leaders committed is applied before anything is done about it.
  private static func waitUntilCurrent(_ log: any ReplicatedLog) async {
    while !Task.isCancelled {
      do throws(RPCError) { return try await log.readBarrier() } catch {
        // One that has stopped for good would never answer otherwise.
        if error.reason == "LogFailed" { return }
      }
      try? await Task.sleep(for: .milliseconds(10))
    }
  }

  /// What only the leader does; each stops as soon as it is cancelled.
  private func lead() -> [Task<Void, Never>] {
    let (sweeper, care, log, logger) = (sweeper, care, log, logger)
    let (comparison, voter, state) = (comparison, voter, state)
    let sweeping = Task {
      await Self.waitUntilCurrent(log)
      while !Task.isCancelled {
        do {
          try await sweeper.sweep()
        } catch {
          logger.warning("the sweep was interrupted", metadata: ["reason": "\(error)"])
        }
        try? await Task.sleep(for: .seconds(5))
      }
    }
    let comparing = Task(priority: .utility) {
      while !Task.isCancelled {
        try? await Task.sleep(for: .seconds(5))
        if !Task.isCancelled {
          comparison.compare(await state.marks(), with: await voter.marksOfOthers())
        }
      }
    }
    guard configuration.care.isOn else { return [sweeping, comparing] }
    let caring = Task(priority: .utility) {
      await Self.waitUntilCurrent(log)
      if !Task.isCancelled { await care.run() }
    }
    return [sweeping, comparing, caring]
  }

  private static func hasState(_ directory: String) -> Bool {
    (try? SystemDisk().open(directory + "/state.sqlite", mode: .readOnly)) != nil
  }

  /// Asks every slave how it is, and the state what operators decided about them.
  func look(timeout: Duration = SlaveDirectory.statusTimeout) async {
    do {
      slaves.set(try await state.decisions())
    } catch {
      logger.error("the state cannot be read", metadata: ["reason": "\(error)"])
    }
    await slaves.poll(timeout: timeout)
  }

  /// Before the server drains: another master leads, if there is one, so that nobody has to wait for an election.
  public func handOver() async {
    guard !configuration.members.isEmpty else { return }
    let driver = voter.driver
    guard await driver.status().leadership.role == .leader else { return }
    driver.transfer(to: nil)
    for _ in 0..<100 {
      try? await Task.sleep(for: .milliseconds(10))
      if await driver.status().leadership.role != .leader { return }
    }
    logger.warning("no other master has taken over before the end")
  }

  /// After the server has drained: nothing may be proposed any more.
  public func stop() async {
    let tasks = background.withLock { $0 }
    leadership.end()
    for task in tasks { task.cancel() }
    for task in tasks { await task.value }
    for slave in slaves.slaves.values { slave.channel.close() }
    await log.close()
    lock.release()
  }

  public func register(on router: inout Router) {
    router.streaming(MasterCloudMethods.putImage) { call in
      try await self.foreground.run { try await self.putImage(call) }
    }
    router.unary(MasterCloudMethods.hasImages) { try await self.hasImages($0, $1) }
    router.streaming(MasterCloudMethods.searchImages) { call in
      try await self.foreground.run { try await self.searchImages(call) }
    }
    router.streaming(MasterCloudMethods.fetchImage) { call in
      try await self.foreground.run { try await self.fetchImage(call) }
    }
    router.unary(MasterCloudMethods.deleteImage) { try await self.deleteImage($0, $1) }
    router.unary(MasterCloudMethods.listImages) { try await self.listImages($0, $1) }
    router.unary(MasterCloudMethods.clusterStatus) { _, _ in try await self.status() }
    registerCare(on: &router)
    consensus.register(on: &router)
  }

  // MARK: storing

  private func putImage(_ call: ServerCall<PutImageHeader, PutImageReply>) async throws {
    guard var record = try await call.receiveMessage().record else {
      throw RPCError(.invalidArgument, "no record")
    }
    let id = try RecordRules.check(record, configuration)
    record.owner = call.context.identity.node
    // Whoever does not lead says so before the bytes have come.
    try await log.readBarrier()
    let count = Int(record.sealedBytes)
    try reserve(count)
    defer { bytesInMemory.withLock { $0 -= count } }
    let sealed = try await call.receiveBulk(
      count: record.sealedBytes, maximum: configuration.maximumSealedBytes)
    let digest = try await offload { sha256(sealed) }
    guard digest == record.sealedDigest else {
      throw RPCError(
        .invalidArgument, "the bytes do not have the digest announced", reason: "DigestMismatch")
    }
    let reply = try await uploads.store(record, id: id, sealed: sealed, within: call.context)
    try await call.send(reply)
  }

  private func reserve(_ count: Int) throws(RPCError) {
    let admitted = bytesInMemory.withLock { inUse in
      guard inUse + count <= configuration.maximumUploadBytesInMemory else { return false }
      inUse += count
      return true
    }
    guard admitted else {
      throw RPCError(.resourceExhausted, "too many uploads at once", reason: "Overloaded")
    }
  }

  private func hasImages(
    _ request: HasImagesRequest, _ context: CallContext
  ) async throws -> HasImagesReply {
    guard request.imageIDs.count <= 10_000 else {
      throw RPCError(.invalidArgument, "at most 10000 ids at once")
    }
    try await log.readBarrier()
    var reply = HasImagesReply()
    reply.stored = try await state.contains(
      request.imageIDs, owner: context.identity.node)
    return reply
  }

  private func deleteImage(
    _ request: DeleteImageRequest, _ context: CallContext
  ) async throws -> DeleteImageReply {
    var delete = DeleteImage()
    delete.imageID = try RecordRules.imageID(request.imageID).bytes
    delete.owner = context.identity.node
    guard request.client.isEmpty || request.client.count == 16 else {
      throw RPCError(.invalidArgument, "a client is 16 bytes")
    }
    let outcome = try await log.propose {
      $0.deleteImage = delete
      ($0.client, $0.sequence) = (request.client, request.sequence)
    }
    try outcome.check()
    var reply = DeleteImageReply()
    reply.existed = outcome.existed
    return reply
  }

  // MARK: finding and fetching

  private func fetchImage(_ call: ServerCall<FetchImageRequest, FetchImageHeader>) async throws {
    let request = try await call.receiveMessage()
    let id = try RecordRules.imageID(request.imageID)
    try await log.readBarrier(maximumAgeMilliseconds: request.maximumAgeMilliseconds)
    guard let image = try await state.image(id.bytes) else {
      throw RPCError(.notFound, "no image \(id) is stored", reason: "NoSuchImage")
    }
    let sealed = try await fetches.fetch(
      image, mayBeOld: request.maximumAgeMilliseconds > 0, within: call.context)
    var header = FetchImageHeader()
    header.record = image.record
    try await call.send(header)
    try await send(sealed, on: call)
  }

  private func searchImages(
    _ call: ServerCall<SearchImagesRequest, SearchResult>
  ) async throws {
    let request = try await call.receiveMessage()
    guard (1...Self.maximumResults).contains(Int(request.count)) else {
      throw RPCError(.invalidArgument, "ask for 1 to \(Self.maximumResults) results")
    }
    // As many as there may be versions of K_IDX.
    guard (1...256).contains(request.codes.count) else {
      throw RPCError(.invalidArgument, "a search has 1 to 256 codes")
    }
    for code in request.codes { try RecordRules.check(code) }
    try await log.readBarrier(maximumAgeMilliseconds: request.maximumAgeMilliseconds)
    if request.maximumAgeMilliseconds > 0, await !state.canSearch {
      // Another one may be able to.
      throw RPCError(
        .unavailable, "this master has not read all images since its start",
        reason: "IndexIncomplete"
      ).asRefusal
    }
    let hits = try await state.search(request.codes, count: Int(request.count))
    if request.withImages {
      try await sendInOrder(hits, mayBeOld: request.maximumAgeMilliseconds > 0, on: call)
    } else {
      for (rank, hit) in hits.enumerated() { try await call.send(result(hit, rank)) }
    }
  }

  private func result(_ hit: ClusterState.Hit, _ rank: Int) -> SearchResult {
    var result = SearchResult()
    result.rank = UInt32(rank + 1)
    result.distance = UInt32(hit.distance)
    result.record = hit.record
    return result
  }

  /// Rebuilds a few images ahead; a result waits for those before it, and a failed one stops nothing.
  private func sendInOrder(
    _ hits: [ClusterState.Hit], mayBeOld: Bool,
    on call: ServerCall<SearchImagesRequest, SearchResult>
  ) async throws {
    typealias Fetched = (rank: Int, image: Result<[UInt8], RPCError>)
    try await withThrowingTaskGroup(of: Fetched.self) { group in
      var next = 0
      var ready: [Int: Result<[UInt8], RPCError>] = [:]
      func startNext() {
        guard next < hits.count else { return }
        let rank = next
        next += 1
        group.addTask { (rank, await self.fetchResult(hits[rank], mayBeOld, within: call.context)) }
      }
      for _ in 0..<max(1, configuration.fetchesAhead) { startNext() }
      for rank in hits.indices {
        while ready[rank] == nil {
          guard let fetched = try await group.next() else { break }
          ready[fetched.rank] = fetched.image
        }
        guard let image = ready.removeValue(forKey: rank) else {
          preconditionFailure("result \(rank) was never fetched")
        }
        startNext()
        try await send(hits[rank], rank, image, on: call)
      }
    }
  }

  private func fetchResult(
    _ hit: ClusterState.Hit, _ mayBeOld: Bool, within context: CallContext
  ) async -> Result<[UInt8], RPCError> {
    do {
      guard let image = try await state.image(hit.record.imageID) else {
        return .failure(RPCError(.notFound, "deleted meanwhile", reason: "NoSuchImage"))
      }
      return .success(try await fetches.fetch(image, mayBeOld: mayBeOld, within: context))
    } catch {
      return .failure(RPCError(answering: error))
    }
  }

  private func send(
    _ hit: ClusterState.Hit, _ rank: Int, _ image: Result<[UInt8], RPCError>,
    on call: ServerCall<SearchImagesRequest, SearchResult>
  ) async throws {
    var message = result(hit, rank)
    switch image {
    case .success(let sealed):
      try await call.send(message)
      try await send(sealed, on: call)
    case .failure(let error):
      message.imageStatus = error.code.rawValue
      message.imageMessage = error.message
      message.imageReason = error.reason
      try await call.send(message)
    }
  }

  private func send<Request, Reply>(
    _ bytes: [UInt8], on call: ServerCall<Request, Reply>
  ) async throws {
    for start in stride(from: 0, to: bytes.count, by: Self.pieceBytes) {
      try await call.send(bulk: Array(bytes[start..<min(start + Self.pieceBytes, bytes.count)]))
    }
  }

  // MARK: looking

  private func listImages(
    _ request: ListImagesRequest, _ context: CallContext
  ) async throws -> ListImagesReply {
    try await log.readBarrier(maximumAgeMilliseconds: request.maximumAgeMilliseconds)
    let limit =
      request.limit == 0 ? Self.maximumListed : min(Int(request.limit), Self.maximumListed)
    // An owner sees its own images only.
    let owner = context.identity.role == .imageOwner ? context.identity.node : nil
    let records = try await state.records(after: request.after, limit: limit + 1, owner: owner)
    var reply = ListImagesReply()
    reply.more = records.count > limit
    var bytes = 0
    for record in records.prefix(limit) {
      bytes += record.sealedTags.count + 1024
      // A message has to fit one frame.
      guard bytes < 900_000 || reply.records.isEmpty else {
        reply.more = true
        break
      }
      reply.records.append(record)
    }
    return reply
  }

  private func status() async throws -> ClusterStatusReply {
    // A master whose log failed is not well, whatever else it could tell.
    try await log.readBarrier()
    // Whoever asks wants to know about now, not about the last look.
    await look(timeout: .seconds(1))
    let counts = try await state.counts()
    var reply = ClusterStatusReply()
    reply.node = node
    reply.images = counts.images
    reply.imageBytes = counts.imageBytes
    reply.shadows = counts.shadows
    reply.pendingUploads = counts.pendingUploads
    reply.pendingDeletions = counts.pendingDeletions
    reply.appliedIndex = try await state.appliedIndex()
    var onSlaves: [String: (placed: Int, garbage: Int)] = [:]
    for (slave, decision) in try await state.decisions() where decision.condition != .active {
      onSlaves[slave] = (
        try await state.shadowCount(on: slave), try await state.garbageCount(on: slave)
      )
    }
    reply.slaves = slaves.summary(onSlaves)
    var progress = care.progress.status
    progress.off = !configuration.care.isOn
    reply.care = progress
    return reply
  }
}
