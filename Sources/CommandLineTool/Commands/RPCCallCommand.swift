import ArgumentParser
import Base
import Glibc
import Messages
import RPC

struct RPCCallCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "call",
    abstract: "Call any method of any daemon, with JSON in and JSON out.",
    discussion: """
      JSON is protobuf's: names of fields in lowerCamelCase or as the schema has them, integers of 64 \
      bits as texts, bytes as base64, values of enumerations by name. Each answer is one line. Where \
      no daemon is named, the one that offers the method is called.

      Raw bytes travel beside messages: those of --bulk-in follow the messages, and the message has to \
      announce their number; those that come back are written to --bulk-out, or counted.

      EXAMPLE
        sfmedir rpc call MasterCloud/ClusterStatus --node mcs-1
        sfmedir rpc call KeyControl/RotateKey --json-in '{"kind": "KEY_KIND_IMAGE"}'
        sfmedir rpc call Health/Watch --node mcs --timeout 60

      JSON: a line {"type":"reply"} for each answer with message; {"type":"bulk"} with bytes for what \
      came behind it; at the end one {"type":"call"} with role, node, address, method, replies, \
      bulk_bytes, milliseconds.

      Exit codes: 0 the call ended well; 64 no such shape; 65 the JSON does not fit the method; \
      66 no such method; that of the call's status otherwise; see docs/command-line.md.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions
  @OptionGroup var daemon: DaemonOptions

  @Argument(help: "The method, in full or by its end.") var method: String

  @Option(
    help: ArgumentHelp(
      "The request: a file, - for standard input, or the object itself; several, one a line, where the request streams (default: {}).",
      valueName: "file|-|{...}"))
  var jsonIn: String?

  @Option(help: ArgumentHelp("A file to send behind the messages.", valueName: "file"))
  var bulkIn: String?

  @Option(help: ArgumentHelp("Where to write raw bytes that come back.", valueName: "file"))
  var bulkOut: String?

  @Option(
    name: .customLong("metadata"),
    help: ArgumentHelp("Metadata of the call; may be repeated.", valueName: "key=value"))
  var metadataTexts: [String] = []

  @Flag(help: "Print also fields whose value is zero or empty.") var zeros = false

  func validate() throws {
    _ = try Self.metadata(metadataTexts)
  }

  static func metadata(_ texts: [String]) throws -> [MetadataEntry] {
    try texts.map { text in
      guard let equals = text.firstIndex(of: "="), equals != text.startIndex else {
        throw ValidationError("--metadata is key=value, not '\(text)'")
      }
      var entry = MetadataEntry()
      entry.key = String(text[..<equals])
      entry.value = Array(text[text.index(after: equals)...].utf8)
      return entry
    }
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    if let bulkOut, Files.exists(bulkOut) {
      throw CommandFailure(
        .inputOutput, "\(bulkOut) exists and is not overwritten",
        advice: "move it away, or write elsewhere", code: "FILE_EXISTS")
    }
    let input = try Self.input(jsonIn)
    let timeout = connection.timeouts.small
    let directory = DaemonDirectory(cluster: try await connection.connect(output), timeout: timeout)
    let (target, description) = try await find(in: directory)
    let schema = try await target.schema(
      of: [description.requestType, description.replyType], timeout: timeout)
    var call = DynamicCall(
      method: description, schema: schema,
      requests: try JSONInput.messages(input, several: description.clientStreams))
    call.bulkPath = bulkIn
    call.givesZeros = zeros
    try await perform(call, on: target, output)
    return .success
  }

  private func find(
    in directory: DaemonDirectory
  ) async throws -> (DaemonTarget, MethodDescription) {
    let timeout = directory.timeout
    let targets = try await directory.targets(daemon, everySlave: true)
    let answers = await DaemonDirectory.ask(targets) { (target) async throws(RPCError) in
      try await target.methods(timeout: timeout)
    }
    guard let found = try DaemonDirectory.find(method, in: answers, mustBeOne: true) else {
      throw DaemonDirectory.nothing(named: method, "method", answers)
    }
    return found
  }

  private func perform(
    _ call: DynamicCall, on target: DaemonTarget, _ output: Output
  ) async throws {
    let streams = call.method.clientStreams || call.method.serverStreams
    let size = try bulkIn.map { path in try FileReader(path).sizeBytes } ?? 0
    var options = CallOptions(
      timeout: streams
        ? connection.timeouts.transfer(sizeBytes: size) : connection.timeouts.small)
    options.metadata = try Self.metadata(metadataTexts)
    let start = SystemClock().monotonicNanoseconds()
    var printer = AnswerPrinter(output: output)
    let file = try bulkOut.map { path in try AtomicFile(path) }
    do {
      try await call.perform(on: target.channel, options) { answer in
        if case .bulk(let bytes) = answer { try file?.write(bytes) }
        printer.take(answer)
      }
    } catch {
      printer.finishBulk()
      throw Self.failure(error, call.method, target)
    }
    printer.finishBulk()
    try file?.commit(replacing: false)
    let elapsed = SystemClock().monotonicNanoseconds() - start
    var line: JSONObject = ["type": "call", "method": .string(call.method.fullName)]
    target.add(to: &line)
    line["replies"] = JSONValue(printer.replies)
    line["bulk_bytes"] = JSONValue(printer.bulkBytes)
    line["milliseconds"] = JSONValue(Double(elapsed) / 1e6)
    output.emit(line)
  }

  private static func failure(
    _ error: any Error, _ method: MethodDescription, _ target: DaemonTarget
  ) -> CommandFailure {
    var failure = CommandFailure(error, during: "calling \(method.fullName) at \(target.title)")
    // The usual advice is about images and daemons' own calls.
    switch (error as? RPCError)?.code {
    case .notFound: failure.advice = ""
    case .permissionDenied: failure.advice = "the method is for the roles \(method.callers)"
    default: break
    }
    return failure
  }

  /// The bytes of `--json-in`.
  private static func input(_ source: String?) throws -> [UInt8] {
    guard let source else { return Array("{}".utf8) }
    if source.drop(while: \.isWhitespace).hasPrefix("{") { return Array(source.utf8) }
    if source != "-" { return try Files.contents(of: source, limitBytes: JSONInput.limitBytes) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = read(STDIN_FILENO, &buffer, buffer.count)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw FileError("read", "standard input") }
      if count == 0 { return bytes }
      bytes += buffer[..<count]
      guard bytes.count <= JSONInput.limitBytes else {
        throw FileError("read", "standard input", number: EFBIG)
      }
    }
  }
}

/// Prints what comes back, each message when it comes, the bytes behind it once they are all there.
struct AnswerPrinter {
  let output: Output
  private(set) var replies = 0
  private(set) var bulkBytes: UInt64 = 0
  private var untoldBytes: UInt64 = 0

  init(output: Output) { self.output = output }

  mutating func take(_ answer: DynamicCall.Answer) {
    switch answer {
    case .bulk(let bytes):
      bulkBytes += UInt64(bytes.count)
      untoldBytes += UInt64(bytes.count)
    case .message(let message):
      finishBulk()
      replies += 1
      output.emit(["type": "reply", "message": .object(message)])
      output.print(message.line)
    }
  }

  mutating func finishBulk() {
    guard untoldBytes > 0 else { return }
    output.emit(["type": "bulk", "bytes": JSONValue(untoldBytes)])
    output.remark("\(Units.bytes(untoldBytes)) of raw bytes behind answer \(replies)")
    untoldBytes = 0
  }
}
