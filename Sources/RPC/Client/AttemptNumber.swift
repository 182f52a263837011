import Messages

/// Metadata that tells a server which attempt of a call it sees (docs/formats/wire.md).
enum AttemptNumber {
  static let key = "sfmedir-attempt"

  /// The caller's metadata and the attempt's number, where it is not the first.
  static func metadata(_ metadata: [MetadataEntry], attempt: Int) -> [MetadataEntry] {
    guard attempt > 1 || metadata.contains(where: { $0.key == key }) else { return metadata }
    var result = metadata.filter { $0.key != key }
    guard attempt > 1 else { return result }
    var entry = MetadataEntry()
    entry.key = key
    entry.value = Array(String(attempt).utf8)
    let size = (result + [entry]).reduce(0) { $0 + $1.key.utf8.count + $1.value.count }
    // A call that its own metadata fills goes without: it must not fail for being made again.
    if result.count < ConnectionLimits.maximumMetadataEntries,
      size <= ConnectionLimits.maximumMetadataBytes
    {
      result.append(entry)
    }
    return result
  }
}

extension CallContext {
  /// 1 for a call that is made for the first time, as far as its caller says.
  public var attempt: Int {
    guard let entry = metadata.first(where: { $0.key == AttemptNumber.key }),
      entry.value.count <= 4, let text = String(validating: entry.value, as: UTF8.self),
      let number = Int(text), number > 1
    else { return 1 }
    return number
  }
}
