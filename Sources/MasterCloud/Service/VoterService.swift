import RPC

/// What a daemon runs that votes on the masters' log: a master or the witness.
public protocol VoterService: Sendable {
  func register(on router: inout Router)
  /// Takes part from here on.
  func start() async
  /// Before the server drains: lets another one lead, where this one does.
  func handOver() async
  /// After the server has drained.
  func stop() async
}

extension MasterService: VoterService {}

extension WitnessService: VoterService {
  /// A witness that leads is about to hand over in any case.
  public func handOver() async {}
}
