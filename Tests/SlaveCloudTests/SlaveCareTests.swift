import Base
import Foundation
import Logging
import Messages
import RPC
import SegmentStore
import TestSupport
import Testing

@testable import SlaveCloud

@Suite struct SlaveCareTests {
  private static var configuration: SegmentStoreConfiguration {
    var configuration = SegmentStoreConfiguration()
    configuration.maximumSegmentSizeBytes = 64 << 10
    return configuration
  }

  private static var care: CareConfiguration {
    var care = CareConfiguration()
    care.scrubBytesPerSecond = 0
    care.compactionBytesPerSecond = 0
    return care
  }

  private func keeper(
    _ directory: TemporaryDirectory, on disk: any Disk = SystemDisk(), _ log: CapturedLog
  ) throws -> (StoreKeeper, Caretaker) {
    let keeper = try StoreKeeper(
      directory: directory.path("segments"), disk: disk, configuration: Self.configuration,
      logger: log.logger)
    return (keeper, Caretaker(keeper: keeper, configuration: Self.care, logger: log.logger))
  }

  private func name(_ number: Int) -> [UInt8] {
    [UInt8](repeating: 0, count: 12) + withUnsafeBytes(of: UInt32(number).bigEndian) { Array($0) }
  }

  private func fill(_ store: SegmentStore, _ numbers: Range<Int>) async throws {
    for number in numbers {
      _ = try await store.append(
        key: name(number), payload: [UInt8](repeating: UInt8(number & 255), count: 10_000))
    }
  }

  /// Flips a bit of a file on the disk.
  private func damage(_ path: String, at offset: UInt64) throws {
    let file = try FileHandle(forUpdating: URL(fileURLWithPath: path))
    try file.seek(toOffset: offset)
    let byte = try #require(try file.read(upToCount: 1)).first!
    try file.seek(toOffset: offset)
    try file.write(contentsOf: Data([byte ^ 4]))
    try file.close()
  }

  @Test func scrubbingFindsRotByShadowAndGoesOnAfterARestart() async throws {
    let directory = try TemporaryDirectory("scrub")
    let log = CapturedLog()
    var (keeper, caretaker) = try keeper(directory, log)
    try await fill(keeper.store, 0..<300)
    #expect(await caretaker.scrub(steps: 10_000))
    let first = keeper.scrub.withLock { $0 }
    #expect(first.progress.lastFullMilliseconds > 0 && first.badNames == [])
    #expect(first.progress.sizeBytes >= 3_000_000 && first.progress.position == .start)
    // Rot in the 7th segment; a scrub stops in the middle, and another process goes on.
    let path = directory.path("segments/0000000000000007.segment")
    try damage(path, at: 20_000)
    #expect(await caretaker.scrub(steps: 3))
    let half = keeper.scrub.withLock { $0.progress }
    #expect(half.position.segmentIdentifier == 4 && half.position != .start)
    await keeper.stop()
    (keeper, caretaker) = try self.keeper(directory, log)
    #expect(keeper.report.hintedSegments > 40 && keeper.report.damages == [])
    let saved = try await keeper.store.scrubProgress()
    #expect(saved == half)
    keeper.scrub.withLock { $0.progress = saved }
    #expect(await caretaker.scrub(steps: 10_000))
    let second = keeper.scrub.withLock { $0 }
    #expect(second.badNames.count == 1 && second.lastFindings == 1)
    #expect(second.progress.lastFullMilliseconds == half.passStartedMilliseconds)
    let bad = try #require(second.badNames.first)
    await #expect(throws: SegmentStoreError.self) { try await keeper.store.read(key: bad) }
    #expect(log.contains("scrubbing found damage"))
    await keeper.stop()
  }

