import ImagePipeline
import Messages
import RPC

/// Hands the results of one search on in their order: while one is opened and sent, the next ones
/// are received, a bounded number of them.
struct ResultRelay: Sendable {
  let user: ImageUser
  let search: ImageUser.Search
  let withImages: Bool

  /// A result as it came, with its place in the pipeline.
  private struct Arrived: Sendable {
    var reply: QueryResult
    /// The encrypted image and what opens it, where there is one.
    var sealed: (bytes: [UInt8], record: OpenedRecord, opener: ImageOpener)?
    let place: AdmissionPass
    var memory: AdmissionPass?
  }

  /// Returns how many results were sent.
  func run(to call: ImageUser.QueryCall) async throws -> Int {
    let (arrivals, arrived) = AsyncThrowingStream.makeStream(of: Arrived.self)
    return try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        // What was read before the master failed still goes out, then the failure.
        do {
          try await receiveAll(arrived)
          arrived.finish()
        } catch {
          arrived.finish(throwing: error)
        }
      }
      var sent = 0
      for try await result in arrivals {
        let (reply, file) = try await opened(result)
        try await call.send(reply)
        try await call.send(inPieces: file)
        result.memory?.leave()
        result.place.leave()
        sent += 1
      }
      // A cancelled iteration ends like a complete one.
      try Task.checkCancellation()
      return sent
    }
  }

  private func receiveAll(
    _ arrived: AsyncThrowingStream<Arrived, any Error>.Continuation
  ) async throws {
    let pipeline = AdmissionGate(
      name: "results in work", places: ImageUserLimits.resultsInWork, bytes: 1, queueLimit: 1)
    var next = search.first
    while let result = next {
      let place = try await pipeline.enter()
      arrived.yield(try await receive(result, place))
      next = try await search.call.receiveMessage()
    }
  }

  /// What cannot be fetched or opened becomes a result that says so; the stream goes on after it.
  private func receive(_ result: SearchResult, _ place: AdmissionPass) async throws -> Arrived {
    guard let record = result.record else {
      throw RPCError(.internalError, "the master sent a result without a record")
    }
    var reply = QueryResult()
    reply.rank = result.rank
    reply.distance = result.distance
    reply.imageID = record.imageID
    reply.owner = record.owner
    if result.imageStatus != 0 {
      reply.imageStatus = result.imageStatus
      reply.problem = problem(of: result)
    }
    let opener = await user.opener(for: record)
    let opened = Result { () throws(PipelineError) in try opener.open(record) }
    var arrived = Arrived(reply: reply, place: place)
    let imageFollows = withImages && result.imageStatus == 0
    do {
      let record = try opened.get()
      arrived.reply.tags = record.tags
      guard imageFollows else { return arrived }
      guard record.sealedBytes <= UInt64(user.maximumSealedBytes) else {
        throw PipelineError.imageTooLarge(
          sizeBytes: record.sealedBytes, maximumBytes: user.maximumSealedBytes)
      }
      arrived.memory = try await user.enterMemory(sealedBytes: record.sealedBytes)
      let bytes = try await search.call.receiveBulk(
        count: record.sealedBytes, maximum: user.maximumSealedBytes)
      arrived.sealed = (bytes, record, opener)
    } catch let error as PipelineError {
      arrived.reply.set(error)
      if imageFollows { try await search.call.skipBulk(count: record.sealedBytes) }
    }
    return arrived
  }

  private func problem(of result: SearchResult) -> String {
    let message = result.imageMessage.isEmpty ? "the master has no reason" : result.imageMessage
    return result.imageReason.isEmpty ? message : "\(message) (\(result.imageReason))"
  }

  /// The reply with the original behind it, or without it and with the reason.
  private func opened(_ arrived: Arrived) async throws -> (QueryResult, file: [UInt8]) {
    var reply = arrived.reply
    guard let sealed = arrived.sealed else { return (reply, []) }
    do {
      let file = try await offload {
        try sealed.opener.file(from: sealed.bytes, of: sealed.record)
      }
      reply.fileBytes = UInt64(file.count)
      return (reply, file)
    } catch let error as PipelineError {
      reply.set(error)
      return (reply, [])
    }
  }
}

extension QueryResult {
  fileprivate mutating func set(_ error: PipelineError) {
    let answer = error.rpcError
    imageStatus = answer.code.rawValue
    problem = answer.reason.isEmpty ? answer.message : "\(answer.message) (\(answer.reason))"
  }
}
