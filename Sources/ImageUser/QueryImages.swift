import ImagePipeline
import Imaging
import Logging
import Messages
import RPC

extension ImageUser {
  typealias QueryCall = ServerCall<QueryImagesHeader, QueryResult>

  /// A search that the master has begun to answer; nil: no image is stored.
  struct Search: Sendable {
    let call: ClientCall<SearchImagesRequest, SearchResult>
    let first: SearchResult?
  }

  func queryImages(_ call: QueryCall) async throws {
    let header = try await call.receiveMessage()
    guard (1...ImageUserLimits.maximumCount).contains(header.count) else {
      throw RPCError(
        .invalidArgument,
        "\(header.count) results were asked for, 1 to \(ImageUserLimits.maximumCount) are given")
    }
    var request = SearchImagesRequest()
    request.codes = try await codes(of: call, header)
    request.count = header.count
    request.withImages = header.withImages
    request.maximumAgeMilliseconds = header.maximumAgeMilliseconds
    let search = try await begin(request, call.context)
    let relay = ResultRelay(user: self, search: search, withImages: header.withImages)
    let sent = try await relay.run(to: call)
    logger.info("query answered", metadata: ["results": "\(sent)"])
  }

  /// Receives the query picture and gives its codes; nothing of it is kept.
  private func codes(
    of call: QueryCall, _ header: QueryImagesHeader
  ) async throws -> [MaskedCode] {
    guard header.fileBytes <= UInt64(limits.maximumImageBytes) else {
      throw PipelineError.imageTooLarge(
        sizeBytes: header.fileBytes, maximumBytes: limits.maximumImageBytes)
    }
    let memory = try await imagesInMemory.enter(sizeBytes: Int(header.fileBytes))
    defer { memory.leave() }
    let bytes = try await call.receiveBulk(
      count: header.fileBytes, maximum: limits.maximumImageBytes)
    let place = try await computing.enter()
    defer { place.leave() }
    let maker = CodeMaker(model: model, keys: keys.ring)
    return try await offload {
      try maker.codesForSearch(of: ImageDecoder.picture(of: bytes).image)
    }
  }

  /// Up to the first result, after which repeating would repeat results.
  private func begin(
    _ request: SearchImagesRequest, _ context: CallContext
  ) async throws -> Search {
    try await reads.ask(
      maximumAgeMilliseconds: request.maximumAgeMilliseconds, within: context
    ) { master in
      let call = try await master.open(
        MasterCloudMethods.searchImages, CallOptions(within: context))
      try await call.sendLast(request)
      return Search(call: call, first: try await call.receiveMessage())
    }
  }
}
