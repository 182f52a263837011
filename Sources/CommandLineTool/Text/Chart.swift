import Foundation

/// A chart of lines as SVG 1.1, with axes, a grid and a legend; nothing in it depends on fonts that a viewer may lack.
public struct Chart: Sendable {
  public enum Style: Sendable {
    case solid
    /// Of the colour of the solid line before it.
    case dashed
    /// Grey and dotted: what others are to be compared with.
    case baseline
  }

  public struct Series: Sendable {
    public let name: String
    public let points: [(x: Double, y: Double)]
    public let style: Style
  }

  public let title: String
  public let horizontal: String
  public let vertical: String
  public var horizontalRange: ClosedRange<Double>?
  public var verticalRange: ClosedRange<Double>?
  public private(set) var series: [Series] = []

  /// Told apart also by people who see colours differently (Okabe and Ito, 2008).
  private static let colours = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
  ]
  private static let (width, plotHeight) = (720.0, 300.0)
  private static let (left, right, top, axis) = (64.0, 16.0, 40.0, 44.0)
  private static let legendLine = 18.0

  public init(title: String, horizontal: String, vertical: String) {
    self.title = title
    self.horizontal = horizontal
    self.vertical = vertical
  }

  /// Points that are no numbers are left out.
  public mutating func add(
    _ name: String, _ points: [(Double, Double)], as style: Style = .solid
  ) {
    let known = points.filter { $0.0.isFinite && $0.1.isFinite }.map { (x: $0.0, y: $0.1) }
    series.append(Series(name: name, points: known, style: style))
  }

  private var height: Double {
    Self.top + Self.plotHeight + Self.axis + Self.legendLine * Double(series.count) + 12
  }

  /// Charts one below the other.
  public static func page(_ charts: [Chart]) -> String {
    let height = charts.reduce(0) { $0 + $1.height }
    var text =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(number(width))\" height=\"\(number(height))\" "
      + "viewBox=\"0 0 \(number(width)) \(number(height))\" font-family=\"sans-serif\" font-size=\"12\">\n"
      + "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    var top = 0.0
    for chart in charts {
      text += "<g transform=\"translate(0 \(number(top)))\">\n\(chart.body)</g>\n"
      top += chart.height
    }
    return text + "</svg>\n"
  }

  private func extent(_ values: [Double], _ fixed: ClosedRange<Double>?) -> ClosedRange<Double> {
    if let fixed { return fixed }
    guard let low = values.min(), let high = values.max() else { return 0...1 }
    return low < high ? low...high : low - 0.5...low + 0.5
  }

  /// Round numbers of about so many steps.
  private static func ticks(_ range: ClosedRange<Double>, about count: Double) -> [Double] {
    let rough = (range.upperBound - range.lowerBound) / count
    let power = pow(10, (log10(rough)).rounded(.down))
    let step = [1, 2, 5, 10].map { $0 * power }.first { $0 >= rough } ?? rough
    let first = (range.lowerBound / step - 1e-9).rounded(.up)
    let last = (range.upperBound / step + 1e-9).rounded(.down)
    guard last >= first, last - first < 100 else { return [] }
    return stride(from: first, through: last, by: 1).map { $0 * step }
  }

  private static func number(_ value: Double) -> String {
    let text = Units.fixed(value, digits: 2)
    guard text.contains(".") else { return text }
    var digits = Substring(text)
    while digits.last == "0" { digits.removeLast() }
    if digits.last == "." { digits.removeLast() }
    return digits == "-0" ? "0" : String(digits)
  }

  private static func label(_ value: Double, step: Double) -> String {
    let digits = step > 0 ? max(0, min(6, Int((-log10(step)).rounded(.up)))) : 0
    return Units.fixed(abs(value) < step / 1e6 ? 0 : value, digits: digits)
  }

  private static func escaped(_ text: String) -> String {
    // XML has no place for control characters.
    printable(text).replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(
      ">", with: "&gt;")
  }

  private var body: String {
    let x = extent(series.flatMap { $0.points.map(\.x) }, horizontalRange)
    let y = extent(series.flatMap { $0.points.map(\.y) }, verticalRange)
    let plotWidth = Self.width - Self.left - Self.right
    let bottom = Self.top + Self.plotHeight
    func place(_ point: (x: Double, y: Double)) -> (String, String) {
      let across = (point.x - x.lowerBound) / (x.upperBound - x.lowerBound)
      let up = (point.y - y.lowerBound) / (y.upperBound - y.lowerBound)
      return (
        Self.number(Self.left + across * plotWidth), Self.number(bottom - up * Self.plotHeight)
      )
    }
    func text(_ x: Double, _ y: Double, _ anchor: String, _ content: String, _ more: String = "")
      -> String
    {
      "<text x=\"\(Self.number(x))\" y=\"\(Self.number(y))\" text-anchor=\"\(anchor)\"\(more)>"
        + "\(Self.escaped(content))</text>\n"
    }
    var out = text(Self.left, 22, "start", title, " font-size=\"15\" font-weight=\"bold\"")
    let (columns, rows) = (Self.ticks(x, about: 8), Self.ticks(y, about: 6))
    func step(_ ticks: [Double]) -> Double { ticks.count > 1 ? ticks[1] - ticks[0] : 1 }
    for tick in rows {
      let at = place((x.lowerBound, tick)).1
      out +=
        "<path d=\"M\(Self.number(Self.left)) \(at)H\(Self.number(Self.left + plotWidth))\" stroke=\"#DDD\"/>\n"
      out += text(
        Self.left - 8, (Double(at) ?? 0) + 4, "end", Self.label(tick, step: step(rows)))
    }
    for tick in columns {
      let at = place((tick, y.lowerBound)).0
      out +=
        "<path d=\"M\(at) \(Self.number(bottom))v4\" stroke=\"#444\"/>\n"
      out += text(Double(at) ?? 0, bottom + 18, "middle", Self.label(tick, step: step(columns)))
    }
    out +=
      "<path d=\"M\(Self.number(Self.left)) \(Self.number(Self.top))V\(Self.number(bottom))"
      + "H\(Self.number(Self.left + plotWidth))\" fill=\"none\" stroke=\"#444\"/>\n"
    out += text(Self.left + plotWidth, bottom + 36, "end", horizontal)
    out += text(Self.left, 36, "start", vertical, " fill=\"#444\"")
    for (index, line) in series.enumerated() {
      let (colour, dash) = look(index)
      let points = line.points.map { place($0) }.map { "\($0.0),\($0.1)" }
      out +=
        "<polyline points=\"\(points.joined(separator: " "))\" fill=\"none\" stroke=\"\(colour)\" "
        + "stroke-width=\"2\"\(dash)/>\n"
      let at = bottom + Self.axis + Self.legendLine * (Double(index) + 0.5)
      out +=
        "<path d=\"M\(Self.number(Self.left)) \(Self.number(at - 4))h28\" stroke=\"\(colour)\" stroke-width=\"2\"\(dash)/>\n"
      out += text(Self.left + 36, at, "start", line.name)
    }
    return out
  }

  private static let greys = ["#666666", "#AAAAAA"]

  /// Colour and dashes of a line.
  private func look(_ index: Int) -> (colour: String, dash: String) {
    let before = series[...index]
    if series[index].style == .baseline {
      let number = before.count { $0.style == .baseline } - 1
      return (Self.greys[number % Self.greys.count], " stroke-dasharray=\"2 3\"")
    }
    let number = max(0, before.count { $0.style == .solid } - 1)
    let colour = Self.colours[number % Self.colours.count]
    return (colour, series[index].style == .dashed ? " stroke-dasharray=\"5 4\"" : "")
  }
}
