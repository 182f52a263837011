import Messages
import RPC

/// A call of a method whose types are known by reflection only.
struct DynamicCall: Sendable {
  let method: MethodDescription
  let schema: Schema
  /// JSON objects, at most one where the request does not stream.
  var requests: [JSONValue]
  /// A file whose bytes follow the messages.
  var bulkPath: String?
  var givesZeros = false

  /// What comes back, in its order.
  enum Answer: Sendable {
    case message(JSONObject)
    case bulk([UInt8])
  }

  /// - Throws: `CommandFailure`, `RPCError`, `FileError`, and what `take` throws, which ends the call.
  func perform(
    on channel: Channel, _ options: CallOptions, take: (Answer) throws -> Void
  ) async throws {
    let messages = try encoded()
    let call = try await channel.open(
      UntypedMethod(
        method.fullName, clientStreams: method.clientStreams, serverStreams: method.serverStreams),
      options)
    // At the same time: a server may answer before it has read all, and wait until that is taken.
    async let sending = Self.send(messages, bulkPath, over: call)
    do {
      try await receive(call, take)
    } catch {
      call.cancel()
      // Where sending failed the call was cancelled, and the cause is what to tell.
      if (error as? RPCError)?.code == .cancelled, let cause = await sending { throw cause }
      throw error
    }
  }

  private func encoded() throws -> [RawMessage] {
    guard method.clientStreams || (requests.count == 1 && bulkPath == nil) else {
      throw CommandFailure(
        .usage, "\(method.fullName) takes one message and no bulk",
        advice: "'sfmedir rpc describe \(method.fullName)' shows what it takes")
    }
    let encoder = MessageEncoder(schema: schema)
    return try requests.map { request in
      do {
        return try RawMessage(encoder.encode(request, as: method.requestType))
      } catch {
        throw CommandFailure(
          .badInput, "the message: \(error)",
          advice: "'sfmedir rpc describe \(method.requestType)' shows its fields",
          code: "BAD_MESSAGE")
      }
    }
  }

  /// Nil where everything was sent.
  private static func send(
    _ messages: [RawMessage], _ bulkPath: String?, over call: ClientCall<RawMessage, RawMessage>
  ) async -> (any Error)? {
    do {
      guard let bulkPath else {
        for message in messages.dropLast() { try await call.send(message) }
        if let last = messages.last {
          try await call.sendLast(last)
        } else {
          try await call.finishSending()
        }
        return nil
      }
      let sizeBytes = try FileReader(bulkPath).sizeBytes
      for message in messages { try await call.send(message) }
      try await call.sendFile(bulkPath, sizeBytes: sizeBytes)
      return nil
    } catch {
      call.cancel()
      return error
    }
  }

  private func receive(
    _ call: ClientCall<RawMessage, RawMessage>, _ take: (Answer) throws -> Void
  ) async throws {
    var decoder = MessageDecoder(schema: schema)
    decoder.givesZeros = givesZeros
    var messages = 0
    while let part = try await call.receive() {
      switch part {
      case .bulk(let bytes): try take(.bulk(bytes))
      case .message(let message):
        messages += 1
        do {
          try take(.message(decoder.decode(message.bytes, as: method.replyType)))
        } catch let error as CodecError {
          throw CommandFailure(
            .internalError, "answer \(messages) of \(method.fullName): \(error)",
            advice: "the log of the daemon that was called has the details", code: "BAD_ANSWER")
        }
      }
    }
    guard method.serverStreams || messages == 1 else {
      throw RPCError(.internalError, "\(messages) messages came back where one was due")
    }
  }
}

/// The messages of `--json-in`.
enum JSONInput {
  static let limitBytes = 4 << 20

  /// One JSON value; where `several` are taken also one a line, or none.
  static func messages(_ bytes: [UInt8], several: Bool) throws(CommandFailure) -> [JSONValue] {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw failure("it is not UTF-8")
    }
    let lines = text.split(whereSeparator: \.isNewline).filter { line in
      !line.allSatisfy(\.isWhitespace)
    }
    if several && lines.isEmpty { return [] }
    do throws(JSONError) {
      return [try JSONValue(parsing: text)]
    } catch {
      guard several, lines.count > 1 else { throw failure("\(error)") }
    }
    var values: [JSONValue] = []
    for (index, line) in lines.enumerated() {
      do throws(JSONError) {
        values.append(try JSONValue(parsing: String(line)))
      } catch {
        throw failure("line \(index + 1): \(error)")
      }
    }
    return values
  }

  private static func failure(_ problem: String) -> CommandFailure {
    CommandFailure(
      .badInput, "the JSON given is none: \(problem)",
      advice: "a message is one object, for instance '{\"imageId\": \"AAEC\"}'", code: "BAD_JSON")
  }
}
