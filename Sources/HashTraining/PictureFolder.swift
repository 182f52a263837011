import Base
import DeepHash
import Dispatch
import Foundation
import Imaging

/// Which pictures a network may learn from, and which it is judged by.
public enum SplitProtocol: String, Sendable, CaseIterable, Codable {
  /// No subject, scan series or group of near duplicates on both sides; honest, and hard.
  case group
  /// Pictures are shuffled, as in the paper; neighbouring slices of one person stand on both sides.
  case random

  /// As model files name it, also those that other programs made.
  init?(metadata text: String) {
    switch text {
    case "split": self = .group
    case "random_split": self = .random
    default: self.init(rawValue: text)
    }
  }
}

/// Why a folder of pictures cannot be learned from.
public enum PictureFolderError: Error, Sendable, Equatable, CustomStringConvertible {
  case unreadable(path: String, reason: String)
  case notFound(path: String)
  case notAFolder(path: String)
  /// Something in a folder of pictures that would be left out without a word.
  case unexpected(path: String, reason: String)
  case noPictures(path: String)
  /// The manifest is not what it has to be.
  case badManifest(line: Int, reason: String)
  case noGroups(path: String)
  /// A split by groups that has the same one on both sides.
  case groupOnBothSides(String)
  case oneClass(String)
  case emptySplit(String)
  case badPictures(count: Int, first: [String])
  case tooMuch(path: String, sizeBytes: Int, maximumBytes: Int)
  case tooManyPictures(path: String)

  public var description: String {
    switch self {
    case .unreadable(let path, let reason): "cannot read \(path): \(reason)"
    case .notFound(let path): "there is no folder \(path)"
    case .notAFolder(let path): "\(path) is no folder"
    case .unexpected(let path, let reason): "\(path) \(reason)"
    case .groupOnBothSides(let name):
      "manifest.csv has pictures of the group '\(name)' on both sides of its split"
    case .noPictures(let path):
      "\(path) holds no pictures: neither manifest.csv, nor train/CLASS/ and test/CLASS/, nor CLASS/ with files"
    case .badManifest(let line, let reason): "manifest.csv, line \(line): \(reason)"
    case .noGroups(let path):
      "\(path) does not say which pictures belong together: a split by groups needs manifest.csv or train/ and test/"
    case .oneClass(let name):
      "all training pictures are of the class \(name): there is nothing to tell apart"
    case .emptySplit(let name): "there are no \(name) pictures"
    case .badPictures(let count, let first):
      "\(count) picture\(count == 1 ? "" : "s") cannot be read:\n" + first.joined(separator: "\n")
    case .tooMuch(let path, let sizeBytes, let maximumBytes):
      "\(path) would need \(sizeBytes >> 20) MiB of memory, more than \(maximumBytes >> 20)"
    case .tooManyPictures(let path):
      "\(path) has more than \(PictureFolder.maximumPictures) pictures"
    }
  }
}

/// A folder of pictures with their classes and how they are split.
///
/// Three forms are understood: `manifest.csv` with the columns path, class, split and, for the random protocol,
/// random_split; folders `train/CLASS/` and `test/CLASS/`; folders `CLASS/`, which are shuffled from the seed, four fifths
/// for training.
public struct PictureFolder: Sendable {
  public struct Picture: Sendable, Equatable {
    /// Below the folder.
    public let path: String
    public let label: Int
    public let isForTraining: Bool
  }

  public let directory: String
  /// In the order of their names.
  public let classes: [String]
  /// In the order of their paths.
  public let pictures: [Picture]
  /// What a reader of figures has to know of the split, where there is something.
  public let splitRemark: String?

  public static let maximumPictures = 1 << 20
  private static let maximumManifestBytes = 256 << 20

