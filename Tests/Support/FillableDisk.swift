import Base
import Glibc

/// The machine's disk, with no room while ``isFull``, or as much as a test says.
public final class FillableDisk: Disk, @unchecked Sendable {
  private let real = SystemDisk()
  private let full = Locked(false)
  private let free = Locked<UInt64>(1 << 40)
  private let whenAsked: @Sendable () -> Void

  /// - Parameter whenAsked: runs, where the caller is, each time that somebody asks how much is free.
  public init(whenAsked: @escaping @Sendable () -> Void = {}) { self.whenAsked = whenAsked }

  /// What ``freeSpaceBytes(_:)`` says.
  public var freeBytes: UInt64 {
    get { free.withLock { $0 } }
    set { free.withLock { $0 = newValue } }
  }

  /// Writes fail, and no byte is free.
  public var isFull: Bool {
    get { full.withLock { $0 } }
    set { full.withLock { $0 = newValue } }
  }

  private final class File: DiskFile {
    let real: any DiskFile
    let disk: FillableDisk

    init(_ real: any DiskFile, _ disk: FillableDisk) {
      self.real = real
      self.disk = disk
    }

    func read(
      into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(DiskError) -> Int { try real.read(into: buffer, at: offset) }
    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(DiskError) {
      if disk.isFull { throw DiskError(operation: .write, path: "segment", code: ENOSPC) }
      try real.write(buffer, at: offset)
    }
    func synchronizeData() throws(DiskError) { try real.synchronizeData() }
    func synchronize() throws(DiskError) { try real.synchronize() }
    func truncate(toSizeBytes sizeBytes: UInt64) throws(DiskError) {
      try real.truncate(toSizeBytes: sizeBytes)
    }
    func preallocate(offset: UInt64, sizeBytes: UInt64) throws(DiskError) {
      try real.preallocate(offset: offset, sizeBytes: sizeBytes)
    }
    func sizeBytes() throws(DiskError) -> UInt64 { try real.sizeBytes() }
  }

  public func open(_ path: String, mode: DiskOpenMode) throws(DiskError) -> any DiskFile {
    File(try real.open(path, mode: mode), self)
  }
  public func rename(_ source: String, to target: String) throws(DiskError) {
    try real.rename(source, to: target)
  }
  public func remove(_ path: String) throws(DiskError) { try real.remove(path) }
  public func listDirectory(_ path: String) throws(DiskError) -> [String] {
    try real.listDirectory(path)
  }
  public func synchronizeDirectory(_ path: String) throws(DiskError) {
    try real.synchronizeDirectory(path)
  }
  public func createDirectory(_ path: String) throws(DiskError) -> Bool {
    try real.createDirectory(path)
  }
  public func freeSpaceBytes(_ path: String) throws(DiskError) -> UInt64 {
    whenAsked()
    return isFull ? 0 : freeBytes
  }
  public func lock(_ path: String) throws(DiskError) -> (any DiskLock)? { try real.lock(path) }
}
