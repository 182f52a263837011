import Messages
import RPC

/// What a daemon of an owner or user says about itself.
public struct NodeStatus: Sendable {
  private let identity: Identity
  private let certificateExpiresAtMilliseconds: @Sendable () -> UInt64
  private let modelVersion: String
  private let keys: KeySource
  private let master: ServiceClient

  /// How long the master may take: a status is asked by somebody who waits.
  private static let patience = Duration.seconds(2)

  /// - Parameter certificateExpiresAtMilliseconds: asked each time: it moves with each renewal.
  public init(
    identity: Identity, certificateExpiresAtMilliseconds: @escaping @Sendable () -> UInt64,
    modelVersion: String, keys: KeySource, master: ServiceClient
  ) {
    self.identity = identity
    self.certificateExpiresAtMilliseconds = certificateExpiresAtMilliseconds
    self.modelVersion = modelVersion
    self.keys = keys
    self.master = master
  }

  /// Never fails: a master that does not answer is part of the answer.
  public func reply(_ context: CallContext) async -> NodeStatusReply {
    let ring = keys.ring
    var reply = NodeStatusReply()
    reply.node = identity.node
    reply.role = identity.role.rawValue
    reply.modelVersion = modelVersion
    reply.imageKeyVersion = ring.current(.image)?.version ?? 0
    reply.indexKeyVersion = ring.current(.index)?.version ?? 0
    reply.certificateExpiresMilliseconds = certificateExpiresAtMilliseconds()
    do throws(RPCError) {
      let status = try await master.unary(
        MasterCloudMethods.clusterStatus, Empty(),
        CallOptions(within: context, atMost: Self.patience))
      reply.master = "\(status.node), of \(master.addresses)"
    } catch {
      reply.problem = "no master answers at \(master.addresses): \(error)"
    }
    return reply
  }
}