  /// A pass goes on without a pause in between, ends, and is not due again.
  @Test func aPassIsMadeInSteps() async throws {
    let directory = try TemporaryDirectory("steps")
    let (keeper, _) = try keeper(directory, CapturedLog())
    var care = Self.care
    let off = Caretaker(keeper: keeper, configuration: care, logger: CapturedLog().logger)
    try await fill(keeper.store, 0..<100)
    #expect(await !off.scrubIfDue(steps: 3))
    #expect(keeper.scrub.withLock { $0.progress } == ScrubProgress())
    care.scrubBytesPerSecond = 1 << 40
    let caretaker = Caretaker(keeper: keeper, configuration: care, logger: CapturedLog().logger)
    var rounds = 0
    while await caretaker.scrubIfDue(steps: 3) { rounds += 1 }
    #expect(rounds >= 5)
    let progress = keeper.scrub.withLock { $0.progress }
    #expect(progress.position == .start && progress.lastFullMilliseconds > 0)
    #expect(progress.sizeBytes >= 1_000_000)
    #expect(await !caretaker.scrubIfDue(steps: 3))
    #expect(keeper.scrub.withLock { $0.progress } == progress)
    // Of a closed store nothing can be read: no reason to try again at once.
    await keeper.stop()
    keeper.scrub.withLock { $0.progress.lastFullMilliseconds = 0 }
    #expect(await !caretaker.scrubIfDue(steps: 3))
  }

  @Test func aFullDiskIsSaidAndForgottenOnceThereIsRoom() async throws {
    let directory = try TemporaryDirectory("full")
    let disk = FillableDisk()
    let (keeper, _) = try keeper(directory, on: disk, CapturedLog())
    try await fill(keeper.store, 0..<10)
    disk.isFull = true
    await #expect(throws: SegmentStoreError.self) { try await fill(keeper.store, 10..<11) }
    guard case .readOnly(let reason) = keeper.store.status else {
      Issue.record("\(keeper.store.status)")
      return
    }
    #expect(reason.diskError?.code == ENOSPC)
    await keeper.reopenIfThereIsRoom(1 << 30)
    #expect(keeper.store.status != .readWrite)
    disk.isFull = false
    await keeper.reopenIfThereIsRoom(1 << 30)
    #expect(keeper.store.status == .readWrite)
    try await fill(keeper.store, 10..<20)
    for number in 0..<20 {
      #expect(try await keeper.store.read(key: name(number))?.count == 10_000)
    }
    await keeper.stop()
    // Stopped is stopped.
    #expect(await !keeper.reopen() || keeper.store.status == .readWrite)
    await #expect(throws: SegmentStoreError.closed) { try await keeper.store.read(key: name(1)) }
  }

  @Test func deletedShadowsGiveTheirRoomBack() async throws {
    let directory = try TemporaryDirectory("compact")
    let (keeper, caretaker) = try keeper(directory, CapturedLog())
    try await fill(keeper.store, 0..<200)
    for number in 0..<180 { try await keeper.store.delete(key: name(number)) }
    let before = keeper.store.statistics()
    await caretaker.compact()
    let after = keeper.store.statistics()
    #expect(after.totalSizeBytes < before.totalSizeBytes / 4, "\(before) \(after)")
    for number in 180..<200 {
      #expect(try await keeper.store.read(key: name(number))?.count == 10_000)
    }
    await keeper.stop()
  }

  /// A slave that a master can call.
  private struct ServedSlave {
    let directory: TemporaryDirectory
    let service: SlaveService
    let server: Server
    let channel: Channel

    init(on disk: any Disk = SystemDisk(), _ group: EventLoopGroup) throws {
      directory = try TemporaryDirectory("served")
      let logger = CapturedLog().logger
      service = try SlaveService(
        node: "scs-1", directory: directory.path("segments"), disk: disk,
        configuration: SlaveCareTests.configuration, care: SlaveCareTests.care, logger: logger)
      let network = InProcessNetwork()
      let address = Address(host: "scs-1", port: 1)
      var router = Router()
      service.register(on: &router)
      server = Server(
        inProcess: ServerConfiguration(address: address, cluster: "test"), router: router,
        group: group, logger: logger)
      try network.listen(
        server, as: Identity(cluster: "test", role: .slave, node: "scs-1")!, at: address)
      channel = network.channel(
        to: address, as: Identity(cluster: "test", role: .master, node: "mcs-1"),
        expecting: PeerExpectation(cluster: "test", role: .slave), group: group, logger: logger)
    }

