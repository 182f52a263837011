import Base
import HammingIndex
import Messages

/// Which stored images are nearest to a code. It is filled from the state in order of ids, a piece at a time, while
/// the state already changes, as it does itself then; asked it may be once it is whole.
struct SearchIndex {
  /// Codes can be compared only within one model, one masking key and one length.
  private struct CodeSpace: Hashable {
    var modelVersion: String
    var indexKeyVersion: UInt32
    var bits: UInt32

    init(_ code: MaskedCode) {
      modelVersion = code.modelVersion
      indexKeyVersion = code.indexKeyVersion
      bits = code.bits
    }
  }

  private var indices: [CodeSpace: HammingIndex<ImageID>] = [:]
  /// Images up to this id are in it; nil: all are.
  private(set) var filledThrough: [UInt8]? = []

  var isWhole: Bool { filledThrough == nil }

  /// The records that follow `filledThrough` in the state; none: there are no more.
  mutating func fill(_ records: [ImageRecord]) {
    for record in records { insert(record) }
    filledThrough = records.last?.imageID
  }

  mutating func remove(_ record: ImageRecord) {
    guard let id = ImageID(record.imageID) else { return }
    for code in record.codes { indices[CodeSpace(code)]?.remove(id) }
  }

  /// Also of an image whose turn to be read from the state is still to come: then it is read as it is by then.
  mutating func insert(_ record: ImageRecord) {
    guard let id = ImageID(record.imageID) else {
      preconditionFailure("a committed image id of \(record.imageID.count) bytes")
    }
    for code in record.codes {
      do {
        try indices[CodeSpace(code), default: HammingIndex(bitCount: Int(code.bits))].insert(
          id, code: code.code)
      } catch {
        preconditionFailure("a committed code does not fit \(code.bits) bits: \(error)")
      }
    }
  }

  /// The nearest over all code spaces asked for, by distance, then by id.
  func nearest(
    to codes: [MaskedCode], count: Int
  ) throws -> [(id: ImageID, distance: Int)] {
    precondition(isWhole, "a search before the index was filled")
    var best: [ImageID: Int] = [:]
    for code in codes {
      guard let index = indices[CodeSpace(code)] else { continue }
      for hit in try index.nearest(to: code.code, limit: count) {
        best[hit.id] = min(best[hit.id] ?? .max, hit.distance)
      }
    }
    return best.sorted { ($0.value, $0.key) < ($1.value, $1.key) }.prefix(count).map {
      ($0.key, $0.value)
    }
  }
}
