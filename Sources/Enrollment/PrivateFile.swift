import Base
import Glibc

/// A file that could not be read or written.
public enum FileError: Error, Equatable, Sendable, CustomStringConvertible {
  case failed(operation: String, path: String, reason: String)
  case missing(path: String)
  case exists(path: String)
  /// Others than its owner may read or write it.
  case exposed(path: String)
  case tooLarge(path: String, maximumBytes: Int)

  public var description: String {
    switch self {
    case .failed(let operation, let path, let reason): "cannot \(operation) \(path): \(reason)"
    case .missing(let path): "\(path) does not exist"
    case .exists(let path): "\(path) exists already and is not overwritten"
    case .exposed(let path):
      "\(path) is open to others than its owner; close it with: chmod go= \(path)"
    case .tooLarge(let path, let maximum): "\(path) has more than \(maximum) bytes"
    }
  }
}

/// Small files that hold secrets: seen by their owner only, and either old or new after a crash.
public enum PrivateFile {
  public static func exists(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0
  }

  /// Reads a regular file of at most `maximumBytes`.
  ///
  /// - Parameter secret: refuse a file that group or others have any right to.
  public static func read(
    _ path: String, maximumBytes: Int, secret: Bool = true
  ) throws(FileError) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      if errno == ENOENT { throw .missing(path: path) }
      throw failure("open", path)
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw failure("examine", path) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw .failed(operation: "read", path: path, reason: "not a regular file")
    }
    if secret, status.st_mode & 0o077 != 0 { throw .exposed(path: path) }
    guard status.st_size <= maximumBytes else {
      throw .tooLarge(path: path, maximumBytes: maximumBytes)
    }
    // One byte more than allowed tells a file that grew meanwhile.
    var bytes = [UInt8](repeating: 0, count: maximumBytes + 1)
    var count = 0
    while count < bytes.count {
      let got = bytes.withUnsafeMutableBytes {
        Glibc.read(descriptor, $0.baseAddress! + count, $0.count - count)
      }
      if got < 0 && errno == EINTR { continue }
      guard got >= 0 else { throw failure("read", path) }
      if got == 0 { break }
      count += got
    }
    guard count <= maximumBytes else { throw .tooLarge(path: path, maximumBytes: maximumBytes) }
    let content = Array(bytes[..<count])
    zero(&bytes)
    return content
  }

  /// Writes the whole file with mode 0600: into a temporary file, fsync, rename, fsync of the folder.
  ///
  /// - Parameters:
  ///   - replacing: whether a file of that name is replaced; otherwise it is an error.
  ///   - keepingPrevious: a path under which the replaced file stays.
  public static func write(
    _ bytes: [UInt8], to path: String, replacing: Bool = true, keepingPrevious: String? = nil
  ) throws(FileError) {
    let temporary = "\(path).new-\(SystemEntropy().bytes(6).hex)"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw failure("create", temporary) }
    do {
      defer { close(descriptor) }
      try write(bytes, to: descriptor, path: temporary)
      try put(temporary, at: path, replacing: replacing, keepingPrevious: keepingPrevious)
    } catch {
      unlink(temporary)
      throw error
    }
    try synchronizeDirectory(of: path)
  }

  private static func write(
    _ bytes: [UInt8], to descriptor: Int32, path: String
  ) throws(FileError) {
    // The umask can only take rights away; a set-gid folder or an odd umask must not matter.
    guard fchmod(descriptor, 0o600) == 0 else { throw failure("protect", path) }
    var offset = 0
    while offset < bytes.count {
      let count = bytes.withUnsafeBytes {
        Glibc.write(descriptor, $0.baseAddress! + offset, $0.count - offset)
      }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw failure("write", path) }
      offset += count
    }
    guard fsync(descriptor) == 0 else { throw failure("synchronize", path) }
  }

  private static func put(
    _ temporary: String, at path: String, replacing: Bool, keepingPrevious: String?
  ) throws(FileError) {
    if !replacing {
      // A hard link, unlike rename, fails where the name is taken.
      guard link(temporary, path) == 0 else {
        if errno == EEXIST { throw .exists(path: path) }
        throw failure("create", path)
      }
      unlink(temporary)
      return
    }
    if let previous = keepingPrevious, exists(path) {
      unlink(previous)
      guard link(path, previous) == 0 else { throw failure("keep", previous) }
    }
    guard rename(temporary, path) == 0 else { throw failure("replace", path) }
  }

  /// Makes the folder, and the folders above it, with mode 0700; what exists is left as it is.
  public static func makeDirectory(_ path: String) throws(FileError) {
    guard !path.isEmpty else {
      throw .failed(operation: "create", path: "''", reason: "an empty path")
    }
    if mkdir(path, 0o700) == 0 { return }
    if errno == ENOENT, let parent = parent(of: path), parent != path {
      try makeDirectory(parent)
      if mkdir(path, 0o700) == 0 { return }
    }
    let number = errno
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
      throw .failed(operation: "create", path: path, reason: message(number))
    }
  }

  /// Makes the folder where it is absent, and refuses one that others may enter or read.
  public static func makePrivateDirectory(_ path: String) throws(FileError) {
    try makeDirectory(path)
    var status = stat()
    guard stat(path, &status) == 0 else { throw failure("examine", path) }
    guard status.st_mode & 0o077 == 0 else { throw .exposed(path: path) }
  }

  /// Makes a rename or an unlink in the file's folder durable.
  public static func synchronizeDirectory(of path: String) throws(FileError) {
    let folder = parent(of: path) ?? "."
    let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure("open", folder) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw failure("synchronize", folder) }
  }

  public static func remove(_ path: String) throws(FileError) {
    guard unlink(path) == 0 else { throw failure("remove", path) }
    try synchronizeDirectory(of: path)
  }

  private static func parent(of path: String) -> String? {
    guard let slash = path.lastIndex(of: "/") else { return nil }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  public static func failure(_ operation: String, _ path: String) -> FileError {
    .failed(operation: operation, path: path, reason: message(errno))
  }

  private static func message(_ number: Int32) -> String {
    var buffer = [CChar](repeating: 0, count: 128)
    guard strerror_r(number, &buffer, buffer.count) == 0 else { return "error \(number)" }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