    func put(_ body: [UInt8], named name: [UInt8]) async throws {
      let call = try await channel.open(
        SlaveCloudMethods.putShadow, CallOptions(timeout: .seconds(120)))
      var header = PutShadowHeader()
      header.name = name
      header.bodyBytes = UInt64(body.count)
      try await call.send(header)
      try await call.send(bulk: body)
      try await call.finishSending()
      _ = try await call.receiveOnly()
    }

    func stop() async {
      channel.close()
      await server.shutdown(graceMilliseconds: 1000)
      await service.stop()
    }
  }

  /// What a master sees of all this.
  @Test func theSlaveTells() async throws {
    let slave = try ServedSlave(EventLoopGroup(count: 1))
    let (directory, channel) = (slave.directory, slave.channel)
    for number in 0..<20 {
      try await slave.put(
        [UInt8](repeating: UInt8(number), count: 10_000), named: name(number))
    }
    try damage(directory.path("segments/0000000000000001.segment"), at: 15_000)
    let call = try await channel.open(
      SlaveCloudMethods.getShadow, CallOptions(timeout: .seconds(120)))
    var request = GetShadowRequest()
    request.name = name(1)
    try await call.sendLast(request)
    await #expect(throws: RPCError.self) { _ = try await call.receiveMessage() }
    var list = ListShadowsRequest()
    list.limit = 10
    let options = CallOptions(timeout: .seconds(120))
    #expect(
      try await channel.unary(SlaveCloudMethods.listBadShadows, list, options).names == [name(1)])
    let status = try await channel.unary(SlaveCloudMethods.slaveStatus, Empty(), options)
    #expect(status.badShadows == 1 && status.damages == 1 && status.shadows == 20)
    var deletion = DeleteShadowsRequest()
    deletion.names = [name(1)]
    #expect(
      try await channel.unary(SlaveCloudMethods.deleteShadows, deletion, options).deleted == 1)
    #expect(try await channel.unary(SlaveCloudMethods.listBadShadows, list, options).names == [])
    await slave.stop()
  }

  /// A disk may take its time to say how much is free, and other calls share the loop.
  @Test func aDiskIsAskedForItsRoomOutsideTheEventLoop() async throws {
    let group = EventLoopGroup(count: 1)
    let (asked, askedOnLoop) = (Locked(0), Locked(0))
    let disk = FillableDisk {
      asked.withLock { $0 += 1 }
      if group.loops[0].inLoop { askedOnLoop.withLock { $0 += 1 } }
    }
    disk.freeBytes = 3 << 30
    let slave = try ServedSlave(on: disk, group)
    try await slave.put([1, 2, 3], named: name(1))
    let status = try await slave.channel.unary(
      SlaveCloudMethods.slaveStatus, Empty(), CallOptions(timeout: .seconds(120)))
    #expect(status.freeBytes == 3 << 30 && status.shadows == 1)
    #expect(asked.withLock { $0 } == 2)
    #expect(askedOnLoop.withLock { $0 } == 0)
    await slave.stop()
  }

  @Test func aPassThatIsAskedForIsMadeThoughNoneIsDue() async throws {
    let directory = try TemporaryDirectory("asked")
    let (keeper, _) = try keeper(directory, CapturedLog())
    try await fill(keeper.store, 0..<20)
    var care = Self.care
    care.scrubBytesPerSecond = 1 << 40
    let caretaker = Caretaker(keeper: keeper, configuration: care, logger: CapturedLog().logger)
    while await caretaker.scrubIfDue(steps: 100) {}
    let first = keeper.scrub.withLock { $0.progress.lastFullMilliseconds }
    #expect(first > 0)
    keeper.scrub.withLock { $0.progress.lastFullMilliseconds = first - 1000 }
    #expect(await !caretaker.scrubIfDue(steps: 100))
    #expect(keeper.scrub.withLock { $0.progress.lastFullMilliseconds } == first - 1000)
    keeper.scrub.withLock { $0.isWanted = true }
    while await caretaker.scrubIfDue(steps: 100) {}
    #expect(keeper.scrub.withLock { $0.progress.lastFullMilliseconds } >= first)
    #expect(keeper.scrub.withLock { !$0.isWanted })
    await keeper.stop()
  }
}
