import ArgumentParser
import CAllocationCount
import RPC

struct Allocations: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Count allocations of a unary call in the steady state, both sides; one JSON line.",
    discussion: "1 KiB there and back over mutual TLS; the caller runs on its channel's loop.")

  @OptionGroup var certificates: CertificateFolder
  @Option(help: "Calls that count, one after the other.") var calls = 20_000

  func run() async throws {
    let serving = EventLoopGroup(count: 1)
    let calling = EventLoopGroup(count: 1)
    let server = try EchoService.server(try certificates.server(), port: 0, group: serving)
    let channel = EchoService.channel(
      try certificates.client(), port: server.port, group: calling)
    let body = [UInt8](repeating: 1, count: 1024)
    let count = max(1, calls)
    try await Task(executorPreference: channel.executor) {
      for _ in 0..<2000 { try await Load.echo(body, channel) }
      sfm_allocation_counting(1)
      for _ in 0..<count { try await Load.echo(body, channel) }
      sfm_allocation_counting(0)
    }.value
    let client = await Self.allocations(on: calling.loops[0])
    let service = await Self.allocations(on: serving.loops[0])
    func each(_ total: UInt64) -> Double { (Double(total) / Double(count) * 100).rounded() / 100 }
    print(
      #"{"calls": \#(count), "client_allocations_per_call": \#(each(client)), "#
        + #""server_allocations_per_call": \#(each(service))}"#)
    await server.shutdown(graceMilliseconds: 100)
  }

  private static func allocations(on loop: EventLoop) async -> UInt64 {
    await withCheckedContinuation { done in
      loop.execute { done.resume(returning: sfm_allocations_of_this_thread()) }
    }
  }
}
