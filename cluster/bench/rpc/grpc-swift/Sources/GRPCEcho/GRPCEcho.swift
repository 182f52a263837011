// The Swift peer of `make bench-rpc`: a unary echo on gRPC Swift 2 with mutual TLS.
//
//   grpc-swift-echo serve --port 0 --certs DIR [--tuned 1]
//   grpc-swift-echo load  --port P --certs DIR --payload N --concurrency C --seconds S --warmup W
//                         [--connections K] [--tuned 1]
//   grpc-swift-echo idle  --port P --certs DIR --connections N [--tuned 1]
//
// Messages are raw bytes: no protobuf on either side. --tuned 1 replaces the transport's defaults
// by 16 MiB windows, 1 MiB frames and no coalescing of flushes, which suits large messages.
import BenchSupport
import GRPCCore
import GRPCNIOTransportHTTP2Posix

struct RawSerializer: MessageSerializer {
  func serialize<Bytes: GRPCContiguousBytes>(_ message: [UInt8]) throws -> Bytes { Bytes(message) }
}

struct RawDeserializer: MessageDeserializer {
  func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> [UInt8] {
    bytes.withUnsafeBytes { [UInt8]($0) }
  }
}

let maximumMessageBytes = 16 << 20
let echoMethod = MethodDescriptor(
  service: ServiceDescriptor(fullyQualifiedService: "bench.Echo"), method: "Echo")

struct EchoService: RegistrableRPCService {
  func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
    router.registerHandler(
      forMethod: echoMethod, deserializer: RawDeserializer(), serializer: RawSerializer()
    ) { request, _ in
      let message = try await ServerRequest(stream: request).message
      return StreamingServerResponse(single: ServerResponse(message: message))
    }
  }
}

/// What `--tuned 1` sets on either side.
enum Tuning {
  static let windowBytes = 16 << 20
  static let frameBytes = 1 << 20
}

@main
enum GRPCEcho {
  static func main() async throws {
    var options = Options(CommandLine.arguments)
    switch options.command {
    case "serve":
      try await serve(&options)
    case "load":
      let load = Load(&options)
      let tuned = options.count("tuned", in: 0...1, default: 0) == 1
      options.done()
      try await run(load, tuned: tuned)
    case "idle":
      try await idle(&options)
    default:
      fail("usage: serve|load|idle --name value ...")
    }
  }

  static func serve(_ options: inout Options) async throws {
    let port = options.count("port", in: 0...65535)
    let certificates = options.text("certs")
    let tuned = options.count("tuned", in: 0...1, default: 0) == 1
    options.done()
    let transport = HTTP2ServerTransport.Posix(
      address: .ipv4(host: "127.0.0.1", port: port),
      transportSecurity: .mTLS(
        certificateChain: [.file(path: "\(certificates)/server.pem", format: .pem)],
        privateKey: .file(path: "\(certificates)/server.key", format: .pem)
      ) {
        $0.trustRoots = .certificates([.file(path: "\(certificates)/ca.pem", format: .pem)])
      },
      config: .defaults {
        $0.rpc.maxRequestPayloadSize = maximumMessageBytes
        if tuned {
          $0.http2.targetWindowSize = Tuning.windowBytes
          $0.http2.maxFrameSize = Tuning.frameBytes
          $0.connection.flushCoalescing = nil
        }
      })
    let server = GRPCServer(transport: transport, services: [EchoService()])
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.serve() }
      guard let address = try await transport.listeningAddress.ipv4 else {
        fail("not listening on IPv4")
      }
      announce("listening \(address.port)")
      try await group.waitForAll()
    }
  }

  static func run(_ load: Load, tuned: Bool) async throws {
    let clients = try (0..<load.connections).map { _ in
      try EchoClient(port: load.port, certificates: load.certificates, tuned: tuned)
    }
    let request = [UInt8](repeating: 0x5a, count: load.payloadBytes)
    try await withThrowingTaskGroup(of: Void.self) { connections in
      for client in clients { connections.addTask { try await client.run() } }
      // Connects before the clock runs, and says why where that cannot be.
      for client in clients { try await client.call([0]) }

      let window = load.window()
      let processor = processorNanoseconds()
      let callers = await withTaskGroup(of: CallerResult.self) { group in
        for index in 0..<load.concurrency {
          let client = clients[index % clients.count]
          group.addTask { await client.callRepeatedly(request, until: window) }
        }
        return await group.reduce(into: []) { $0.append($1) }
      }
      load.report(
        latencies: callers.flatMap(\.latencies),
        errors: callers.reduce(0) { $0 + $1.errors },
        processorNanoseconds: processorNanoseconds() - processor)
      for client in clients { client.close() }
      try await connections.waitForAll()
    }
  }

  /// One small call proves each connection; then they are held, idle, until the input closes.
  static func idle(_ options: inout Options) async throws {
    let port = options.count("port", in: 1...65535)
    let certificates = options.text("certs")
    let count = options.count("connections", in: 1...100_000)
    let tuned = options.count("tuned", in: 0...1, default: 0) == 1
    options.done()
    let clients = try (0..<count).map { _ in
      try EchoClient(port: port, certificates: certificates, tuned: tuned)
    }
    try await withThrowingTaskGroup(of: Void.self) { connections in
      for client in clients {
        connections.addTask { try await client.run() }
        try await client.call([0])
      }
      announce("ready \(count)")
      waitForEndOfInput()
      for client in clients { client.close() }
      try await connections.waitForAll()
    }
  }
}
