import Base
import Glibc

/// The files of one store's folder: names, creation in an order that a crash may interrupt anywhere.
struct SegmentFiles: Sendable {
  let disk: any Disk
  let directory: String

  func path(_ name: String) -> String { "\(directory)/\(name)" }

  /// Makes a segment file durable under its name, or not at all: it gets its header under a temporary name
  /// first, so a bad header under the final name is always rot.
  func createSegment(_ header: SegmentHeader) throws(DiskError) -> any DiskFile {
    try createDurably(FileName.segment(header.segmentIdentifier), header.encoded())
  }

  /// A segment file under its temporary name, with nothing but its header: nothing of it counts before
  /// ``replaceSegment(_:)``.
  func beginSegment(_ header: SegmentHeader) throws(DiskError) -> any DiskFile {
    try removeTemporarySegment(header.segmentIdentifier)
    let file = try disk.open(temporarySegment(header.segmentIdentifier), mode: .createNew)
    do { try write(header.encoded(), to: file) } catch {
      try? removeTemporarySegment(header.segmentIdentifier)
      throw error
    }
    return file
  }

  /// Puts a finished, synchronized temporary file into the place of the segment, durably.
  func replaceSegment(_ identifier: UInt64) throws(DiskError) -> any DiskFile {
    let path = path(FileName.segment(identifier))
    try disk.rename(temporarySegment(identifier), to: path)
    try disk.synchronizeDirectory(directory)
    return try disk.open(path, mode: .readOnly)
  }

  /// Does nothing where there is none.
  func removeTemporarySegment(_ identifier: UInt64) throws(DiskError) {
    do { try disk.remove(temporarySegment(identifier)) } catch {
      if error.code != ENOENT { throw error }
    }
  }

  private func temporarySegment(_ identifier: UInt64) -> String {
    path(FileName.segment(identifier) + FileName.temporarySuffix)
  }

  func writeManifest(_ manifest: Manifest) throws(DiskError) {
    _ = try createDurably(FileName.manifest, manifest.encoded())
  }

  func removeSegments(_ identifiers: [UInt64]) throws(DiskError) {
    for identifier in identifiers {
      try disk.remove(path(FileName.segment(identifier)))
      try removeHint(identifier)
    }
    try disk.synchronizeDirectory(directory)
  }

  /// Does nothing where there is none.
  func removeHint(_ identifier: UInt64) throws(DiskError) {
    do { try disk.remove(path(FileName.hint(identifier))) } catch {
      if error.code != ENOENT { throw error }
    }
  }

  /// Whole under its name, or not there. That it is lost costs a reading of its segment and nothing else, so nobody waits
  /// for the directory.
  func writeHint(_ hint: HintFile) throws(DiskError) {
    let name = FileName.hint(hint.segmentIdentifier)
    let temporary = path(name + FileName.temporarySuffix)
    let file = try disk.open(temporary, mode: .createNew)
    do {
      try write(hint.encoded(), to: file)
      try file.synchronize()
      try disk.rename(temporary, to: path(name))
    } catch {
      try? disk.remove(temporary)
      throw error
    }
  }

  /// Nil where there is none.
  func readHint(
    _ identifier: UInt64, limitBytes: UInt64
  ) throws(DiskError) -> FileBlockResult<HintFile>? {
    let file: any DiskFile
    do { file = try disk.open(path(FileName.hint(identifier)), mode: .readOnly) } catch {
      if error.code == ENOENT { return nil }
      throw error
    }
    let size = try file.sizeBytes()
    guard size <= limitBytes else { return .damaged }
    return HintFile.decode(try readStart(of: file, count: Int(size)))
  }

  private func createDurably(
    _ name: String, _ content: [UInt8]
  ) throws(DiskError) -> any DiskFile {
    let temporary = path(name + FileName.temporarySuffix)
    let file = try disk.open(temporary, mode: .createNew)
    try write(content, to: file)
    try file.synchronize()
    try disk.rename(temporary, to: path(name))
    try disk.synchronizeDirectory(directory)
    // Opened again, so that errors name the file that stands there.
    return try disk.open(path(name), mode: .readWrite)
  }

  func write(_ content: [UInt8], to file: any DiskFile) throws(DiskError) {
    var failure: DiskError?
    content.withUnsafeBytes { bytes in
      do throws(DiskError) { try file.write(bytes, at: 0) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  /// The first `count` bytes of a file, fewer where it is shorter.
  func readStart(of file: any DiskFile, count: Int) throws(DiskError) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: count)
    var outcome: Result<Int, DiskError> = .success(0)
    result.withUnsafeMutableBytes { buffer in
      do throws(DiskError) { outcome = .success(try file.read(into: buffer, at: 0)) } catch {
        outcome = .failure(error)
      }
    }
    return Array(result.prefix(try outcome.get()))
  }
}
