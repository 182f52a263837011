import COpenSSL

/// A key in memory of its own: never printed, compared in constant time, zeroed when released.
public final class SecretBytes: Sendable, Equatable, CustomStringConvertible,
  CustomDebugStringConvertible, CustomReflectable
{
  nonisolated(unsafe) private let storage: UnsafeMutableRawBufferPointer

  public var count: Int { storage.count }

  /// Copies `bytes`, which the caller should zero afterwards.
  public init(_ bytes: [UInt8]) {
    storage = .allocate(byteCount: bytes.count, alignment: 16)
    storage.copyBytes(from: bytes)
  }

  /// Fresh random bytes from `entropy`.
  public init(randomCount count: Int, entropy: some Entropy) {
    storage = .allocate(byteCount: count, alignment: 16)
    entropy.fill(storage)
  }

  deinit {
    sfm_zero(storage.baseAddress, storage.count)
    storage.deallocate()
  }

  /// Lends the bytes as an array for the length of the call, and zeroes that array after it.
  public func withBytes<Result, Failure: Error>(
    _ body: ([UInt8]) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    var copy = [UInt8](storage)
    defer { zero(&copy) }
    return try body(copy)
  }

  public static func == (left: SecretBytes, right: SecretBytes) -> Bool {
    left.count == right.count
      && sfm_equal(left.storage.baseAddress, right.storage.baseAddress, left.count) == 1
  }

  public var description: String { "<secret of \(count) bytes>" }
  public var debugDescription: String { description }
  /// A dump or an interpolation of an enclosing type must not see the storage either.
  public var customMirror: Mirror { Mirror(self, children: [:]) }
}
