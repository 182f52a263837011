/// A failed disk operation: what was tried, on which path, and the system's error number.
public struct DiskError: Error, Sendable, Equatable, CustomStringConvertible {
  public enum Operation: String, Sendable {
    case open, read, write, synchronize, truncate, preallocate, size, rename, remove, lock
    case listDirectory, createDirectory, synchronizeDirectory, freeSpace
  }

  public let operation: Operation
  public let path: String
  /// The `errno` value.
  public let code: Int32

  public init(operation: Operation, path: String, code: Int32) {
    self.operation = operation
    self.path = path
    self.code = code
  }

  public var description: String {
    "disk operation \(operation.rawValue) on \(path) failed: \(systemErrorText(code))"
  }
}

/// How a file is opened.
public enum DiskOpenMode: Sendable {
  /// Must exist; reads only.
  case readOnly
  /// Must exist; reads and writes.
  case readWrite
  /// Must not exist; is created empty, readable by its owner only.
  case createNew
}

/// An open file. All calls block the calling thread, so they never belong on Swift's cooperative threads.
/// Calls with different offsets may run at the same time. The file closes when the last reference goes.
public protocol DiskFile: AnyObject, Sendable {
  /// Fills `buffer` from `offset`; returns fewer bytes than asked only at the end of the file.
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int
  /// Writes all of `buffer` at `offset`; after an error any part of it may have been written.
  func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(DiskError)
  /// Returns when the data and the size needed to read it back are on stable storage.
  /// After an error nothing is known about any byte written since the last success, and
  /// a later success says nothing about those bytes either.
  func synchronizeData() throws(DiskError)
  /// As `synchronizeData`, with all other metadata of the file.
  func synchronize() throws(DiskError)
  func truncate(toSizeBytes sizeBytes: UInt64) throws(DiskError)
  /// Reserves blocks beyond or inside the file without changing its size.
  func preallocate(offset: UInt64, sizeBytes: UInt64) throws(DiskError)
  func sizeBytes() throws(DiskError) -> UInt64
}

/// An exclusive lock on a path, shared with nobody in this or another process.
public protocol DiskLock: AnyObject, Sendable {
  /// Gives the lock back. Further calls do nothing. Happens by itself when the last reference goes.
  func release()
}

/// The seam between what stores bytes and the machine's disk. `SystemDisk` is the real one; tests put
/// a simulated disk under the same code. All calls block the calling thread.
public protocol Disk: Sendable {
  func open(_ path: String, mode: DiskOpenMode) throws(DiskError) -> any DiskFile
  /// Atomically gives the file at `source` the name `target`, replacing what stood there.
  /// Durable only after `synchronizeDirectory`.
  func rename(_ source: String, to target: String) throws(DiskError)
  func remove(_ path: String) throws(DiskError)
  /// Names in the directory, without `.` and `..`, in no particular order.
  func listDirectory(_ path: String) throws(DiskError) -> [String]
  /// Makes creations, renames and removals in the directory durable.
  func synchronizeDirectory(_ path: String) throws(DiskError)
  /// Creates one directory level; returns false where a directory is already there.
  func createDirectory(_ path: String) throws(DiskError) -> Bool
  /// Bytes that an unprivileged process may still write on the file system of `path`.
  func freeSpaceBytes(_ path: String) throws(DiskError) -> UInt64
  /// Locks the file at `path`, creating it where needed; nil when somebody else holds the lock.
  func lock(_ path: String) throws(DiskError) -> (any DiskLock)?
}
