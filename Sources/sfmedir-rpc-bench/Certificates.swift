import ArgumentParser
import Foundation
import RPC

/// A folder with ca.pem, server.pem, server.key, client.pem and client.key.
struct CertificateFolder: ParsableArguments {
  @Option(name: .long, help: "Folder with ca.pem, server.pem, server.key, client.pem, client.key.")
  var certs: String

  static let cluster = "bench"

  func server() throws -> TLSContext { try .server(credentials("server")) }
  func client() throws -> TLSContext { try .client(credentials("client")) }

  private func credentials(_ name: String) throws -> Credentials {
    func text(_ file: String) throws -> String {
      try String(contentsOfFile: "\(certs)/\(file)", encoding: .utf8)
    }
    return Credentials(
      certificatePEM: try text("\(name).pem"), privateKeyPEM: try text("\(name).key"),
      authorityPEM: try text("ca.pem"))
  }
}
