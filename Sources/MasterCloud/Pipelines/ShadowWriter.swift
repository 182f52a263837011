import Messages
import RPC

/// Brings shadows to slaves.
struct ShadowWriter: Sendable {
  let slaves: SlaveDirectory

  /// Returns once the slave has synchronized it.
  func write(
    _ body: [UInt8], named name: [UInt8], to slave: String, _ options: CallOptions
  ) async throws(RPCError) {
    do {
      let call = try await slaves.channel(to: slave).open(SlaveCloudMethods.putShadow, options)
      var header = PutShadowHeader()
      header.name = name
      header.bodyBytes = UInt64(body.count)
      try await call.send(header)
      try await call.send(bulk: body)
      try await call.finishSending()
      _ = try await call.receiveOnly()
    } catch {
      // A deadline that the caller's own had shortened to nothing says nothing about the slave.
      if error.code == .unavailable || error.code == .deadlineExceeded,
        options.timeout > .zero, !Task.isCancelled
      {
        slaves.reportFailure(of: slave, error)
      }
      throw error
    }
  }
}
