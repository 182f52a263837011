/// A colour of the screen, 8 bits a channel.
struct Color: Sendable, Equatable {
  var red: UInt8
  var green: UInt8
  var blue: UInt8

  /// `0xRRGGBB`.
  init(_ hexadecimal: UInt32) {
    red = UInt8(hexadecimal >> 16 & 0xFF)
    green = UInt8(hexadecimal >> 8 & 0xFF)
    blue = UInt8(hexadecimal & 0xFF)
  }
}

/// An RGB picture to draw on. Everything is clipped at its edges; edges and text are antialiased.
struct Canvas {
  struct Rectangle {
    var x: Int
    var y: Int
    var width: Int
    var height: Int

    func inset(by distance: Int) -> Rectangle {
      Rectangle(
        x: x + distance, y: y + distance, width: width - 2 * distance,
        height: height - 2 * distance)
    }
  }

  let width: Int
  let height: Int
  private(set) var pixels: [UInt8]

  init(width: Int, height: Int, background: Color) {
    precondition(width > 0 && height > 0, "a canvas has pixels: \(width) x \(height)")
    self.width = width
    self.height = height
    pixels = [UInt8](unsafeUninitializedCapacity: 3 * width * height) { buffer, initialized in
      for at in 0..<(width * height) {
        buffer[3 * at] = background.red
        buffer[3 * at + 1] = background.green
        buffer[3 * at + 2] = background.blue
      }
      initialized = 3 * width * height
    }
  }

  /// `coverage` 0...1 is how much of the pixel the colour hides.
  private mutating func blend(_ x: Int, _ y: Int, _ color: Color, coverage: Double) {
    guard x >= 0, y >= 0, x < width, y < height, coverage > 0 else { return }
    let alpha = Int(min(coverage, 1) * 256 + 0.5)
    let at = 3 * (y * width + x)
    pixels[at] = Self.mixed(pixels[at], color.red, alpha)
    pixels[at + 1] = Self.mixed(pixels[at + 1], color.green, alpha)
    pixels[at + 2] = Self.mixed(pixels[at + 2], color.blue, alpha)
  }

  private static func mixed(_ under: UInt8, _ over: UInt8, _ alpha: Int) -> UInt8 {
    UInt8((Int(under) * (256 - alpha) + Int(over) * alpha + 128) >> 8)
  }

  mutating func fill(_ rectangle: Rectangle, _ color: Color, cornerRadius: Double = 0) {
    for y in rectangle.y..<(rectangle.y + rectangle.height) {
      for x in rectangle.x..<(rectangle.x + rectangle.width) {
        let inside = Self.insideDistance(x, y, rectangle, cornerRadius)
        blend(x, y, color, coverage: min(1, inside + 0.5))
      }
    }
  }

  /// The outline lies inside the rectangle.
  mutating func stroke(
    _ rectangle: Rectangle, _ color: Color, lineWidth: Double, cornerRadius: Double
  ) {
    for y in rectangle.y..<(rectangle.y + rectangle.height) {
      for x in rectangle.x..<(rectangle.x + rectangle.width) {
        let inside = Self.insideDistance(x, y, rectangle, cornerRadius)
        let outer = min(1, max(0, inside + 0.5))
        let inner = min(1, max(0, inside - lineWidth + 0.5))
        blend(x, y, color, coverage: outer - inner)
      }
    }
  }

  /// How far the middle of a pixel lies inside a rounded rectangle, in pixels; negative outside.
  private static func insideDistance(
    _ x: Int, _ y: Int, _ rectangle: Rectangle, _ cornerRadius: Double
  ) -> Double {
    let halfWidth = Double(rectangle.width) / 2
    let halfHeight = Double(rectangle.height) / 2
    let fromCenterX = abs(Double(x - rectangle.x) + 0.5 - halfWidth) - (halfWidth - cornerRadius)
    let fromCenterY = abs(Double(y - rectangle.y) + 0.5 - halfHeight) - (halfHeight - cornerRadius)
    let cornerX = max(fromCenterX, 0)
    let cornerY = max(fromCenterY, 0)
    let outside = (cornerX * cornerX + cornerY * cornerY).squareRoot()
    return cornerRadius - outside - min(max(fromCenterX, fromCenterY), 0)
  }

