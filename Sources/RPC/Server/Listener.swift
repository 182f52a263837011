import CWire

/// The listening socket's place in its loop.
final class Listener: DescriptorHandler, Sendable {
  private let descriptor: Int32
  private let loop: EventLoop
  private let onReady: @Sendable () -> Bool

  /// - Parameter onReady: false where nobody is left to accept: the socket is closed then.
  init(descriptor: Int32, loop: EventLoop, onReady: @escaping @Sendable () -> Bool) {
    self.descriptor = descriptor
    self.loop = loop
    self.onReady = onReady
  }

  func descriptorIsReady(_ events: UInt32) {
    if onReady() { return }
    loop.remove(descriptor)
    sfm_close(descriptor)
  }

  func loopEnds() { sfm_close(descriptor) }
}