  public init(
    directory: String, split: SplitProtocol, seed: UInt64
  ) throws(PictureFolderError) {
    self.directory = directory
    var isDirectory: ObjCBool = false
    guard FileManager.default.fileExists(atPath: directory, isDirectory: &isDirectory) else {
      throw .notFound(path: directory)
    }
    guard isDirectory.boolValue else { throw .notAFolder(path: directory) }
    var found: [Found]
    var ungrouped: Int?
    if FileManager.default.fileExists(atPath: directory + "/manifest.csv") {
      (found, ungrouped) = try Self.manifest(directory, split)
    } else {
      found = try Self.folders(directory, split, seed: seed)
    }
    splitRemark = split == .group ? Self.remark(directory, ungrouped: ungrouped) : nil
    found.sort { $0.path < $1.path }
    if found.isEmpty { throw .noPictures(path: directory) }
    if found.count > Self.maximumPictures { throw .tooManyPictures(path: directory) }
    let names = Set(found.map(\.name)).sorted()
    let labels = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
    classes = names
    pictures = found.map {
      Picture(path: $0.path, label: labels[$0.name] ?? 0, isForTraining: $0.isForTraining)
    }
    let training = pictures.filter(\.isForTraining)
    if training.isEmpty { throw .emptySplit("training") }
    if training.count == pictures.count { throw .emptySplit("test") }
    if Set(training.map(\.label)).count < 2 { throw .oneClass(classes[training[0].label]) }
  }

  /// Of the paths on both sides: who asks with other pictures, or of others, measures something else.
  public var splitDigest: String {
    var text = ""
    for picture in pictures {
      text += "\(picture.isForTraining ? "train" : "test") \(picture.path)\n"
    }
    return sha256(Array(text.utf8)).hex
  }

  public var trainingImages: [Int] { pictures.indices.filter { pictures[$0].isForTraining } }
  public var testImages: [Int] { pictures.indices.filter { !pictures[$0].isForTraining } }

  // MARK: - What is there

  private typealias Found = (path: String, name: String, isForTraining: Bool)

  /// - Parameter ungrouped: pictures of which nothing says what they belong to; nil for all.
  private static func remark(_ directory: String, ungrouped: Int?) -> String? {
    guard ungrouped != 0 else { return nil }
    return "\(directory): the split is taken as it is"
      + (ungrouped.map { " where pictures have no group (\($0) of them)" } ?? "")
      + "; that nobody is on both sides, whoever made it knows"
  }

