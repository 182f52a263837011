/// A sheet that shows a query beside what was found for it.
public enum Montage {
  /// Draws the sheet: the query at the left in a frame of its own, the results in a grid beside it, each with its
  /// rank, Hamming distance and label beneath.
  ///
  /// - Parameters:
  ///   - results: in the order in which they are to be shown; a nil image leaves a cell that says "not available".
  ///     Labels too long for a cell are shortened with dots.
  ///   - title: one line at the top; may be empty.
  /// - Returns: the bytes of an 8-bit RGB PNG.
  public static func render(
    query: GrayImage,
    results: [(image: GrayImage?, rank: Int, distance: Int, label: String)],
    title: String
  ) -> [UInt8] {
    let layout = Layout(resultCount: results.count)
    var canvas = Canvas(width: layout.width, height: layout.height, background: Palette.background)
    let count = "\(results.count) \(results.count == 1 ? "result" : "results")"
    drawHeading(title, "\(count), nearest first by Hamming distance", layout, on: &canvas)
    drawHairline(layout, on: &canvas)
    drawQuery(
      query, "query", "\(query.width) x \(query.height), \(query.bitsPerSample) bit",
      layout.queryCard(row: 0), layout, on: &canvas)
    for (index, result) in results.enumerated() {
      drawResult(result, layout.resultCard(index), layout, on: &canvas)
    }
    if results.isEmpty {
      let text = "no results"
      let card = layout.resultCard(0)
      canvas.stroke(card, Palette.line, lineWidth: 1, cornerRadius: Layout.cornerRadius)
      canvas.draw(text, centredIn: card, style: Palette.faint)
    }
    return PngEncoder.encode(rgb: canvas.pixels, width: canvas.width, height: canvas.height)
  }

  /// A picture and, beside it, what was found for it.
  public struct Row: Sendable {
    public var picture: GrayImage
    public var name: String
    /// A second line beneath the picture.
    public var detail: String
    /// As for ``render(query:results:title:)``; may be empty.
    public var results: [(image: GrayImage?, rank: Int, distance: Int, label: String)]

    public init(
      picture: GrayImage, name: String, detail: String,
      results: [(image: GrayImage?, rank: Int, distance: Int, label: String)]
    ) {
      self.picture = picture
      self.name = name
      self.detail = detail
      self.results = results
    }
  }

  /// Draws pictures one below the other, each with what was found for it in a row beside it.
  ///
  /// Results that a row has no room for are left out.
  /// - Returns: the bytes of an 8-bit RGB PNG.
  public static func comparison(_ rows: [Row], title: String, subtitle: String) -> [UInt8] {
    let columns = min(Layout.maximumColumns, max(1, rows.map(\.results.count).max() ?? 0))
    let layout = Layout(columns: columns, rows: max(1, rows.count))
    var canvas = Canvas(width: layout.width, height: layout.height, background: Palette.background)
    drawHeading(title, subtitle, layout, on: &canvas)
    drawHairline(layout, on: &canvas)
    for (number, row) in rows.enumerated() {
      drawQuery(
        row.picture, row.name, row.detail, layout.queryCard(row: number), layout, on: &canvas)
      for (column, result) in row.results.prefix(columns).enumerated() {
        drawResult(result, layout.resultCard(number * columns + column), layout, on: &canvas)
      }
    }
    return PngEncoder.encode(rgb: canvas.pixels, width: canvas.width, height: canvas.height)
  }

  private enum Palette {
    static let background = Color(0x101317)
    static let card = Color(0x1A1F26)
    static let empty = Color(0x14181D)
    static let line = Color(0x2E3640)
    static let accent = Color(0xF5B041)
    static let title = TextStyle(size: 18, weight: 2.1, color: Color(0xF1F3F5))
    static let subtitle = TextStyle(size: 11, weight: 1.3, color: Color(0x8A95A3))
    static let query = TextStyle(size: 13, weight: 1.8, color: accent)
    static let rank = TextStyle(size: 13, weight: 1.8, color: Color(0xF1F3F5))
    static let distance = TextStyle(size: 11, weight: 1.35, color: Color(0x7FD1C7))
    static let label = TextStyle(size: 11, weight: 1.4, color: Color(0xA3AEBC))
    static let faint = TextStyle(size: 12, weight: 1.35, color: Color(0x6B7684))
  }

  /// Where everything lies; all in pixels.
  private struct Layout {
    static let cornerRadius = 8.0
    static let margin = 36
    static let gap = 18
    static let cardPadding = 10
    static let pictureSide = 192
    static let captionHeight = 60
    static let headingHeight = 66
    static let queryGap = 40
    static let maximumColumns = 5
    static let cardWidth = pictureSide + 2 * cardPadding
    static let cardHeight = pictureSide + cardPadding + captionHeight

    let columns: Int
    let rows: Int

    init(resultCount: Int) {
      // Rows are filled evenly: six results stand as three and three, not as five and one.
      let shown = max(1, resultCount)
      rows = (shown + Self.maximumColumns - 1) / Self.maximumColumns
      columns = (shown + rows - 1) / rows
    }

    init(columns: Int, rows: Int) {
      self.columns = columns
      self.rows = rows
    }

    var resultsLeft: Int { Self.margin + Self.cardWidth + Self.queryGap }
    var top: Int { Self.margin + Self.headingHeight }
    var width: Int {
      resultsLeft + columns * Self.cardWidth + (columns - 1) * Self.gap + Self.margin
    }
    var height: Int { top + rows * Self.cardHeight + (rows - 1) * Self.gap + Self.margin }

