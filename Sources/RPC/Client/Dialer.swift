import Logging

/// How a node reaches others: makes channels under its identity.
///
/// What needs channels to many takes one of these, and a test gives it one that leads nowhere near a socket.
public struct Dialer: Sendable {
  private let make: @Sendable (Address, PeerExpectation) -> Channel

  public init(_ make: @escaping @Sendable (Address, PeerExpectation) -> Channel) {
    self.make = make
  }

  /// Over TLS.
  public init(
    tls: TLSContext, group: EventLoopGroup, logger: Logger,
    limits: ConnectionLimits = ConnectionLimits()
  ) {
    self.init { address, expectation in
      Channel(
        address: address, tls: tls, expecting: expectation, group: group, logger: logger,
        limits: limits)
    }
  }

  public func channel(to address: Address, expecting expectation: PeerExpectation) -> Channel {
    make(address, expectation)
  }
}
