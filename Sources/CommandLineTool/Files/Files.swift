import Base
import Glibc

/// An open file to be read from its beginning.
final class FileReader {
  let path: String
  let sizeBytes: UInt64
  private let descriptor: Int32

  /// Only regular files: a pipe or a device has no size to announce.
  init(_ path: String) throws(FileError) {
    // Nonblocking, so that a named pipe without a writer does not hang the command.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw FileError("open", path) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      let number = errno
      close(descriptor)
      throw FileError("read", path, number: number)
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      throw FileError("read", path, number: status.st_mode & S_IFMT == S_IFDIR ? EISDIR : EINVAL)
    }
    self.path = path
    self.descriptor = descriptor
    sizeBytes = UInt64(status.st_size)
  }

  deinit { close(descriptor) }

  /// At most `count` bytes; none at the end of the file.
  func next(_ count: Int) throws(FileError) -> [UInt8] {
    while true {
      var result = 0
      let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        result = read(descriptor, buffer.baseAddress, count)
        filled = max(0, result)
      }
      if result >= 0 { return bytes }
      if errno != EINTR { throw FileError("read", path) }
    }
  }
}

/// SHA-256 of what comes piece by piece, shared by reference.
final class RunningDigest {
  private var hasher: SHA256Hasher? = SHA256Hasher()

  func update(_ bytes: [UInt8]) { hasher?.update(bytes) }

  /// Once only.
  func finish() -> [UInt8] {
    switch hasher.take() {
    case .some(let hasher): return hasher.finalize()
    case .none: preconditionFailure("the digest is taken twice")
    }
  }
}

/// A file that appears under its name only when it is whole: written beside it, then renamed.
final class AtomicFile {
  let path: String
  private let temporaryPath: String
  private let descriptor: Int32

  init(_ path: String, mode: mode_t = 0o644) throws(FileError) {
    self.path = path
    temporaryPath = "\(path).part-\(SystemEntropy().bytes(6).hex)"
    descriptor = open(temporaryPath, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw FileError("create", path) }
  }

  deinit {
    close(descriptor)
    // Already gone after a commit.
    unlink(temporaryPath)
  }

  func write(_ bytes: [UInt8]) throws(FileError) {
    try writeAll(bytes, to: descriptor, path: path)
  }

  /// Makes the bytes durable and gives them their name.
  ///
  /// - Parameter replacing: false: throws EEXIST where the name is taken.
  func commit(replacing: Bool) throws(FileError) {
    guard fsync(descriptor) == 0 else { throw FileError("write", path) }
    // link(2) refuses a name that is taken, in one step; rename(2) replaces it in one step.
    if replacing {
      // A device or a pipe of this name is not a file to be replaced, least of all by root.
      var status = stat()
      if lstat(path, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
        throw FileError("replace", path, number: EEXIST)
      }
      guard rename(temporaryPath, path) == 0 else { throw FileError("create", path) }
    } else {
      guard link(temporaryPath, path) == 0 else { throw FileError("create", path) }
    }
  }
}

enum Files {
  /// Both paths lead to the same file.
  static func isSame(_ left: String, _ right: String) -> Bool {
    var (one, other) = (stat(), stat())
    return stat(left, &one) == 0 && stat(right, &other) == 0 && one.st_dev == other.st_dev
      && one.st_ino == other.st_ino
  }

  static let pieceBytes = 256 << 10

  /// The whole file; at most `limitBytes`.
  static func contents(of path: String, limitBytes: Int) throws(FileError) -> [UInt8] {
    let reader = try FileReader(path)
    guard reader.sizeBytes <= UInt64(limitBytes) else {
      throw FileError("read", path, number: EFBIG)
    }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(Int(reader.sizeBytes))
    while true {
      let piece = try reader.next(pieceBytes)
      if piece.isEmpty { return bytes }
      bytes += piece
      guard bytes.count <= limitBytes else { throw FileError("read", path, number: EFBIG) }
    }
  }

