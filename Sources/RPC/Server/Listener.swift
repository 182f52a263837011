/// The listening socket's place in its loop.
final class Listener: DescriptorHandler, Sendable {
  private let descriptor: Int32
  private let onReady: @Sendable () -> Void

  init(descriptor: Int32, onReady: @escaping @Sendable () -> Void) {
    self.descriptor = descriptor
    self.onReady = onReady
  }

  func descriptorIsReady(_ events: UInt32) { onReady() }
}
