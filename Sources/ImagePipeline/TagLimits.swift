import Messages

/// Bounds of what an owner may seal beside an image, checked when tags are made and when they are opened.
public enum TagLimits {
  public static let maximumFileNameBytes = 255
  public static let maximumTags = 64
  /// Key and value together, in bytes of UTF-8.
  public static let maximumTagBytes = 1024
  /// All keys and values together: the masters take 64 KiB of sealed tags.
  public static let maximumTotalBytes = 60 << 10

  /// The last component of a path: where a file lies on its owner's disk is nobody's business.
  ///
  /// Empty where nothing is left that could name a file.
  public static func fileName(ofPath path: String) throws(PipelineError) -> String {
    let last = path.split(separator: "/", omittingEmptySubsequences: true).last ?? ""
    let name = String(last)
    if name == "." || name == ".." { return "" }
    try checkFileName(name)
    return name
  }

  static func check(_ tags: [TagEntry]) throws(PipelineError) {
    guard tags.count <= maximumTags else {
      throw .unusableTags("\(tags.count) tags were given, at most \(maximumTags) are taken")
    }
    var total = 0
    for tag in tags {
      guard !tag.key.isEmpty else { throw .unusableTags("a tag has an empty key") }
      let size = tag.key.utf8.count + tag.value.utf8.count
      guard size <= maximumTagBytes else {
        throw .unusableTags(
          "a tag of \(size) bytes was given, at most \(maximumTagBytes) are taken")
      }
      total += size
    }
    guard total <= maximumTotalBytes else {
      throw .unusableTags("the tags have \(total) bytes, at most \(maximumTotalBytes) are taken")
    }
  }

  /// A name that a user may safely write a file under: opened tags come from another hospital.
  static func checkFileName(_ name: String) throws(PipelineError) {
    guard name.utf8.count <= maximumFileNameBytes else {
      throw .unusableTags(
        "a file name of \(name.utf8.count) bytes was given, at most \(maximumFileNameBytes) are taken"
      )
    }
    guard !name.utf8.contains(UInt8(ascii: "/")), name != ".", name != "..",
      name.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F })
    else { throw .unusableTags("a file name holds a separator or a control character") }
  }
}
