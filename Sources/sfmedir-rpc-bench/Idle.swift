import ArgumentParser
import Foundation
import RPC

struct Idle: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Open connections, make one call on each, print \"ready N\", hold until stdin closes."
  )

  @OptionGroup var certificates: CertificateFolder
  @Option(help: "The server's port on this machine.") var port: UInt16
  @Option(help: "Connections to hold.") var connections = 1000

  func run() async throws {
    let group = EventLoopGroup(count: 1)
    let tls = try certificates.client()
    var channels: [Channel] = []
    for _ in 0..<connections {
      let channel = EchoService.channel(tls, port: port, group: group)
      try await Load.echo([1], channel)
      channels.append(channel)
    }
    print("ready \(channels.count)")
    fflush(nil)
    while readLine() != nil {}
    for channel in channels { channel.close() }
  }
}
