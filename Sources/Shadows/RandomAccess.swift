import Base
import Glibc

/// Bytes that can be read at any place and more than once, with the same outcome each time: an encrypted image or the
/// body of a shadow, in memory or in a file.
public protocol RandomAccessBytes: Sendable {
  /// Fills the whole buffer with the bytes from `offset` on. May block; may be called from several threads at once.
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(ShadowError)
  /// All of the bytes where they lie in memory for as long as this object lives, so that they need not be copied.
  var memory: UnsafeRawBufferPointer? { get }
}

extension RandomAccessBytes {
  public var memory: UnsafeRawBufferPointer? { nil }
}

/// The same, and bytes can be put anywhere. Different places may be written from several threads at once.
public protocol RandomAccessScratch: RandomAccessBytes {
  func write(_ buffer: UnsafeRawBufferPointer, at offset: Int) throws(ShadowError)
}

/// Memory that is neither cleared before its first use nor after its last.
public final class MemoryBytes: RandomAccessScratch, @unchecked Sendable {
  private let storage: UnsafeMutableRawBufferPointer

  public init(byteCount: Int) {
    storage = .allocate(byteCount: max(1, byteCount), alignment: 64)
    preferLargePages(storage)
  }

  /// Holds a copy, with room for `byteCount` bytes in all.
  public convenience init(copying bytes: [UInt8], byteCount: Int = 0) {
    self.init(byteCount: max(bytes.count, byteCount))
    storage.copyBytes(from: bytes)
  }

  deinit { storage.deallocate() }

  public var memory: UnsafeRawBufferPointer? { UnsafeRawBufferPointer(storage) }

  public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(ShadowError) {
    buffer.copyMemory(
      from: UnsafeRawBufferPointer(rebasing: storage[offset..<offset + buffer.count]))
  }

  public func write(_ buffer: UnsafeRawBufferPointer, at offset: Int) throws(ShadowError) {
    UnsafeMutableRawBufferPointer(rebasing: storage[offset..<offset + buffer.count])
      .copyMemory(from: buffer)
  }
}

/// An array, read only.
public struct ArrayBytes: RandomAccessBytes {
  private let bytes: [UInt8]

  public init(_ bytes: [UInt8]) { self.bytes = bytes }

  public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(ShadowError) {
    bytes.withUnsafeBytes {
      buffer.copyMemory(
        from: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + buffer.count]))
    }
  }
}

/// A file, or a part of one from `start` on.
public struct FileBytes: RandomAccessScratch {
  private let file: any DiskFile
  private let start: UInt64

  public init(_ file: any DiskFile, start: UInt64 = 0) {
    self.file = file
    self.start = start
  }

  public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(ShadowError) {
    let count: Int
    do throws(DiskError) {
      count = try file.read(into: buffer, at: start + UInt64(offset))
    } catch { throw .storageFailed(error) }
    guard count == buffer.count else { throw .storageEnded(offset: offset + count) }
  }

  public func write(_ buffer: UnsafeRawBufferPointer, at offset: Int) throws(ShadowError) {
    do throws(DiskError) {
      try file.write(buffer, at: start + UInt64(offset))
    } catch { throw .storageFailed(error) }
  }
}

/// Somebody else's memory, for as long as a call lasts.
struct BorrowedBytes: RandomAccessBytes, @unchecked Sendable {
  let bytes: UnsafeRawBufferPointer

  var memory: UnsafeRawBufferPointer? { bytes }

  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(ShadowError) {
    buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + buffer.count]))
  }
}
