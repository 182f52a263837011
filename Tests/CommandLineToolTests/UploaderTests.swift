import Base
import Messages
import RPC
import Testing

@testable import CommandLineTool

/// An owner in memory that fails as it is told.
private final class FakeOwner: UploadTarget {
  struct State {
    var stored: [[UInt8]: String] = [:]
    var batches: [Int] = []
    var attempts: [String: Int] = [:]
    var running = 0
    var mostRunning = 0
  }
  let state = Locked(State())
  /// Errors of the first attempts at a file, in order.
  let failures: [String: [RPCError]]
  /// Stored by an attempt whose answer was lost, or by somebody else meanwhile.
  let foundThere: Set<String>

  init(failures: [String: [RPCError]] = [:], foundThere: Set<String> = []) {
    self.failures = failures
    self.foundThere = foundThere
  }

  func check(_ digests: [[UInt8]]) async throws -> [[UInt8]?] {
    state.withLock { state in
      state.batches.append(digests.count)
      return digests.map { state.stored[$0] == nil ? nil : Array($0.prefix(16)) }
    }
  }

  func store(
    _ item: UploadItem, tags: [TagEntry], progress: @escaping @Sendable (Int) -> Void
  ) async throws -> StoreImageReply {
    let name = Files.lastComponent(of: item.path)
    let attempt = state.withLock { state in
      state.running += 1
      state.mostRunning = max(state.mostRunning, state.running)
      state.attempts[name, default: 0] += 1
      return state.attempts[name]!
    }
    defer { state.withLock { $0.running -= 1 } }
    progress(Int(item.sizeBytes) / 2)
    await Task.yield()
    if let errors = failures[name], attempt <= errors.count { throw errors[attempt - 1] }
    progress(Int(item.sizeBytes) - Int(item.sizeBytes) / 2)
    let digest = try Files.digest(of: item.path).digest
    state.withLock { $0.stored[digest] = name }
    var reply = StoreImageReply()
    reply.imageID = Array(digest.prefix(16))
    reply.existed = foundThere.contains(name)
    return reply
  }
}

@Suite struct UploaderTests {
  private func items(_ scratch: ScratchFolder, _ texts: [String: String]) throws -> [UploadItem] {
    for (name, text) in texts { try scratch.write(text, name) }
    var collector = FileCollector(recursive: false)
    collector.add(scratch.path)
    return collector.items
  }

  private func statuses(_ outcomes: [UploadOutcome]) -> [String] {
    outcomes.map { UploadReport.line(of: $0).string("status") ?? "" }
  }

