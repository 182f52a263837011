import ArgumentParser
import RPC

/// The RPC alone, as a server and as its load: speed, memory, allocations, endurance.
@main
struct RPCBench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sfmedir-rpc-bench",
    abstract: "An echo server and loads for it: measures the RPC and nothing else.",
    discussion: """
      cluster/bench/rpc/run.py runs it beside gRPC. By hand:

        sfmedir-rpc-bench serve --certs DIR            prints "listening PORT"
        sfmedir-rpc-bench load --certs DIR --port PORT --payload 1024 --concurrency 64
      """,
    subcommands: [Serve.self, Load.self, Idle.self, Allocations.self, Soak.self])
}
