import Base
import Glibc

/// A segment file seen through one buffer, for reading it from front to back.
/// Pages that the disk refuses to read are taken as zeros, so that they fail their checksums, and counted.
final class SegmentWindow {
  private static let capacityBytes = 1 << 20
  private static let pageBytes = 4096

  let sizeBytes: UInt64
  private let file: any DiskFile
  private let buffer: UnsafeMutableRawBufferPointer
  private var start: UInt64 = 0
  private var filled = 0
  private(set) var readError: DiskError?

  /// Shows the first `sizeBytes` of the file.
  init(file: any DiskFile, sizeBytes: UInt64) {
    self.file = file
    self.sizeBytes = sizeBytes
    let wanted = min(UInt64(Self.capacityBytes), max(sizeBytes, 1))
    buffer = .allocate(byteCount: Int(wanted), alignment: 16)
  }

  deinit { buffer.deallocate() }

  /// The bytes from `offset`, up to `count` and to the end of what is shown, but at least one window's worth
  /// where `count` asks for more. Valid until the next call.
  func bytes(at offset: UInt64, count: Int) -> UnsafeRawBufferPointer {
    guard offset < sizeBytes else { return UnsafeRawBufferPointer(start: nil, count: 0) }
    let wanted = Int(min(UInt64(min(count, buffer.count)), sizeBytes - offset))
    let isInside = offset >= start && offset + UInt64(wanted) <= start + UInt64(filled)
    if !isInside { fill(from: offset) }
    let skipped = Int(offset - start)
    return UnsafeRawBufferPointer(
      rebasing: buffer[skipped..<(skipped + min(wanted, filled - skipped))])
  }

  private func fill(from offset: UInt64) {
    start = offset
    let target = UnsafeMutableRawBufferPointer(
      rebasing: buffer[..<Int(min(UInt64(buffer.count), sizeBytes - offset))])
    filled = target.count
    do {
      // A file that is shorter than it just was reads as zeros, which no checksum accepts.
      let count = try file.read(into: target, at: offset)
      zero(target, from: count)
    } catch {
      fillByPages(target, from: offset)
    }
  }

  private func fillByPages(_ target: UnsafeMutableRawBufferPointer, from offset: UInt64) {
    var done = 0
    while done < target.count {
      let end = min(done + Self.pageBytes, target.count)
      let page = UnsafeMutableRawBufferPointer(rebasing: target[done..<end])
      do {
        let count = try file.read(into: page, at: offset + UInt64(done))
        zero(page, from: count)
      } catch {
        readError = error
        zero(page, from: 0)
      }
      done = end
    }
  }

  private func zero(_ target: UnsafeMutableRawBufferPointer, from position: Int) {
    if position < target.count {
      memset(target.baseAddress! + position, 0, target.count - position)
    }
  }
}
