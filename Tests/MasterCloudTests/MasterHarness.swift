import Base
import Enrollment
import Logging
import Messages
import RPC
import SegmentStore
import Shadows
import SlaveCloud
import TestSupport
import Testing

@testable import MasterCloud

/// Where the tests' servers listen; each takes an address of its own.
enum TestServers {
  static let network = InProcessNetwork()
  private static let count = Locked<UInt16>(0)

  /// A server that answers as that node, at a new address or at the one that it had.
  static func serve(
    _ router: Router, as identity: Identity, at known: Address? = nil, _ group: EventLoopGroup,
    _ logger: Logger
  ) throws -> Server {
    let port = count.withLock { count in
      count += 1
      return count
    }
    let address = known ?? Address(host: identity.node, port: port)
    let server = Server(
      inProcess: ServerConfiguration(address: address, cluster: identity.cluster),
      router: router, group: group, logger: logger)
    try network.listen(server, as: identity, at: address)
    return server
  }
}

/// A slave as a process would run it, but in this one.
final class TestSlave: Sendable {
  let node: String
  let directory: TemporaryDirectory
  let address: SlaveAddress
  private let disk: any Disk
  private let care: SlaveCloud.CareConfiguration
  private let makeServer: @Sendable (Router) throws -> Server
  private let running: Locked<(service: SlaveService, server: Server)?>
  private let logger: Logger

  init(
    _ node: String, _ authority: TestAuthority, _ group: EventLoopGroup, _ logger: Logger,
    location: SlaveLocation? = nil, disk: any Disk = SystemDisk(),
    care: SlaveCloud.CareConfiguration = .init()
  ) throws {
    self.node = node
    self.disk = disk
    self.care = care
    self.logger = logger
    let directory = try TemporaryDirectory(node)
    self.directory = directory
    let identity = try authority.identity(.slave, node)
    let (service, router) = try Self.service(node, directory, disk, care, logger)
    let server = try TestServers.serve(router, as: identity, group, logger)
    address = SlaveAddress(node: node, address: server.address, location: location)
    makeServer = { [address = server.address] router in
      try TestServers.serve(router, as: identity, at: address, group, logger)
    }
    running = Locked((service, server))
  }

  private static func service(
    _ node: String, _ directory: TemporaryDirectory, _ disk: any Disk,
    _ care: SlaveCloud.CareConfiguration, verifying: Bool = false, _ logger: Logger
  ) throws -> (SlaveService, Router) {
    var configuration = SegmentStoreConfiguration()
    configuration.verifiesAtOpen = verifying
    let service = try SlaveService(
      node: node, directory: directory.path("segments"), disk: disk, configuration: configuration,
      care: care, logger: logger)
    var router = Router()
    service.register(on: &router)
    return (service, router)
  }

  /// After ``kill()``: the same folder, the same address.
  ///
  /// - Parameter verifying: everything is read at the start, as scrubbing would in time.
  func restart(verifying: Bool = false) throws {
    let (service, router) = try Self.service(
      node, directory, disk, care, verifying: verifying, logger)
    let server = try makeServer(router)
    running.withLock { $0 = (service, server) }
  }

  /// As a crash would: connections break, nothing is answered any more.
  func kill() async {
    let running = self.running.withLock { running in
      defer { running = nil }
      return running
    }
    await running?.server.shutdown(graceMilliseconds: 0)
    await running?.service.stop()
  }
}

/// Accepts shadows, answers status, and never gives a shadow back.
final class SlowSlave: Sendable {
  let server: Server
  let asked = Locked(0)
  let address: SlaveAddress

  /// - Parameter refusal: what it answers at once where it is asked for one; without it, it never answers.
  init(
    _ node: String, _ authority: TestAuthority, _ group: EventLoopGroup, _ logger: Logger,
    refusal: RPCError? = nil
  ) throws {
    var router = Router()
    router.unary(SlaveCloudMethods.slaveStatus) { _, _ in
      var status = SlaveStatusReply()
      status.freeBytes = 1 << 40
      return status
    }
    router.unary(SlaveCloudMethods.deleteShadows) { _, _ in DeleteShadowsReply() }
    router.streaming(SlaveCloudMethods.putShadow) { call in
      let header = try await call.receiveMessage()
      _ = try await call.receiveBulk(count: header.bodyBytes, maximum: 1 << 30)
      try await call.send(PutShadowReply())
    }
    router.streaming(SlaveCloudMethods.getShadow) { [asked] _ in
      asked.withLock { $0 += 1 }
      if let refusal { throw refusal }
      try await Task.sleep(for: .seconds(3600))
    }
    server = try TestServers.serve(
      router, as: authority.identity(.slave, node), group, logger)
    address = SlaveAddress(node: node, address: server.address)
  }
}

/// A master with slaves, and an owner and a user who call it.
final class MasterHarness: Sendable {
  let authority: TestAuthority
  let group = EventLoopGroup(count: 2)
  let logger: Logger
  let directory: TemporaryDirectory
  let slaves: [TestSlave]
  let keys: KeyRing
  let configuration: MasterConfiguration
  let master: MasterService
  let server: Server

