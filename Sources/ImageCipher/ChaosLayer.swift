import Base
import CKernels
import Dispatch

/// Block scramble, bit-plane swaps and rotations, reversible gates and DNA coding, segment by
/// segment (docs/formats/qms1.md). A keyed bijection without any claim of security.
package struct ChaosLayer: Sendable {
  package enum Direction: Sendable {
    case encrypting
    case decrypting
  }

  package static let segmentBytes = Int(SFM_QMS1_SEGMENT_BYTES)
  /// The widest vectors that this processor has; all builds of the kernel give the same bytes.
  package static let bestBuild = Int(sfm_qms1_builds()) - 1

  private let key: SecretBytes
  private let build: Int

  package init(key: SecretBytes, build: Int = bestBuild) {
    self.key = key
    self.build = build
  }

  /// Works in place on whole blocks, with up to `cores` threads of which one is the caller's.
  package func apply(
    _ direction: Direction, to payload: UnsafeMutableRawBufferPointer, cores: Int
  ) {
    precondition(
      payload.count.isMultiple(of: QMS1.blockBytes), "\(payload.count) bytes are no whole blocks")
    precondition(cores >= 1, "\(cores) cores cannot work")
    let segments = (payload.count + Self.segmentBytes - 1) / Self.segmentBytes
    let workers = min(cores, segments)
    // Every segment is touched by one worker only.
    nonisolated(unsafe) let shared = payload
    guard workers > 1 else {
      for index in 0..<segments { apply(direction, toSegment: index, of: shared) }
      return
    }
    DispatchQueue.concurrentPerform(iterations: workers) { worker in
      for index in stride(from: worker, to: segments, by: workers) {
        apply(direction, toSegment: index, of: shared)
      }
    }
  }

  /// Seeds of both maps: 16 lanes of (x, y, -z, w), then 16 lanes of (x, R, w).
  package func seeds(segment index: Int) -> [UInt8] {
    var info = Array("SFMedIR/QMS1/segment".utf8)
    info.append(bigEndian: UInt32(index))
    return key.withBytes {
      HKDF.expand(pseudorandomKey: $0, info: info, byteCount: Int(SFM_QMS1_SEED_BYTES))
    }
  }

  private func apply(
    _ direction: Direction, toSegment index: Int, of payload: UnsafeMutableRawBufferPointer
  ) {
    let start = index * Self.segmentBytes
    let count = min(Self.segmentBytes, payload.count - start)
    guard count > 0, let base = payload.baseAddress else { return }
    let segment = (base + start).assumingMemoryBound(to: UInt8.self)
    var seeds = seeds(segment: index)
    defer { zero(&seeds) }
    switch direction {
    case .encrypting:
      sfm_qms1_encrypt_segment(seeds, segment, count / QMS1.blockBytes, Int32(build))
    case .decrypting:
      sfm_qms1_decrypt_segment(seeds, segment, count / QMS1.blockBytes, Int32(build))
    }
  }
}
