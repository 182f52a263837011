import Base
import CWire
import Messages

/// Whom a client expects to meet.
public struct PeerExpectation: Sendable {
  public let cluster: String
  public let role: Role
  /// Nil: any node of the role.
  public let node: String?

  public init(cluster: String, role: Role, node: String? = nil) {
    self.cluster = cluster
    self.role = role
    self.node = node
  }

  func refusal(of identity: Identity?) -> RPCError? {
    guard let identity else {
      return RPCError(.unauthenticated, "the server shows no identity")
    }
    guard identity.cluster == cluster, identity.role == role,
      node == nil || node == identity.node
    else {
      let wanted = "sfmedir://\(cluster)/\(role)/\(node ?? "*")"
      return RPCError(.unauthenticated, "expected \(wanted), met \(identity)")
    }
    return nil
  }
}

/// One place where a server may be.
enum Endpoint: Sendable {
  case socket(sfm_address)
  /// Known to its connector.
  case number(Int)
}

/// Makes a channel's transports.
protocol Connector: Sendable {
  /// Where the server is, for people.
  var name: String { get }
  /// Finds the places to try, in order; answers on any thread, once.
  func endpoints(_ done: @escaping @Sendable (Result<[Endpoint], RPCError>) -> Void)
  /// A transport that begins to connect when it is started. On the loop.
  func transport(to endpoint: Endpoint, on loop: EventLoop) throws(RPCError) -> Transport
}

/// TLS over TCP. Its session belongs to the one loop of its channel.
final class SocketConnector: Connector, @unchecked Sendable {
  private let address: Address
  private let tls: TLSContext
  private let session = TLSSession()

  init(address: Address, tls: TLSContext) {
    self.address = address
    self.tls = tls
  }

  var name: String { address.description }

  func endpoints(_ done: @escaping @Sendable (Result<[Endpoint], RPCError>) -> Void) {
    if let addresses = address.numeric() {
      done(.success(addresses.map { .socket($0) }))
      return
    }
    // Looking a name up blocks, so it happens elsewhere.
    Task.detached { [address] in
      done(
        Result { () throws(RPCError) in
          try address.resolve(passive: false).map { .socket($0) }
        })
    }
  }

  func transport(to endpoint: Endpoint, on loop: EventLoop) throws(RPCError) -> Transport {
    guard case .socket(var target) = endpoint else {
      preconditionFailure("an endpoint of another connector")
    }
    let descriptor = sfm_connect(&target)
    guard descriptor >= 0 else {
      throw RPCError(
        .unavailable, "cannot connect to \(address): \(systemMessage(descriptor))")
    }
    guard
      let stream = TLSStream(
        context: tls, descriptor: descriptor, session: session)
    else {
      sfm_close(descriptor)
      throw RPCError(.unavailable, "cannot connect to \(address): no memory")
    }
    return SocketTransport(loop: loop, descriptor: descriptor, tls: stream, connecting: true)
  }
}