  /// SHA-256 of the file, and how many bytes that was.
  static func digest(of path: String) throws(FileError) -> (digest: [UInt8], sizeBytes: UInt64) {
    let reader = try FileReader(path)
    let digest = RunningDigest()
    var count: UInt64 = 0
    while true {
      let piece = try reader.next(1 << 20)
      if piece.isEmpty { return (digest.finish(), count) }
      digest.update(piece)
      count += UInt64(piece.count)
    }
  }

  static func write(
    _ bytes: [UInt8], to path: String, mode: mode_t = 0o644, replacing: Bool = true
  ) throws(FileError) {
    let file = try AtomicFile(path, mode: mode)
    try file.write(bytes)
    try file.commit(replacing: replacing)
  }

  /// Throws where a file of that name could not be written: before hours of work, not after them.
  static func checkCanWrite(_ path: String) throws(FileError) {
    var status = stat()
    if lstat(path, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
      throw FileError("replace", path, number: EEXIST)
    }
    _ = try AtomicFile(path)
  }

  static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  static func isDirectory(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  /// Makes the folder and those above it.
  static func createDirectories(_ path: String, mode: mode_t = 0o755) throws(FileError) {
    if isDirectory(path) { return }
    let parent = parent(of: path)
    if parent != path { try createDirectories(parent, mode: mode) }
    guard mkdir(path, mode) == 0 || (errno == EEXIST && isDirectory(path)) else {
      throw FileError("create", path)
    }
  }

  /// Names in a folder, sorted by their bytes, without "." and "..".
  static func names(in directory: String) throws(FileError) -> [String] {
    guard let stream = opendir(directory) else { throw FileError("read", directory) }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      // The name is longer than the array of the declaration says, so it is read where it lies.
      let offset = MemoryLayout<dirent>.offset(of: \.d_name)!
      let start = UnsafeRawPointer(entry).advanced(by: offset).assumingMemoryBound(to: CChar.self)
      let name = String(cString: start)
      if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted { Array($0.utf8).lexicographicallyPrecedes(Array($1.utf8)) }
  }

  /// Removes a file or a folder with everything in it; links are removed, not followed.
  static func removeTree(_ path: String) throws(FileError) {
    var status = stat()
    guard lstat(path, &status) == 0 else {
      if errno == ENOENT { return }
      throw FileError("remove", path)
    }
    if status.st_mode & S_IFMT == S_IFDIR {
      for name in try names(in: path) { try removeTree("\(path)/\(name)") }
      guard rmdir(path) == 0 else { throw FileError("remove", path) }
    } else {
      guard unlink(path) == 0 || errno == ENOENT else { throw FileError("remove", path) }
    }
  }

  /// "/a/b" of "/a/b/c"; "." of "c"; "/" of "/".
  static func parent(of path: String) -> String {
    var path = path[...]
    while path.count > 1, path.last == "/" { path.removeLast() }
    guard let slash = path.lastIndex(of: "/") else { return "." }
    let parent = path[..<slash]
    return parent.isEmpty ? "/" : String(parent)
  }

  static func lastComponent(of path: String) -> String {
    String(path.split(separator: "/").last ?? "")
  }

  /// From the root of the file system, links resolved as far as the path exists.
  static func absolute(_ path: String) -> String {
    if let resolved = realpath(path, nil) {
      defer { free(resolved) }
      return String(cString: resolved)
    }
    let parent = parent(of: path)
    guard parent != path else { return path }
    let folder = absolute(parent)
    return folder == "/" ? "/\(lastComponent(of: path))" : "\(folder)/\(lastComponent(of: path))"
  }

  /// Makes a fresh folder in TMPDIR, or /tmp.
  static func makeTemporaryDirectory(prefix: String) throws(FileError) -> String {
    let base = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var template = Array("\(base)/\(prefix)-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw FileError("create", "\(base)/\(prefix)-XXXXXX") }
    return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