  /// Fits the picture into the rectangle, aspect kept, centred.
  mutating func draw(_ image: GrayImage, in rectangle: Rectangle, cornerRadius: Double) {
    let side = min(rectangle.width, rectangle.height)
    let size = Resampler.fittedSize(width: image.width, height: image.height, into: side)
    let scaled = Resampler.scaled(image, width: size.width, height: size.height).reducedTo8Bits
    let left = rectangle.x + (rectangle.width - size.width) / 2
    let top = rectangle.y + (rectangle.height - size.height) / 2
    for y in 0..<size.height {
      for x in 0..<size.width {
        let value = UInt8(scaled.samples[y * size.width + x])
        let inside = Self.insideDistance(left + x, top + y, rectangle, cornerRadius)
        blend(
          left + x, top + y, Color(UInt32(value) * 0x010101),
          coverage: min(1, inside + 0.5))
      }
    }
  }
}

/// How text looks.
struct TextStyle: Sendable {
  /// Height of capitals in pixels.
  var size: Double
  /// Width of the pen in pixels.
  var weight: Double
  var color: Color

  private var scale: Double { size / StrokeFont.capitalHeight }

  /// Width of the text in pixels.
  func width(of text: String) -> Double {
    let inks = text.map { StrokeFont.glyph($0).width }
    let units = inks.reduce(0, +) + StrokeFont.letterSpacing * Double(max(0, inks.count - 1))
    return units * scale + weight
  }

  /// The text, or its beginning with `...`, so that it is at most so many pixels wide.
  func shortened(_ text: String, to maximumWidth: Double) -> String {
    if width(of: text) <= maximumWidth { return text }
    var kept = text
    while let last = kept.popLast() {
      // A space before the dots would look torn.
      if last == " " { continue }
      if width(of: kept + "...") <= maximumWidth { return kept + "..." }
    }
    return ""
  }
}

extension Canvas {
  /// Draws one line of text; `x` is the left edge of its ink and `y` the top of its capitals.
  mutating func draw(_ text: String, x: Double, y: Double, style: TextStyle) {
    let scale = style.size / StrokeFont.capitalHeight
    var pen = x + style.weight / 2
    for character in text {
      let glyph = StrokeFont.glyph(character)
      let points = glyph.strokes.map { stroke in
        stroke.map {
          StrokeFont.Point(x: pen + $0.x * scale, y: y + style.weight / 2 + $0.y * scale)
        }
      }
      drawStrokes(points, lineWidth: style.weight, color: style.color)
      pen += (glyph.width + StrokeFont.letterSpacing) * scale
    }
  }

  /// Draws connected lines with round ends. Overlapping strokes do not add up: each pixel takes the nearest one.
  private mutating func drawStrokes(
    _ strokes: [[StrokeFont.Point]], lineWidth: Double, color: Color
  ) {
    let points = strokes.joined()
    guard let first = points.first else { return }
    var (minX, maxX, minY, maxY) = (first.x, first.x, first.y, first.y)
    for point in points {
      minX = min(minX, point.x)
      maxX = max(maxX, point.x)
      minY = min(minY, point.y)
      maxY = max(maxY, point.y)
    }
    let reach = lineWidth / 2 + 1
    for y in Int(max(0, minY - reach))...max(0, Int(maxY + reach)) {
      for x in Int(max(0, minX - reach))...max(0, Int(maxX + reach)) {
        let middle = StrokeFont.Point(x: Double(x) + 0.5, y: Double(y) + 0.5)
        var nearest = Double.infinity
        for stroke in strokes {
          for (from, to) in zip(stroke, stroke.dropFirst()) {
            nearest = min(nearest, Self.squaredDistance(middle, from, to))
          }
        }
        blend(x, y, color, coverage: lineWidth / 2 + 0.5 - nearest.squareRoot())
      }
    }
  }

  private static func squaredDistance(
    _ point: StrokeFont.Point, _ from: StrokeFont.Point, _ to: StrokeFont.Point
  ) -> Double {
    let (dx, dy) = (to.x - from.x, to.y - from.y)
    let length = dx * dx + dy * dy
    let along = length == 0 ? 0 : ((point.x - from.x) * dx + (point.y - from.y) * dy) / length
    let clamped = min(max(along, 0), 1)
    let (offX, offY) = (point.x - from.x - clamped * dx, point.y - from.y - clamped * dy)
    return offX * offX + offY * offY
  }
}
