import Foundation

/// The folder of the data sets, which are not part of the repository.
enum DataFolder {
  static let url: URL? = {
    let environment = ProcessInfo.processInfo.environment["SFMEDIR_DATA"]
    let packageRoot = URL(fileURLWithPath: #filePath)
      .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    let url =
      environment.map { URL(fileURLWithPath: $0) }
      ?? packageRoot.deletingLastPathComponent().appendingPathComponent("shared/data")
    return FileManager.default.fileExists(atPath: url.appendingPathComponent("dicom").path)
      ? url : nil
  }()

  /// The folder, or nil after saying that the test is skipped.
  static func required(for test: String = #function) -> URL? {
    if url == nil { print("SKIPPED \(test): data folder absent") }
    return url
  }
}

func bytes(of url: URL) throws -> [UInt8] { [UInt8](try Data(contentsOf: url)) }

/// Rows of a CSV file with a heading, fields by name; quoted fields may hold commas.
func table(_ text: String) -> [[String: String]] {
  let rows = text.split(whereSeparator: \.isNewline).map { line -> [String] in
    var fields = [""]
    var quoted = false
    for character in line {
      switch character {
      case "\"": quoted.toggle()
      case "," where !quoted: fields.append("")
      default: fields[fields.count - 1].append(character)
      }
    }
    return fields
  }
  guard let heading = rows.first else { return [] }
  return rows.dropFirst().map { Dictionary(uniqueKeysWithValues: zip(heading, $0)) }
}

/// The regular files of a POSIX tar archive.
struct TarArchive {
  private let data: Data
  private var places: [String: Range<Int>] = [:]

  init(_ url: URL) throws {
    data = try Data(contentsOf: url, options: .mappedIfSafe)
    var at = 0
    while at + 512 <= data.count, data[at] != 0 {
      let size = Int(field(at + 124, 12), radix: 8) ?? 0
      let prefix = field(at + 257, 5) == "ustar" ? field(at + 345, 155) : ""
      let name = (prefix.isEmpty ? "" : prefix + "/") + field(at, 100)
      places[name] = (at + 512)..<(at + 512 + size)
      at += 512 + (size + 511) / 512 * 512
    }
  }

  private func field(_ at: Int, _ count: Int) -> String {
    let raw = data[at..<(at + count)].prefix { $0 != 0 }
    return String(decoding: raw, as: UTF8.self).trimmingCharacters(in: .whitespaces)
  }

  func file(_ name: String) -> [UInt8]? { places[name].map { [UInt8](data[$0]) } }
}
