import Glibc

/// Files that somebody else may have made: read whole, where they are files and no larger than allowed.
public enum RegularFile {
  public enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    case notAFile
    case tooLarge(maximumBytes: Int)
    /// The operating system's own sentence.
    case unreadable(String)

    public var description: String {
      switch self {
      case .notAFile: "it is not a regular file"
      case .tooLarge(let maximumBytes): "it has more than \(maximumBytes) bytes"
      case .unreadable(let reason): reason
      }
    }
  }

  /// Links are followed; a pipe or a device, which might never end, is not read.
  public static func contents(of path: String, maximumBytes: Int) throws(Failure) -> [UInt8] {
    // Nonblocking: opening a named pipe would otherwise wait for somebody to write.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw systemFailure() }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw systemFailure() }
    guard status.st_mode & S_IFMT == S_IFREG else { throw .notAFile }
    guard status.st_size <= maximumBytes else { throw .tooLarge(maximumBytes: maximumBytes) }
    var failure: Failure?
    // One byte more than the size tells a file that grows while it is read.
    let bytes = [UInt8](unsafeUninitializedCapacity: Int(status.st_size) + 1) { buffer, filled in
      while filled < buffer.count {
        let count = read(descriptor, buffer.baseAddress! + filled, buffer.count - filled)
        if count < 0 && errno == EINTR { continue }
        if count < 0 { failure = systemFailure() }
        if count <= 0 { return }
        filled += count
      }
    }
    if let failure { throw failure }
    guard bytes.count <= Int(status.st_size) else { throw .unreadable("it grows while it is read") }
    return bytes
  }

  private static func systemFailure() -> Failure { .unreadable(String(cString: strerror(errno))) }
}
