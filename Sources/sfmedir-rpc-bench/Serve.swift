import ArgumentParser
import Foundation
import RPC

struct Serve: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Serve echoes until killed; prints \"listening PORT\".")

  @OptionGroup var certificates: CertificateFolder
  @Option(help: "Port; 0 takes a free one.") var port: UInt16 = 0
  @Option(help: "Microseconds a busy loop looks again before it sleeps.")
  var busyPoll: UInt64 = EventLoopGroup.defaultBusyPollMicroseconds

  func run() async throws {
    let group = EventLoopGroup(busyPollMicroseconds: busyPoll)
    let server = try EchoService.server(try certificates.server(), port: port, group: group)
    print("listening \(server.port)")
    fflush(nil)
    while true { try await Task.sleep(for: .seconds(3600)) }
  }
}
