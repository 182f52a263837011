import Base
import Glibc
import Imaging
import Messages

/// Takes an original piece by piece: checks its digest, writes it where it is wanted, keeps its
/// bytes for a picture. Confined to the task that receives.
final class OriginalSink {
  enum Destination: Equatable {
    case nowhere
    case standardOutput
    /// - Parameter replacing: false: a file of that name stays, and is an error where it differs.
    case file(String, replacing: Bool)
  }

  private let destination: Destination
  private let tags: ImageTags
  private let imageID: [UInt8]
  private let keepsBytes: Bool
  private let file: AtomicFile?
  private var hasher: SHA256Hasher? = SHA256Hasher()
  private(set) var bytes: [UInt8] = []

  init(
    _ destination: Destination, tags: ImageTags, imageID: [UInt8], keepsBytes: Bool = false
  ) throws(FileError) {
    self.destination = destination
    self.tags = tags
    self.imageID = imageID
    self.keepsBytes = keepsBytes
    if case .file(let path, _) = destination {
      file = try AtomicFile(path)
    } else {
      file = nil
    }
  }

  func take(_ piece: [UInt8]) throws(FileError) {
    hasher?.update(piece)
    try file?.write(piece)
    if destination == .standardOutput {
      try writeAll(piece, to: STDOUT_FILENO, path: "standard output")
    }
    if keepsBytes { bytes += piece }
  }

  /// Checks the digest and gives the file its name; a file of that name with the very same bytes
  /// is left as it is.
  func finish() throws {
    guard let hasher = hasher.take() else { preconditionFailure("finished twice") }
    let digest = hasher.finalize()
    try checkDigest(digest, of: tags, imageID: imageID)
    guard case .file(let path, let replacing) = destination else { return }
    do {
      try file?.commit(replacing: replacing)
    } catch where error.number == EEXIST {
      guard let there = try? Files.digest(of: path).digest, there == digest else {
        throw CommandFailure(
          .inputOutput, "\(path) exists with other content and was not overwritten",
          advice: "move it away, or write elsewhere", code: "FILE_EXISTS")
      }
    }
  }
}

/// The sheet that `query --montage` draws.
enum Montages {
  /// A larger original leaves its cell empty: it would have to be held in memory whole.
  static let maximumFileBytes: UInt64 = 256 << 20

  static func picture(ofFile path: String) throws -> GrayImage {
    let bytes = try Files.contents(of: path, limitBytes: Int(maximumFileBytes))
    do {
      return try ImageDecoder.decode(bytes).image
    } catch {
      throw CommandFailure(
        .badInput, "\(path): \(error)", advice: "the query must be a DICOM, PNG or JPEG file")
    }
  }

  static func picture(of bytes: [UInt8]) -> GrayImage? { try? ImageDecoder.decode(bytes).image }

  static func render(query: GrayImage, title: String, answers: [QueryAnswer]) -> [UInt8] {
    let results = answers.map { answer in
      (
        image: answer.picture, rank: Int(answer.result.rank),
        distance: Int(answer.result.distance),
        label: printable(answer.result.tags?.fileName ?? answer.result.imageID.hex)
      )
    }
    return Montage.render(query: query, results: results, title: printable(title))
  }
}
