import COpenSSL

/// Where random bytes come from: the kernel in production, a printed seed in simulations.
public protocol Entropy: Sendable {
  func fill(_ buffer: UnsafeMutableRawBufferPointer)
}

extension Entropy {
  public func bytes(_ count: Int) -> [UInt8] {
    // The library would write to what all empty arrays share.
    if count == 0 { return [] }
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      fill(UnsafeMutableRawBufferPointer(buffer))
      initialized = count
    }
  }

  /// Uniform over `0..<bound`, without modulo bias.
  public func uniform(below bound: UInt64) -> UInt64 {
    precondition(bound > 0, "uniform(below: 0)")
    let limit = UInt64.max - UInt64.max % bound
    while true {
      var value: UInt64 = 0
      withUnsafeMutableBytes(of: &value) { fill($0) }
      if value < limit { return value % bound }
    }
  }
}

/// The kernel's generator, getrandom(2).
public struct SystemEntropy: Entropy {
  public init() {}

  public func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    sfm_random(buffer.baseAddress, buffer.count)
  }
}
