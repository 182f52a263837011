// The floor of `make bench-rpc`: frames of a length, a call's number and a payload, echoed on
// SwiftNIO's event loops over mutual TLS 1.3. No HTTP/2, no async handler, no flow control: what a
// real RPC costs more than this is what its features cost.
//
//   nio-echo serve --port 0 --certs DIR
//   nio-echo load  --port P --certs DIR --payload N --concurrency C --seconds S --warmup W
//                  [--connections K]
//   nio-echo idle  --port P --certs DIR --connections N
import BenchSupport
import NIOCore
import NIOPosix
import NIOSSL

@main
enum NIOEcho {
  static func main() async throws {
    var options = Options(CommandLine.arguments)
    switch options.command {
    case "serve":
      try await serve(&options)
    case "load":
      let load = Load(&options)
      options.done()
      try await run(load)
    case "idle":
      try await idle(&options)
    default:
      fail("usage: serve|load|idle --name value ...")
    }
  }

  static func serve(_ options: inout Options) async throws {
    let port = options.count("port", in: 0...65535)
    let tls = try tlsContext("server", certificates: options.text("certs"))
    options.done()
    let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .serverChannelOption(.backlog, value: 1024)
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandlers([
            NIOSSLServerHandler(context: tls), EchoHandler(),
          ])
        }
      }
      .bind(host: "127.0.0.1", port: port).get()
    guard let bound = channel.localAddress?.port else { fail("not listening") }
    announce("listening \(bound)")
    try await channel.closeFuture.get()
  }

  static func run(_ load: Load) async throws {
    let tls = try tlsContext("client", certificates: load.certificates)
    // The handshakes fall into the warm-up.
    let window = load.window()
    let processor = processorNanoseconds()
    var results: [EventLoopFuture<CallerResult>] = []
    for index in 0..<load.connections {
      let (share, rest) = load.concurrency.quotientAndRemainder(dividingBy: load.connections)
      let callers = share + (index < rest ? 1 : 0)
      let loop = MultiThreadedEventLoopGroup.singleton.next()
      let done = loop.makePromise(of: CallerResult.self)
      results.append(done.futureResult)
      _ = try await connect(port: load.port, tls: tls, on: loop) {
        LoadHandler(callers: callers, payloadBytes: load.payloadBytes, window: window, done: done)
      }
    }
    var latencies: [UInt64] = []
    var errors = 0
    for result in results {
      let caller = try await result.get()
      latencies += caller.latencies
      errors += caller.errors
    }
    load.report(
      latencies: latencies, errors: errors,
      processorNanoseconds: processorNanoseconds() - processor)
  }

  /// One small call proves each connection; then they are held, idle, until the input closes.
  static func idle(_ options: inout Options) async throws {
    let port = options.count("port", in: 1...65535)
    let tls = try tlsContext("client", certificates: options.text("certs"))
    let count = options.count("connections", in: 1...100_000)
    options.done()
    for _ in 0..<count {
      let loop = MultiThreadedEventLoopGroup.singleton.next()
      let answered = loop.makePromise(of: Void.self)
      _ = try await connect(port: port, tls: tls, on: loop) { ProbeHandler(answered: answered) }
      try await answered.futureResult.get()
    }
    announce("ready \(count)")
    waitForEndOfInput()
  }

  private static func connect(
    port: Int, tls: NIOSSLContext, on loop: any EventLoop,
    handler: @escaping @Sendable () -> any ChannelHandler
  ) async throws -> any Channel {
    try await ClientBootstrap(group: loop)
      .channelOption(.tcpOption(.tcp_nodelay), value: 1)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandlers([
            NIOSSLClientHandler(context: tls, serverHostname: "localhost"), handler(),
          ])
        }
      }
      .connect(host: "127.0.0.1", port: port).get()
  }

  private static func tlsContext(_ name: String, certificates: String) throws -> NIOSSLContext {
    let chain = try NIOSSLCertificate.fromPEMFile("\(certificates)/\(name).pem")
      .map { NIOSSLCertificateSource.certificate($0) }
    let key = NIOSSLPrivateKeySource.privateKey(
      try NIOSSLPrivateKey(file: "\(certificates)/\(name).key", format: .pem))
    var configuration: TLSConfiguration
    if name == "server" {
      configuration = .makeServerConfiguration(certificateChain: chain, privateKey: key)
      configuration.certificateVerification = .noHostnameVerification
    } else {
      configuration = .makeClientConfiguration()
      configuration.certificateChain = chain
      configuration.privateKey = key
    }
    configuration.minimumTLSVersion = .tlsv13
    configuration.trustRoots = .file("\(certificates)/ca.pem")
    return try NIOSSLContext(configuration: configuration)
  }
}
