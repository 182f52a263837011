import Base
import Glibc

/// How far reading everything again has come. Kept in the store's folder, so that a restart goes on.
public struct ScrubProgress: Sendable, Equatable {
  public var position = ScrubPosition.start
  /// Wall clock, milliseconds since 1970; 0 before the first pass.
  public var passStartedMilliseconds: UInt64 = 0
  /// When the last whole pass began whose end was reached; 0 where none was.
  public var lastFullMilliseconds: UInt64 = 0
  /// Read in this pass.
  public var sizeBytes: UInt64 = 0

  public init() {}

  private static let magic: [UInt8] = Array("SFMSCRUB".utf8)

  func encoded() -> [UInt8] {
    FileBlock.encode(
      magic: Self.magic,
      fields: littleEndian(position.segmentIdentifier) + littleEndian(position.generation)
        + littleEndian(position.offsetBytes) + littleEndian(passStartedMilliseconds)
        + littleEndian(lastFullMilliseconds) + littleEndian(sizeBytes))
  }

  /// Nil for what is not a progress of this version: scrubbing then begins anew.
  init?(_ bytes: [UInt8]) {
    guard case .valid = FileBlock.decode(bytes, magic: Self.magic) else { return nil }
    position = ScrubPosition(
      segmentIdentifier: integer(bytes[16..<24]), generation: integer(bytes[24..<28]),
      offsetBytes: integer(bytes[28..<36]))
    passStartedMilliseconds = integer(bytes[36..<44])
    lastFullMilliseconds = integer(bytes[44..<52])
    sizeBytes = integer(bytes[52..<60])
  }
}

extension SegmentFiles {
  func readScrubProgress() -> ScrubProgress? {
    guard let file = try? disk.open(path(FileName.scrub), mode: .readOnly),
      let bytes = try? readStart(of: file, count: FileBlock.sizeBytes + 1)
    else { return nil }
    return ScrubProgress(bytes)
  }

  func writeScrubProgress(_ progress: ScrubProgress) throws(DiskError) {
    let temporary = path(FileName.scrub + FileName.temporarySuffix)
    do { try disk.remove(temporary) } catch {
      if error.code != ENOENT { throw error }
    }
    let file = try disk.open(temporary, mode: .createNew)
    try write(progress.encoded(), to: file)
    try file.synchronize()
    try disk.rename(temporary, to: path(FileName.scrub))
  }
}
