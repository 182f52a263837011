import CSystem
import Glibc
import Synchronization

/// The system's wording for an error number, with the number.
func systemErrorText(_ code: Int32) -> String {
  var buffer = [CChar](repeating: 0, count: 256)
  guard strerror_r(code, &buffer, buffer.count) == 0 else { return "error number \(code)" }
  let text = buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
  return "\(String(decoding: text, as: UTF8.self)) (errno \(code))"
}

/// Runs a system call that answers -1 on failure, again for as long as a signal interrupts it.
private func systemCall<Result: SignedInteger>(
  _ operation: DiskError.Operation, _ path: String, _ body: () -> Result
) throws(DiskError) -> Result {
  while true {
    let result = body()
    if result != -1 { return result }
    let code = errno
    if code != EINTR { throw DiskError(operation: operation, path: path, code: code) }
  }
}

/// The machine's own file systems through plain system calls: `EINTR` is retried, short reads and writes
/// are continued, every other failure is a `DiskError`.
public struct SystemDisk: Disk {
  public init() {}

  public func open(_ path: String, mode: DiskOpenMode) throws(DiskError) -> any DiskFile {
    let flags: Int32 =
      switch mode {
      case .readOnly: O_RDONLY
      case .readWrite: O_RDWR
      case .createNew: O_RDWR | O_CREAT | O_EXCL
      }
    let descriptor = try systemCall(.open, path) { Glibc.open(path, flags | O_CLOEXEC, 0o600) }
    return SystemFile(descriptor: descriptor, path: path)
  }

  public func rename(_ source: String, to target: String) throws(DiskError) {
    _ = try systemCall(.rename, source) { Glibc.rename(source, target) }
  }

  public func remove(_ path: String) throws(DiskError) {
    _ = try systemCall(.remove, path) { unlink(path) }
  }

  public func listDirectory(_ path: String) throws(DiskError) -> [String] {
    guard let directory = opendir(path) else {
      throw DiskError(operation: .listDirectory, path: path, code: errno)
    }
    defer { closedir(directory) }
    var names: [String] = []
    while true {
      errno = 0
      guard let entry = readdir(directory) else {
        if errno != 0 { throw DiskError(operation: .listDirectory, path: path, code: errno) }
        return names
      }
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != "." && name != ".." { names.append(name) }
    }
  }

  public func synchronizeDirectory(_ path: String) throws(DiskError) {
    let descriptor = try systemCall(.synchronizeDirectory, path) {
      Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    }
    defer { close(descriptor) }
    _ = try systemCall(.synchronizeDirectory, path) { fsync(descriptor) }
  }

  public func createDirectory(_ path: String) throws(DiskError) -> Bool {
    do {
      _ = try systemCall(.createDirectory, path) { mkdir(path, 0o700) }
      return true
    } catch {
      var information = stat()
      guard error.code == EEXIST, stat(path, &information) == 0,
        information.st_mode & S_IFMT == S_IFDIR
      else { throw error }
      return false
    }
  }

  public func freeSpaceBytes(_ path: String) throws(DiskError) -> UInt64 {
    var information = statvfs()
    _ = try systemCall(.freeSpace, path) { statvfs(path, &information) }
    let (bytes, overflow) = UInt64(information.f_bavail).multipliedReportingOverflow(
      by: UInt64(information.f_frsize))
    return overflow ? UInt64.max : bytes
  }

  /// A file system mounted read-only still gives the lock where the lock file exists, so that what is
  /// stored there can be read.
  public func lock(_ path: String) throws(DiskError) -> (any DiskLock)? {
    let descriptor: Int32
    do {
      descriptor = try systemCall(.lock, path) {
        Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
      }
    } catch {
      guard error.code == EROFS || error.code == EACCES else { throw error }
      descriptor = try systemCall(.lock, path) { Glibc.open(path, O_RDONLY | O_CLOEXEC) }
    }
    let lock = SystemLock(descriptor: descriptor)
    let code = sfm_flock_exclusive(descriptor)
    if code == EWOULDBLOCK { return nil }
    if code != 0 { throw DiskError(operation: .lock, path: path, code: code) }
    return lock
  }
}

private final class SystemFile: DiskFile {
  private let descriptor: Int32
  private let path: String

  init(descriptor: Int32, path: String) {
    self.descriptor = descriptor
    self.path = path
  }

  // What matters was synchronized before; an error of close cannot be acted on.
  deinit { close(descriptor) }

  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int
  {
    var done = 0
    while done < buffer.count {
      let position = try self.position(offset, plus: done, .read)
      let count = try systemCall(.read, path) {
        pread(descriptor, buffer.baseAddress! + done, buffer.count - done, position)
      }
      if count == 0 { break }
      done += count
    }
    return done
  }

  func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(DiskError) {
    var done = 0
    while done < buffer.count {
      let position = try self.position(offset, plus: done, .write)
      let count = try systemCall(.write, path) {
        pwrite(descriptor, buffer.baseAddress! + done, buffer.count - done, position)
      }
      if count == 0 { throw DiskError(operation: .write, path: path, code: EIO) }
      done += count
    }
  }

  // Not even an interrupted synchronization is tried again: whoever stores decides what a failure means.
  func synchronizeData() throws(DiskError) {
    if fdatasync(descriptor) != 0 {
      throw DiskError(operation: .synchronize, path: path, code: errno)
    }
  }

  func synchronize() throws(DiskError) {
    if fsync(descriptor) != 0 {
      throw DiskError(operation: .synchronize, path: path, code: errno)
    }
  }

  func truncate(toSizeBytes sizeBytes: UInt64) throws(DiskError) {
    let size = try position(sizeBytes, plus: 0, .truncate)
    _ = try systemCall(.truncate, path) { ftruncate(descriptor, size) }
  }

  func preallocate(offset: UInt64, sizeBytes: UInt64) throws(DiskError) {
    let start = try position(offset, plus: 0, .preallocate)
    let length = try position(sizeBytes, plus: 0, .preallocate)
    let code = sfm_fallocate_keep_size(descriptor, Int64(start), Int64(length))
    if code != 0 { throw DiskError(operation: .preallocate, path: path, code: code) }
  }

  func sizeBytes() throws(DiskError) -> UInt64 {
    var information = stat()
    _ = try systemCall(.size, path) { fstat(descriptor, &information) }
    return UInt64(max(0, information.st_size))
  }

  /// A file position the system can express; larger ones come from damaged input and are refused.
  private func position(
    _ offset: UInt64, plus done: Int, _ operation: DiskError.Operation
  ) throws(DiskError) -> off_t {
    let (sum, overflow) = offset.addingReportingOverflow(UInt64(done))
    guard !overflow, let position = off_t(exactly: sum) else {
      throw DiskError(operation: operation, path: path, code: EOVERFLOW)
    }
    return position
  }
}

private final class SystemLock: DiskLock {
  private let descriptor: Atomic<Int32>

  init(descriptor: Int32) { self.descriptor = Atomic(descriptor) }

  deinit { release() }

  func release() {
    let held = descriptor.exchange(-1, ordering: .acquiringAndReleasing)
    guard held != -1 else { return }
    // A child between fork and exec has a copy of the descriptor: closing ours alone would leave its lock.
    sfm_flock_release(held)
    close(held)
  }
}
