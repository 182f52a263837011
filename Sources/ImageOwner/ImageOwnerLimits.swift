import Glibc

/// What an owner's daemon takes on at once.
public struct ImageOwnerLimits: Sendable {
  /// Largest file, in bytes.
  public var maximumImageBytes = 256 << 20
  /// Images that are decoded and encrypted at the same time.
  public var workers = max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
  /// Uploads that wait for a place; one more is refused.
  public var queueLimit = 256

  public init() {}

  /// Images between their first byte and the master's answer: while some are computed, others travel.
  var imagesInWork: Int { workers * 4 }

  /// Bytes of files and encrypted images in memory. Decoded pictures come on top: one a worker,
  /// each bounded by the decoder's own limits.
  var memoryBytes: Int { max(1 << 30, 3 * maximumImageBytes) }

  /// The file and its encrypted form, for as long as the image is in work.
  static func memoryBytes(ofFile sizeBytes: Int) -> Int { 2 * sizeBytes + (1 << 20) }
}
