import Foundation
import FoundationXML
import HashTraining
import Testing

@testable import CommandLineTool

@Suite struct ChartTests {
  /// Elements by name, and what is between them; nil where it is no XML.
  private final class Reader: NSObject, XMLParserDelegate {
    var counts: [String: Int] = [:]
    var points: [String] = []
    var text = ""

    func parser(
      _ parser: XMLParser, didStartElement name: String, namespaceURI: String?,
      qualifiedName: String?, attributes: [String: String]
    ) {
      counts[name, default: 0] += 1
      if name == "polyline" { points.append(attributes["points"] ?? "") }
    }

    func parser(_ parser: XMLParser, foundCharacters string: String) { text += string }

    static func read(_ svg: String) -> Reader? {
      let reader = Reader()
      let parser = XMLParser(data: Data(svg.utf8))
      parser.delegate = reader
      return parser.parse() ? reader : nil
    }
  }

  @Test func drawsEveryPointInsideItsFrame() throws {
    var chart = Chart(title: "a < b & c", horizontal: "epoch", vertical: "loss")
    chart.add("falling", (0..<40).map { (Double($0), 1 / (1 + Double($0))) })
    chart.add("no numbers", [(1, .nan), (.infinity, 2), (3, 0.5)], as: .dashed)
    chart.add("flat", [(0, 0.25), (39, 0.25)])
    let found = try #require(Reader.read(Chart.page([chart, chart])))
    #expect(found.counts["polyline"] == 6)
    #expect(found.text.contains("a < b & c") && found.text.contains("no numbers"))
    #expect(found.points[0].split(separator: " ").count == 40)
    #expect(found.points[1].split(separator: " ").count == 1)
    for point in found.points.flatMap({ $0.split(separator: " ") }) {
      let numbers = point.split(separator: ",").compactMap { Double($0) }
      #expect(numbers.count == 2)
      #expect((64...704).contains(numbers[0]) && (40...340).contains(numbers[1]), "\(point)")
    }
  }

  @Test func emptyChartsAreCharts() {
    let empty = Chart(title: "nothing", horizontal: "x", vertical: "y")
    #expect(Reader.read(Chart.page([empty])) != nil)
    #expect(Reader.read(Chart.page([])) != nil)
    var single = empty
    single.add("one", [(5, 5)])
    #expect(Reader.read(Chart.page([single])) != nil)
  }

  @Test func lossCurvesHaveAChartForEachStage() throws {
    func report(_ stage: String, _ epoch: Int, client: Int, adversarial: Double) -> EpochReport {
      EpochReport(
        stage: stage, epoch: epoch, epochs: 3, client: client, loss: 1 / Double(epoch),
        original: 0.5, adversarial: adversarial, quantization: 0.1, balance: 0.01, rate: 1e-3,
        gradientNorm: 1, imagesPerSecond: 100, seconds: 1)
    }
    let log = (1...3).flatMap { epoch in
      (0..<2).map { report("clean", epoch, client: $0, adversarial: 0) }
        + [report("adversarial", epoch, client: 0, adversarial: -0.5)]
    }
    let found = try #require(Reader.read(LossCurves.svg(log)))
    // Four terms of clean pictures, five with attacks; clients are averaged.
    #expect(found.counts["polyline"] == 9)
    #expect(found.points.allSatisfy { $0.split(separator: " ").count == 3 })
    #expect(found.text.contains("clean") && found.text.contains("adversarial"))
  }
}
