import Base

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

  func writeManifest(_ manifest: Manifest) throws(DiskError) {
    _ = try createDurably(FileName.manifest, manifest.encoded())
  }

  func removeSegments(_ identifiers: [UInt64]) throws(DiskError) {
    for identifier in identifiers { try disk.remove(path(FileName.segment(identifier))) }
    try disk.synchronizeDirectory(directory)
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

  private func write(_ content: [UInt8], to file: any DiskFile) throws(DiskError) {
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