  @Test func whatIsStoredIsNotSentAgain() async throws {
    let scratch = try ScratchFolder()
    let items = try items(scratch, ["a": "1", "b": "2", "c": "1", "d": "4"])
    let owner = FakeOwner()
    let uploader = Uploader(target: owner, concurrency: 2, retryPauses: [])
    let first = await uploader.run(items)
    #expect(statuses(first) == ["stored", "stored", "duplicate", "stored"])
    #expect(first.map(\.item) == items)
    let second = await uploader.run(items)
    #expect(
      statuses(second) == ["already_stored", "already_stored", "duplicate", "already_stored"])
    #expect(owner.state.withLock { $0.attempts } == ["a": 1, "b": 1, "d": 1])
    #expect(owner.state.withLock { $0.mostRunning } <= 2)
    #expect(owner.state.withLock { $0.batches } == [3, 3])
  }

  @Test func passingFailuresAreTriedAgainAndOthersAreNot() async throws {
    let scratch = try ScratchFolder()
    let items = try items(scratch, ["a": "1", "b": "22", "c": "333", "d": "4444"])
    let owner = FakeOwner(failures: [
      "a": [
        RPCError(.unavailable, "starting"),
        RPCError(.resourceExhausted, "busy", reason: "QueueFull"),
      ],
      "b": [RPCError(.invalidArgument, "not a picture", reason: "UndecodableImage")],
      "d": [RPCError(.resourceExhausted, "too large", reason: "ImageTooLarge")],
    ])
    let progress = Locked(ProgressState())
    let uploader = Uploader(
      target: owner, concurrency: 4, retryPauses: [.zero, .zero],
      progress: { change in progress.withLock { change(&$0) } })
    let outcomes = await uploader.run(items)
    #expect(statuses(outcomes) == ["stored", "failed", "stored", "failed"])
    #expect(owner.state.withLock { $0.attempts } == ["a": 3, "b": 1, "c": 1, "d": 1])
    guard case .failed(let failure) = outcomes[1].result else {
      Issue.record("the second file did not fail")
      return
    }
    #expect(failure.status == .badInput)
    #expect(failure.advice.contains("nothing of it was stored"))
    #expect(failure.message == "storing \(items[1].path): not a picture")
    let state = progress.withLock { $0 }
    #expect(state.filesDone == 4)
    #expect(state.filesFailed == 2)
    #expect(state.bytesDone == state.bytesTotal)
    #expect(state.bytesTotal == 10)
  }

  @Test func anOwnerThatIsGoneEndsTheUpload() async throws {
    let scratch = try ScratchFolder()
    let texts = Dictionary(uniqueKeysWithValues: (10..<20).map { ("f\($0)", "\($0)") })
    let items = try items(scratch, texts)
    let gone = Array(repeating: RPCError(.unavailable, "gone"), count: 9)
    let owner = FakeOwner(failures: ["f12": gone])
    let outcomes = await Uploader(target: owner, concurrency: 1, retryPauses: [.zero]).run(items)
    #expect(
      statuses(outcomes)
        == ["stored", "stored", "failed"] + Array(repeating: "not_tried", count: 7))
    let report = UploadReport(outcomes: outcomes, unreadable: [], seconds: 2)
    #expect(!report.allStored)
    #expect(report.summary == "10 files: 2 stored, 1 failed, 7 not tried; 4 B in 2.0 s (2 B/s)")
  }

  /// The sums say what the lines say.
  @Test func whatIsFoundThereIsCountedSo() async throws {
    let scratch = try ScratchFolder()
    let items = try items(scratch, ["a": "1", "b": "22", "c": "333"])
    let outcomes = await Uploader(
      target: FakeOwner(foundThere: ["b"]), concurrency: 1, retryPauses: []
    ).run(items)
    #expect(statuses(outcomes) == ["stored", "already_stored", "stored"])
    let report = UploadReport(outcomes: outcomes, unreadable: [], seconds: 1)
    #expect((report.stored, report.alreadyStored) == (2, 1))
    #expect(report.bytes == 4)
    #expect(report.allStored)
  }

  @Test func aFileThatVanishesFailsAlone() async throws {
    let scratch = try ScratchFolder()
    let items = try items(scratch, ["a": "1", "b": "2"])
    try Files.removeTree("\(scratch.path)/a")
    let heard = Locked<[String]>([])
    let outcomes = await Uploader(target: FakeOwner(), concurrency: 4, retryPauses: [])
      .run(items) { outcome in
        heard.withLock { $0.append(UploadReport.line(of: outcome).string("status")!) }
      }
    #expect(statuses(outcomes) == ["failed", "stored"])
    #expect(heard.withLock { $0.sorted() } == ["failed", "stored"])
    let report = UploadReport(outcomes: outcomes, unreadable: [], seconds: 1)
    #expect(report.failures.map(\.failure.status) == [.notFound])
    #expect(report.onlyFailure == nil)
  }

  @Test func batchesAreBounded() {
    func item(_ bytes: UInt64) -> UploadItem { UploadItem(path: "p", sizeBytes: bytes) }
    typealias Tested = Uploader<FakeOwner>
    let many = Tested.batches(Array(repeating: item(1), count: 600))
    #expect(many.map(\.count) == [256, 256, 88])
    let large = Tested.batches([item(200 << 20), item(100 << 20), item(1 << 40), item(1)])
    #expect(large.map(\.count) == [1, 1, 1, 1])
    #expect(Tested.batches([]).isEmpty)
  }
}
