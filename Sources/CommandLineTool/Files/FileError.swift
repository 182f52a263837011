import Glibc

/// A system call on a file that failed.
public struct FileError: Error, Equatable, Sendable, CustomStringConvertible {
  public let path: String
  /// "open", "write", ...
  public let operation: String
  public let number: Int32

  public init(_ operation: String, _ path: String, number: Int32 = errno) {
    self.operation = operation
    self.path = path
    self.number = number
  }

  public var description: String {
    "cannot \(operation) \(path): \(String(cString: strerror(number)))"
  }

  public var exitStatus: ExitStatus {
    switch number {
    case ENOENT, ENOTDIR: .notFound
    case EACCES, EPERM: .notPermitted
    default: .inputOutput
    }
  }

  var advice: String {
    switch number {
    case _ where operation == "replace": "it is no regular file: give another name"
    case ENOENT, ENOTDIR: "check the path"
    case EACCES, EPERM: "check the permissions of the file and its folder"
    case ENOSPC, EDQUOT: "make room on the disk"
    case EEXIST: "give another name, or --force to replace it"
    default: ""
    }
  }
}

/// Writes everything, however often write(2) takes only a part.
func writeAll(_ bytes: [UInt8], to descriptor: Int32, path: String) throws(FileError) {
  var offset = 0
  while offset < bytes.count {
    let written = bytes.withUnsafeBytes {
      write(descriptor, $0.baseAddress! + offset, bytes.count - offset)
    }
    if written < 0 {
      if errno == EINTR { continue }
      if errno == EAGAIN {
        var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        poll(&waiting, 1, -1)
        continue
      }
      throw FileError("write", path)
    }
    offset += written
  }
}
