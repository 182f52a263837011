import Glibc

/// A file to be uploaded.
public struct UploadItem: Sendable, Equatable {
  public let path: String
  public let sizeBytes: UInt64

  public init(path: String, sizeBytes: UInt64) {
    self.path = path
    self.sizeBytes = sizeBytes
  }
}

/// Finds the files that the paths of a command line stand for.
struct FileCollector {
  private(set) var items: [UploadItem] = []
  private(set) var failures: [FileError] = []
  /// Folders inside folders that were left out for want of `--recursive`.
  private(set) var skippedFolders = 0
  private let recursive: Bool
  private var seen: Set<String> = []

  init(recursive: Bool) { self.recursive = recursive }

  /// A file as it is, or the files in a folder; hidden files in folders are left out.
  mutating func add(_ path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else {
      failures.append(FileError("read", path))
      return
    }
    if status.st_mode & S_IFMT == S_IFDIR {
      addFolder(path)
    } else {
      addFile(path, status)
    }
  }

  private mutating func addFile(_ path: String, _ status: stat) {
    guard status.st_mode & S_IFMT == S_IFREG else {
      failures.append(FileError("read", path, number: EINVAL))
      return
    }
    guard seen.insert(Files.absolute(path)).inserted else { return }
    items.append(UploadItem(path: path, sizeBytes: UInt64(status.st_size)))
  }

  private mutating func addFolder(_ folder: String) {
    let names: [String]
    do {
      names = try Files.names(in: folder)
    } catch {
      failures.append(error)
      return
    }
    for name in names where !name.hasPrefix(".") {
      let path = folder.hasSuffix("/") ? folder + name : "\(folder)/\(name)"
      var status = stat()
      guard lstat(path, &status) == 0 else {
        failures.append(FileError("read", path))
        continue
      }
      if status.st_mode & S_IFMT == S_IFLNK {
        // Files behind links are taken; folders are not, since they may lead in circles.
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
      }
      switch status.st_mode & S_IFMT {
      case S_IFDIR:
        if recursive { addFolder(path) } else { skippedFolders += 1 }
      case S_IFREG: addFile(path, status)
      default: continue
      }
    }
  }
}