  /// - Returns: the pictures, and how many of them a column `group` says nothing of; nil where there is none.
  private static func manifest(
    _ directory: String, _ split: SplitProtocol
  ) throws(PictureFolderError) -> ([Found], Int?) {
    let path = directory + "/manifest.csv"
    var text = try text(of: path)
    // Spreadsheets mark UTF-8 with it.
    if text.first == "\u{FEFF}" { text.removeFirst() }
    // A carriage return and a line feed are one character.
    var lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)[...]
    let columns = Self.fields(lines.popFirst() ?? "")
    let wanted = split == .group ? "split" : "random_split"
    guard let pathColumn = columns.firstIndex(of: "path"),
      let classColumn = columns.firstIndex(of: "class")
    else { throw .badManifest(line: 1, reason: "no columns path and class") }
    guard let splitColumn = columns.firstIndex(of: wanted) else {
      throw .badManifest(line: 1, reason: "no column \(wanted)")
    }
    let groupColumn = columns.firstIndex(of: "group")
    var sides: [String: Bool] = [:]
    var ungrouped = 0
    var found: [Found] = []
    var seen: Set<String> = []
    for (index, line) in lines.enumerated() where !line.allSatisfy(\.isWhitespace) {
      let fields = Self.fields(line)
      guard fields.count == columns.count else {
        throw .badManifest(
          line: index + 2, reason: "\(fields.count) fields where \(columns.count) are named")
      }
      let path = fields[pathColumn]
      // A manifest comes from outside: it does not name files beside the folder.
      let parts = path.split(separator: "/", omittingEmptySubsequences: false)
      guard !parts.contains(""), !parts.contains(".."), !parts.contains(".") else {
        throw .badManifest(line: index + 2, reason: "the path '\(path)' leaves the folder")
      }
      guard seen.insert(path).inserted else {
        throw .badManifest(line: index + 2, reason: "\(path) stands there twice")
      }
      guard ["train", "test"].contains(fields[splitColumn]) else {
        throw .badManifest(
          line: index + 2, reason: "\(wanted) is '\(fields[splitColumn])', neither train nor test")
      }
      let isForTraining = fields[splitColumn] == "train"
      if split == .group, let groupColumn {
        let group = fields[groupColumn]
        if group.isEmpty { ungrouped += 1 }
        guard
          group.isEmpty
            || sides.updateValue(isForTraining, forKey: group) ?? isForTraining == isForTraining
        else { throw .groupOnBothSides(group) }
      }
      let name = fields[classColumn]
      guard !name.isEmpty, name.first?.isWhitespace == false, name.last?.isWhitespace == false
      else { throw .badManifest(line: index + 2, reason: "the class is '\(name)'") }
      found.append((path, name, isForTraining))
    }
    return (found, groupColumn.map { _ in ungrouped })
  }

  /// Of a line of RFC 4180, without line breaks inside fields.
  private static func fields(_ line: Substring) -> [String] {
    var fields: [String] = []
    var field = ""
    var isQuoted = false
    var previous: Character = " "
    for character in line {
      if character == "\"" {
        if !isQuoted && previous == "\"" { field.append("\"") }
        isQuoted.toggle()
      } else if character == "," && !isQuoted {
        fields.append(field)
        field = ""
      } else {
        field.append(character)
      }
      previous = character
    }
    return fields + [field]
  }

  private static func text(of path: String) throws(PictureFolderError) -> String {
    let bytes: [UInt8]
    do throws(RegularFile.Failure) {
      bytes = try RegularFile.contents(of: path, maximumBytes: maximumManifestBytes)
    } catch {
      throw .unreadable(path: path, reason: error.description)
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw .badManifest(line: 1, reason: "it is not UTF-8")
    }
    return text
  }

  private static func folders(
    _ directory: String, _ split: SplitProtocol, seed: UInt64
  ) throws(PictureFolderError) -> [Found] {
    let top = try folders(in: directory)
    if top.contains("train") && top.contains("test") {
      if let other = top.first(where: { $0 != "train" && $0 != "test" }) {
        throw .unexpected(
          path: "\(directory)/\(other)",
          reason: "stands beside train and test: nothing would be learned from it or asked of it")
      }
      var found: [Found] = []
      for side in ["train", "test"] {
        for name in try folders(in: "\(directory)/\(side)") {
          for file in try files("\(directory)/\(side)/\(name)") {
            found.append(("\(side)/\(name)/\(file)", name, side == "train"))
          }
        }
      }
      return split == .group ? found : shuffled(found, seed: seed)
    }
    if split == .group { throw .noGroups(path: directory) }
    var found: [Found] = []
    for name in top {
      for file in try files("\(directory)/\(name)") {
        found.append(("\(name)/\(file)", name, true))
      }
    }
    return shuffled(found, seed: seed)
  }

  private static func shuffled(
    _ found: [Found], seed: UInt64
  ) -> [Found] {
    var dice = SplitMix64(seed: seed)
    let order = found.sorted { $0.path < $1.path }.shuffled(using: &dice)
    let training = order.count * 4 / 5
    return order.enumerated().map { ($1.path, $1.name, $0 < training) }
  }

  /// A picture beside them would be of no class.
  private static func folders(in path: String) throws(PictureFolderError) -> [String] {
    let children = try children(path)
    for child in children where child.isFile && isPicture("\(path)/\(child.name)") {
      throw .unexpected(
        path: "\(path)/\(child.name)", reason: "is a picture, where folders of classes are expected"
      )
    }
    return children.filter(\.isDirectory).map(\.name)
  }

  /// By its first bytes.
  private static func isPicture(_ path: String) -> Bool {
    guard let file = FileHandle(forReadingAtPath: path) else { return false }
    defer { try? file.close() }
    let head = (try? file.read(upToCount: 256)) ?? Data()
    return ImageFormat.sniffed(from: [UInt8](head)) != nil
  }

  /// Of a class; a folder in it would be pictures that nobody learns from.
  private static func files(_ path: String) throws(PictureFolderError) -> [String] {
    let children = try children(path)
    if let folder = children.first(where: \.isDirectory) {
      throw .unexpected(
        path: "\(path)/\(folder.name)",
        reason: "is a folder, where pictures of a class are expected")
    }
    return children.map(\.name)
  }

  /// In the order of their names; hidden ones are left out.
  private static func children(
    _ path: String
  ) throws(PictureFolderError) -> [(name: String, isDirectory: Bool, isFile: Bool)] {
    guard let stream = opendir(path) else {
      throw .unreadable(path: path, reason: String(cString: strerror(errno)))
    }
    defer { closedir(stream) }
    var children: [(name: String, isDirectory: Bool, isFile: Bool)] = []
    while let entry = readdir(stream) {
      let bytes = withUnsafeBytes(of: &entry.pointee.d_name) { $0.prefix { $0 != 0 }.map { $0 } }
      guard let name = String(validating: bytes, as: UTF8.self) else {
        throw .unexpected(
          path: "\(path)/\(String(decoding: bytes, as: UTF8.self))",
          reason: "has a name that is not UTF-8")
      }
      if name.hasPrefix(".") { continue }
      var status = stat()
      guard stat("\(path)/\(name)", &status) == 0 else {
        throw .unreadable(path: "\(path)/\(name)", reason: String(cString: strerror(errno)))
      }
      let kind = status.st_mode & S_IFMT
      children.append((name, kind == S_IFDIR, kind == S_IFREG))
    }
    return children.sorted { $0.name < $1.name }
  }

  // MARK: - Pixels

  private static let maximumMemoryBytes = 8 << 30
  private static let maximumFileBytes = 256 << 20

  /// All pictures as the network sees them; on all cores.
  /// - Parameters:
  ///   - side: of the network's input.
  ///   - isCancelled: asked now and then; a `CancellationError` ends the loading then.
  public func load(
    side: Int, isCancelled: @Sendable () -> Bool = { false }
  ) throws -> TrainingSet {
    let sizeBytes = pictures.count * side * side * MemoryLayout<Float>.size
    if sizeBytes > Self.maximumMemoryBytes {
      throw PictureFolderError.tooMuch(
        path: directory, sizeBytes: sizeBytes, maximumBytes: Self.maximumMemoryBytes)
    }
    let failures = Locked<[Int: String]>([:])
    var decoded: [[Float]] = []
    let set = try TrainingSet(
      labels: pictures.map(\.label), classes: classes, channels: 1, height: side, width: side
    ) { number, out throws(CancellationError) in
      if isCancelled() { throw CancellationError() }
      // Some at a time: all of them twice would be too much.
      if number % Self.decodedTogether == 0 {
        let range = number..<min(number + Self.decodedTogether, pictures.count)
        decoded = decode(range, side: side, failures)
      }
      let pixels = decoded[number % Self.decodedTogether]
      if pixels.isEmpty { out.initialize(repeating: 0) } else { _ = out.initialize(from: pixels) }
    }
    let failed = failures.withLock { $0 }
    if !failed.isEmpty {
      throw PictureFolderError.badPictures(
        count: failed.count, first: failed.keys.sorted().prefix(5).map { failed[$0] ?? "" })
    }
    return set
  }

  private static let decodedTogether = 256

  /// On all cores; nothing for those that cannot be read.
  private func decode(
    _ range: Range<Int>, side: Int, _ failures: Locked<[Int: String]>
  ) -> [[Float]] {
    let pixels = Locked([[Float]](repeating: [], count: range.count))
    DispatchQueue.concurrentPerform(iterations: range.count) { index in
      let picture = pictures[range.lowerBound + index]
      do {
        let values = ModelInput.pixels(try Self.decoded("\(directory)/\(picture.path)"), side: side)
        pixels.withLock { $0[index] = values }
      } catch {
        failures.withLock { $0[range.lowerBound + index] = "  \(picture.path): \(error)" }
      }
    }
    return pixels.withLock { $0 }
  }

  private static func decoded(_ path: String) throws -> GrayImage {
    try ImageDecoder.decode(RegularFile.contents(of: path, maximumBytes: maximumFileBytes)).image
  }
}