    func queryCard(row: Int) -> Canvas.Rectangle {
      Canvas.Rectangle(
        x: Self.margin, y: top + row * (Self.cardHeight + Self.gap), width: Self.cardWidth,
        height: Self.cardHeight)
    }

    func resultCard(_ index: Int) -> Canvas.Rectangle {
      Canvas.Rectangle(
        x: resultsLeft + index % columns * (Self.cardWidth + Self.gap),
        y: top + index / columns * (Self.cardHeight + Self.gap),
        width: Self.cardWidth, height: Self.cardHeight)
    }

    func picture(in card: Canvas.Rectangle) -> Canvas.Rectangle {
      Canvas.Rectangle(
        x: card.x + Self.cardPadding, y: card.y + Self.cardPadding, width: Self.pictureSide,
        height: Self.pictureSide)
    }

    /// The tops of the two lines of a caption.
    func captionLines(_ card: Canvas.Rectangle) -> (first: Double, second: Double) {
      let top = Double(card.y + Self.cardPadding + Self.pictureSide)
      return (top + 12, top + 35)
    }
  }

  private static func drawHeading(
    _ title: String, _ subtitle: String, _ layout: Layout, on canvas: inout Canvas
  ) {
    let room = Double(layout.width - 2 * Layout.margin)
    let left = Double(Layout.margin)
    let shown = Palette.title.shortened(title, to: room)
    canvas.draw(shown, x: left, y: Double(Layout.margin) - 6, style: Palette.title)
    canvas.draw(
      Palette.subtitle.shortened(subtitle, to: room), x: left, y: Double(Layout.margin) + 25,
      style: Palette.subtitle)
  }

  private static func drawQuery(
    _ query: GrayImage, _ name: String, _ detail: String, _ card: Canvas.Rectangle,
    _ layout: Layout, on canvas: inout Canvas
  ) {
    canvas.fill(card, Palette.card, cornerRadius: Layout.cornerRadius)
    drawPicture(query, in: layout.picture(in: card), on: &canvas)
    canvas.stroke(card, Palette.accent, lineWidth: 3, cornerRadius: Layout.cornerRadius)
    let lines = layout.captionLines(card)
    let left = Double(card.x + Layout.cardPadding)
    let room = Double(Layout.pictureSide)
    canvas.draw(
      Palette.query.shortened(name, to: room), x: left, y: lines.first, style: Palette.query)
    canvas.draw(
      Palette.label.shortened(detail, to: room), x: left, y: lines.second, style: Palette.label)
  }

  /// Between queries and their results.
  private static func drawHairline(_ layout: Layout, on canvas: inout Canvas) {
    let card = layout.queryCard(row: 0)
    let x = card.x + card.width + Layout.queryGap / 2
    canvas.fill(
      Canvas.Rectangle(x: x, y: card.y, width: 1, height: layout.height - card.y - Layout.margin),
      Palette.line)
  }

  private static func drawResult(
    _ result: (image: GrayImage?, rank: Int, distance: Int, label: String),
    _ card: Canvas.Rectangle, _ layout: Layout, on canvas: inout Canvas
  ) {
    canvas.fill(card, Palette.card, cornerRadius: Layout.cornerRadius)
    canvas.stroke(card, Palette.line, lineWidth: 1, cornerRadius: Layout.cornerRadius)
    drawPicture(result.image, in: layout.picture(in: card), on: &canvas)
    drawCaption(result.rank, result.distance, result.label, card, layout, on: &canvas)
  }

  private static func drawPicture(
    _ image: GrayImage?, in rectangle: Canvas.Rectangle, on canvas: inout Canvas
  ) {
    guard let image else {
      canvas.fill(rectangle, Palette.empty, cornerRadius: 4)
      canvas.stroke(rectangle, Palette.line, lineWidth: 1, cornerRadius: 4)
      canvas.draw("not available", centredIn: rectangle, style: Palette.faint)
      return
    }
    canvas.fill(rectangle, Color(0x000000), cornerRadius: 4)
    canvas.draw(image, in: rectangle, cornerRadius: 4)
  }

  private static func drawCaption(
    _ rank: Int, _ distance: Int, _ label: String, _ card: Canvas.Rectangle, _ layout: Layout,
    on canvas: inout Canvas
  ) {
    let lines = layout.captionLines(card)
    let left = Double(card.x + Layout.cardPadding)
    canvas.draw("#\(rank)", x: left, y: lines.first, style: Palette.rank)
    let text = "distance \(distance)"
    let right = left + Double(Layout.pictureSide) - Palette.distance.width(of: text)
    canvas.draw(text, x: right, y: lines.first + 1.5, style: Palette.distance)
    let shown = Palette.label.shortened(label, to: Double(Layout.pictureSide))
    canvas.draw(shown, x: left, y: lines.second, style: Palette.label)
  }
}

extension Canvas {
  fileprivate mutating func draw(
    _ text: String, centredIn rectangle: Rectangle, style: TextStyle
  ) {
    let x = Double(rectangle.x) + (Double(rectangle.width) - style.width(of: text)) / 2
    let y = Double(rectangle.y) + (Double(rectangle.height) - style.size) / 2
    draw(text, x: x, y: y, style: style)
  }
}
