import Testing

@testable import Imaging

@Suite struct MontageTests {
  private let query = Phantom.slice(seed: 2, index: 0, side: 64).image

  private func sheet(_ count: Int, missing: Set<Int> = [], label: String = "img-1") -> [UInt8] {
    let results = (0..<count).map { index in
      (
        image: missing.contains(index) ? nil : Phantom.slice(seed: 3, index: index, side: 64).image,
        rank: index + 1, distance: index, label: label
      )
    }
    return Montage.render(query: query, results: results, title: "a title")
  }

  @Test func rowsAreFilledEvenly() throws {
    // Cells are 212 x 262 with gaps of 18; the query takes 212 + 40, margins 36, the heading 66.
    for (count, columns, rows) in [(0, 1, 1), (1, 1, 1), (5, 5, 1), (6, 3, 2), (11, 4, 3)] {
      let image = try ImageDecoder.decode(sheet(count)).image
      let width = 36 + 212 + 40 + columns * 230 - 18 + 36
      let height = 36 + 66 + rows * 280 - 18 + 36
      #expect(image.width == width, "\(count)")
      #expect(image.height == height, "\(count)")
    }
  }

  @Test func comparisonsHaveARowForEachPicture() throws {
    let white = GrayImage(
      width: 8, height: 8, bitsPerSample: 8, samples: [UInt16](repeating: 255, count: 64))
    func row(_ results: Int) -> Montage.Row {
      Montage.Row(
        picture: white, name: "a", detail: "b",
        results: (0..<results).map { (image: white, rank: $0 + 1, distance: 3, label: "c") })
    }
    let image = try ImageDecoder.decode(
      Montage.comparison([row(3), row(0), row(9)], title: "t", subtitle: "s")
    ).image
    #expect(image.width == 36 + 212 + 40 + 5 * 230 - 18 + 36)
    #expect(image.height == 36 + 66 + 3 * 280 - 18 + 36)
    func isWhite(row: Int, column: Int) -> Bool {
      // The middle of a card's picture; the query's column is -1.
      let x = column < 0 ? 36 + 106 : 36 + 212 + 40 + column * 230 + 106
      return image.samples[(102 + row * 280 + 106) * image.width + x] == 255
    }
    for (row, count) in [(0, 3), (1, 0), (2, 5)] {
      #expect(isWhite(row: row, column: -1))
      for column in 0..<5 { #expect(isWhite(row: row, column: column) == (column < count)) }
    }
  }

  @Test func sameInputGivesTheSameFile() {
    #expect(sheet(3) == sheet(3))
    #expect(sheet(3) != sheet(3, missing: [1]))
    #expect(sheet(3) != sheet(3, label: "img-2"))
  }

  @Test func picturesStandInTheirCells() throws {
    let white = GrayImage(
      width: 10, height: 5, bitsPerSample: 8, samples: [UInt16](repeating: 255, count: 50))
    let bytes = Montage.render(
      query: query, results: [(image: white, rank: 1, distance: 0, label: "wide")], title: "")
    let image = try ImageDecoder.decode(bytes).image
    // The cell's picture begins at (298, 112) and is 192 a side; twice as wide as high, it fills the middle half.
    func at(_ x: Int, _ y: Int) -> UInt16 { image.samples[(112 + y) * image.width + 298 + x] }
    #expect(at(96, 96) == 255 && at(2, 96) == 255 && at(96, 50) == 255)
    #expect(at(96, 40) == 0 && at(96, 150) == 0)
  }

  @Test func longAndStrangeTextStaysInside() throws {
    let label = String(repeating: "very long label ", count: 40) + "\u{1F600}\u{0}\n"
    let style = TextStyle(size: 11, weight: 1.4, color: Color(0xFFFFFF))
    let shown = style.shortened(label, to: 192)
    #expect(style.width(of: shown) <= 192 && shown.hasSuffix("..."))
    #expect(style.shortened("short", to: 192) == "short")
    #expect(style.shortened("anything", to: 1).isEmpty)
    _ = try ImageDecoder.decode(sheet(2, label: label))
  }

  @Test func everyPrintableCharacterHasItsOwnGlyph() {
    var seen: [[[StrokeFont.Point]]] = []
    for code in UInt8(0x21)..<0x7F {
      let character = Character(UnicodeScalar(code))
      let glyph = StrokeFont.glyph(character)
      #expect(!glyph.strokes.isEmpty && !seen.contains(glyph.strokes), "\(character)")
      seen.append(glyph.strokes)
    }
    #expect(StrokeFont.glyph("\u{E9}").strokes == StrokeFont.glyph("?").strokes)
  }
}