  init(
    slaves count: Int = 5, extra: [SlowSlave] = [], sharing: Sharing? = nil,
    authority: TestAuthority? = nil, directory: TemporaryDirectory? = nil,
    reusing slaves: [TestSlave]? = nil, keys: KeyRing? = nil, scheme: String = "bai",
    background: Bool = true, clock: any Base.Clock = SystemClock(),
    change: (inout MasterConfiguration) -> Void = { _ in }
  ) async throws {
    var logger = Logger(label: "master-tests")
    logger.logLevel = .critical
    self.logger = logger
    let authority = try authority ?? TestAuthority()
    self.authority = authority
    self.directory = try directory ?? TemporaryDirectory("master")
    let group = group
    self.slaves =
      try slaves
      ?? (0..<count).map { try TestSlave("scs-\($0 + 1)", authority, group, logger) }
    var configuration = MasterConfiguration(
      slaves: self.slaves.map(\.address) + extra.map(\.address))
    configuration.spareSlaves = 0
    configuration.fixedSharing = sharing
    configuration.shadowScheme = scheme
    configuration.maximumImageBytes = 4 << 20
    change(&configuration)
    self.configuration = configuration
    self.keys =
      keys
      ?? KeyRing(keys: [
        (kind: .threshold, version: 1, key: SecretBytes([UInt8](repeating: 7, count: 32)))
      ])
    master = try await MasterService(
      node: "mcs-1", cluster: authority.cluster, directory: self.directory.path,
      configuration: configuration, keys: self.keys,
      dialer: TestServers.network.dialer(
        as: authority.identity(.master, "mcs-1"), group: group, logger: logger),
      clock: clock, logger: logger)
    var router = Router()
    master.register(on: &router)
    server = try TestServers.serve(
      router, as: authority.identity(.master, "mcs-1"), group, logger)
    // In the background things happen by the clock; tests of care take the steps themselves.
    if background {
      await master.start()
    } else {
      await master.startLog()
      // On a busy machine a slave may answer too late to be seen at the first look.
      for _ in 0..<4 {
        await master.look()
        if self.slaves.allSatisfy({ master.slaves.isReachable($0.node) }) { break }
      }
    }
  }

  func channel(_ role: Role, _ node: String) throws -> Channel {
    TestServers.network.channel(
      to: server.address, as: try authority.identity(role, node),
      expecting: PeerExpectation(cluster: authority.cluster, role: .master), group: group,
      logger: logger)
  }

  func stop() async {
    await server.shutdown(graceMilliseconds: 0)
    await master.stop()
  }

  func stopAll() async {
    await stop()
    for slave in slaves { await slave.kill() }
  }

  /// Looks at the slaves and does what there is to do, once.
  func careRound() async {
    await master.care.inspect()
    await master.care.round(isAsked: true)
  }

  func status() async throws -> ClusterStatusReply {
    try await channel(.imageUser, "mu-1").unary(
      MasterCloudMethods.clusterStatus, Empty(), CallOptions(timeout: .seconds(30)))
  }

  /// Shadows on all slaves together, as they say themselves.
  func shadowsOnSlaves() async throws -> UInt64 {
    var sum: UInt64 = 0
    for slave in slaves { sum += try await shadows(on: slave) }
    return sum
  }

  func shadows(on slave: TestSlave) async throws -> UInt64 {
    let channel = TestServers.network.channel(
      to: slave.address.address, as: try authority.identity(.master, "mcs-1"),
      expecting: PeerExpectation(cluster: authority.cluster, role: .slave), group: group,
      logger: logger)
    return try await channel.unary(
      SlaveCloudMethods.slaveStatus, Empty(), CallOptions(timeout: .seconds(30))
    ).shadows
  }
}

/// What an owner sends; the bytes stand for an encrypted image.
struct TestImage: Sendable {
  var record = ImageRecord()
  var sealed: [UInt8]

  init(seed: UInt64, bytes: Int, code: UInt64 = 0) {
    let entropy = SeededEntropy(seed: seed)
    sealed = entropy.bytes(bytes)
    record.imageID = entropy.bytes(16)
    var masked = MaskedCode()
    masked.modelVersion = "model-a"
    masked.indexKeyVersion = 1
    masked.bits = 16
    masked.code = code
    record.codes = [masked]
    record.wrappedDataKey = entropy.bytes(65)
    record.imageKeyVersion = 1
    record.sealedTags = entropy.bytes(40)
    record.sealedBytes = UInt64(bytes)
    record.sealedDigest = sha256(sealed)
  }

  func put(
    on channel: Channel, timeout: Duration = .seconds(60)
  ) async throws(RPCError) -> PutImageReply {
    let call = try await channel.open(MasterCloudMethods.putImage, CallOptions(timeout: timeout))
    var header = PutImageHeader()
    header.record = record
    try await call.send(header)
    try await call.send(bulk: sealed)
    try await call.finishSending()
    return try await call.receiveOnly()
  }
}

func fetch(
  _ id: [UInt8], on channel: Channel, maximumAge: UInt64 = 0, timeout: Duration = .seconds(60)
) async throws(RPCError) -> (record: ImageRecord, bytes: [UInt8]) {
  let call = try await channel.open(MasterCloudMethods.fetchImage, CallOptions(timeout: timeout))
  var request = FetchImageRequest()
  (request.imageID, request.maximumAgeMilliseconds) = (id, maximumAge)
  try await call.sendLast(request)
  guard let header = try await call.receiveMessage(), let record = header.record else {
    throw RPCError(.internalError, "no header")
  }
  let bytes = try await call.receiveBulk(count: record.sealedBytes, maximum: 1 << 26)
  guard try await call.receive() == nil else { throw RPCError(.internalError, "more came") }
  return (record, bytes)
}

func rpcError<Value>(_ body: () async throws(RPCError) -> Value) async -> RPCError? {
  do {
    _ = try await body()
    return nil
  } catch {
    return error
  }
}
