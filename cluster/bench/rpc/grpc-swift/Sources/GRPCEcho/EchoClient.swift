import BenchSupport
import GRPCCore
import GRPCNIOTransportHTTP2Posix

struct CallerResult {
  /// Of the counted calls, in nanoseconds.
  var latencies: [UInt64] = []
  var errors = 0
}

/// One connection to the echo server.
struct EchoClient: Sendable {
  private let client: GRPCClient<HTTP2ClientTransport.Posix>
  private let callOptions: CallOptions
  /// A caller that only fails stops then instead of spinning until its time is up.
  private static let maximumErrors = 100

  init(port: Int, certificates: String, tuned: Bool) throws {
    client = GRPCClient(
      transport: try HTTP2ClientTransport.Posix(
        target: .ipv4(address: "127.0.0.1", port: port),
        transportSecurity: .mTLS(
          certificateChain: [.file(path: "\(certificates)/client.pem", format: .pem)],
          privateKey: .file(path: "\(certificates)/client.key", format: .pem)
        ) {
          $0.trustRoots = .certificates([.file(path: "\(certificates)/ca.pem", format: .pem)])
        },
        config: .defaults {
          $0.http2.authority = "localhost"
          if tuned {
            $0.http2.targetWindowSize = Tuning.windowBytes
            $0.http2.maxFrameSize = Tuning.frameBytes
            $0.connection.flushCoalescing = nil
          }
        }))
    var callOptions = CallOptions.defaults
    callOptions.maxRequestMessageBytes = maximumMessageBytes
    callOptions.maxResponseMessageBytes = maximumMessageBytes
    self.callOptions = callOptions
  }

  /// Keeps the connection up until `close`.
  func run() async throws { try await client.runConnections() }

  func close() { client.beginGracefulShutdown() }

  func call(_ message: [UInt8]) async throws {
    let count = try await client.unary(
      request: ClientRequest(message: message), descriptor: echoMethod,
      serializer: RawSerializer(), deserializer: RawDeserializer(), options: callOptions
    ) { try $0.message.count }
    guard count == message.count else {
      throw RPCError(code: .dataLoss, message: "\(count) of \(message.count) bytes came back")
    }
  }

  /// One caller of the closed loop.
  func callRepeatedly(_ message: [UInt8], until window: Window) async -> CallerResult {
    var result = CallerResult()
    result.latencies.reserveCapacity(1 << 14)
    while result.errors < Self.maximumErrors {
      let start = monotonicNanoseconds()
      if start >= window.end { break }
      do {
        try await call(message)
      } catch {
        result.errors += 1
        continue
      }
      let end = monotonicNanoseconds()
      if window.counts(end) { result.latencies.append(end - start) }
    }
    return result
  }
}
