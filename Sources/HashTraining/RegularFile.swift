import Foundation

/// Files that somebody else may have made: read whole, where they are files and no larger than allowed.
enum RegularFile {
  enum Failure: Error, CustomStringConvertible {
    case absent
    case notAFile
    case tooLarge(sizeBytes: Int)
    case unreadable(String)

    var description: String {
      switch self {
      case .absent: "it is not there"
      case .notAFile: "it is no regular file"
      case .tooLarge(let sizeBytes): "it has \(sizeBytes) bytes"
      case .unreadable(let reason): reason
      }
    }
  }

  /// Links are followed; a pipe or a device, which might never end, is not opened.
  static func contents(of path: String, maximumBytes: Int) throws(Failure) -> [UInt8] {
    let target = URL(filePath: path).resolvingSymlinksInPath()
    guard FileManager.default.fileExists(atPath: target.path) else { throw .absent }
    do {
      let attributes = try FileManager.default.attributesOfItem(atPath: target.path)
      guard attributes[.type] as? FileAttributeType == .typeRegular else { throw Failure.notAFile }
      let size = attributes[.size] as? Int ?? 0
      if size > maximumBytes { throw Failure.tooLarge(sizeBytes: size) }
      return [UInt8](try Data(contentsOf: target))
    } catch let failure as Failure {
      throw failure
    } catch {
      throw .unreadable(error.localizedDescription)
    }
  }
}
