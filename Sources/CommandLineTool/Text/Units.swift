import Glibc

/// Numbers as people read them.
public enum Units {
  /// `digits` places after the point, rounded half away from zero.
  public static func fixed(_ value: Double, digits: Int) -> String {
    guard value.isFinite else { return "-" }
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let scaled = (abs(value) * scale).rounded()
    guard scaled < 9e15 else { return "\(value)" }
    let whole = UInt64(scaled)
    let sign = value < 0 && whole > 0 ? "-" : ""
    if digits == 0 { return sign + String(whole) }
    let unit = UInt64(scale)
    let fraction = String(whole % unit)
    let padding = String(repeating: "0", count: digits - fraction.count)
    return "\(sign)\(whole / unit).\(padding)\(fraction)"
  }

  /// "0 B", "1023 B", "1.5 KiB", "20.0 MiB".
  public static func bytes(_ count: UInt64) -> String {
    if count < 1024 { return "\(count) B" }
    let names = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    var value = Double(count) / 1024
    var index = 0
    // 1023.95 would print as "1024.0".
    while value >= 1023.95, index < names.count - 1 {
      value /= 1024
      index += 1
    }
    return "\(fixed(value, digits: 1)) \(names[index])"
  }

  public static func rate(bytesPerSecond: Double) -> String {
    guard bytesPerSecond.isFinite, bytesPerSecond >= 0, bytesPerSecond < 1e18 else { return "-" }
    return bytes(UInt64(bytesPerSecond)) + "/s"
  }

  /// "0.4 s", "12.3 s", "2 min 05 s", "3 h 07 min", "2 d 04 h".
  public static func duration(seconds: Double) -> String {
    guard seconds.isFinite, seconds >= 0, seconds < 1e12 else { return "-" }
    if seconds < 59.95 { return fixed(seconds, digits: 1) + " s" }
    let total = UInt64(seconds.rounded())
    if total < 3600 { return "\(total / 60) min \(two(total % 60)) s" }
    if total < 86_400 { return "\(total / 3600) h \(two(total % 3600 / 60)) min" }
    return "\(total / 86_400) d \(two(total % 86_400 / 3600)) h"
  }

  /// Whole percent, never 100 before everything is done.
  public static func percent(_ done: UInt64, of total: UInt64) -> String {
    guard total > 0 else { return "100%" }
    if done >= total { return "100%" }
    return "\(min(99, UInt64(Double(done) / Double(total) * 100)))%"
  }

  /// "2026-11-23 16:04:05Z" of milliseconds since 1970; "-" for 0, which stands for unknown.
  public static func time(milliseconds: UInt64) -> String {
    guard milliseconds > 0, milliseconds < 253_402_300_800_000 else { return "-" }
    var seconds = time_t(milliseconds / 1000)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    let date =
      "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
    return "\(date) \(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))Z"
  }

  /// "3 images", "1 image".
  public static func count(_ number: Int, _ singular: String, _ plural: String? = nil) -> String {
    "\(number) \(number == 1 ? singular : plural ?? singular + "s")"
  }

  private static func two(_ value: some BinaryInteger) -> String {
    value < 10 ? "0\(value)" : "\(value)"
  }
}

/// Text from elsewhere made fit to print: a file name in another's tags must not drive the terminal.
public func printable(_ text: String) -> String {
  var result = ""
  for scalar in text.unicodeScalars {
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .unassigned,
      .surrogate:
      result += "?"
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result
}

/// At most `width` characters, the middle left out.
public func shortened(_ text: String, to width: Int) -> String {
  guard text.count > width else { return text }
  guard width > 3 else { return String(text.prefix(max(0, width))) }
  let tail = (width - 1) / 2
  return text.prefix(width - 1 - tail) + "…" + text.suffix(tail)
}
