/// File names made from what others wrote into their tags.
public enum SafeName {
  static let maximumBytes = 96

  /// A name that is one path component on every file system, begins with neither dot nor hyphen,
  /// and keeps its ending: letters, digits and "._-" of ASCII, everything else becomes "_".
  public static func component(_ text: String) -> String {
    let last = text.split(whereSeparator: { $0 == "/" || $0 == "\\" }).last ?? ""
    var name = ""
    for scalar in last.unicodeScalars {
      let isKept =
        ("a"..."z").contains(scalar) || ("A"..."Z").contains(scalar)
        || ("0"..."9").contains(scalar) || "._-".unicodeScalars.contains(scalar)
      name.unicodeScalars.append(isKept ? scalar : "_")
    }
    while let first = name.first, first == "." || first == "-" { name.removeFirst() }
    while name.last == "." { name.removeLast() }
    if name.isEmpty { return "image" }
    guard name.utf8.count > maximumBytes else { return name }
    guard let dot = name.lastIndex(of: "."), name.distance(from: dot, to: name.endIndex) <= 12
    else { return String(name.prefix(maximumBytes)) }
    let ending = name[dot...]
    return String(name[..<dot].prefix(maximumBytes - ending.count) + ending)
  }

  /// The name under which a query's result is written: "01-d003-1a2b3c4d-scan.png".
  ///
  /// The identity makes it unique, so that two owners' files of one name do not collide.
  public static func result(rank: Int, distance: Int, imageID: String, fileName: String) -> String {
    "\(padded(rank, 2))-d\(padded(distance, 3))-\(imageID.prefix(8))-\(component(fileName))"
  }

  private static func padded(_ number: Int, _ digits: Int) -> String {
    let text = String(number)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
  }
}
