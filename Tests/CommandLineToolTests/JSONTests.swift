import Foundation
import Testing

@testable import CommandLineTool

@Suite struct JSONTests {
  @Test func escapes() {
    let object: JSONObject = ["a\"b": "q\"\\\n\r\t\u{1}\u{7F}\u{2028}é/😀"]
    #expect(
      object.line == #"{"a\"b":"q\"\\\n\r\t\u0001\u007f\u2028é/😀"}"#)
  }

  @Test func numbersStayNumbers() {
    let object: JSONObject = [
      "big": JSONValue(UInt64.max), "negative": -5, "rate": JSONValue(1.23456),
      "whole": JSONValue(3.0), "huge": JSONValue(1e300), "none": .null,
      "infinite": JSONValue(Double.infinity), "nan": JSONValue(Double.nan), "flag": true,
    ]
    #expect(
      object.line
        == #"{"big":9223372036854775807,"negative":-5,"rate":1.235,"whole":3.0,"huge":1e+300,"#
        + #""none":null,"infinite":null,"nan":null,"flag":true}"#)
  }

  @Test func membersKeepTheirOrderAndAreReplacedInPlace() {
    var object: JSONObject = ["b": 1, "a": 2]
    object["b"] = 3
    object["c"] = .array([.object(["x": .null])])
    #expect(object.line == #"{"b":3,"a":2,"c":[{"x":null}]}"#)
    object["a"] = nil
    #expect(object.keys == ["b", "c"])
  }

  /// Another implementation reads what this one writes.
  @Test func foundationReadsOurLines() throws {
    var texts = ["", "plain", "a\u{0}b", "\u{1F}\u{2029}\u{FFFF}", "\"\\/\u{8}\u{C}"]
    texts += (0..<0x300).compactMap { Unicode.Scalar($0).map { "x\($0)y" } }
    for text in texts {
      let line = JSONObject(dictionaryLiteral: ("text", .string(text))).line
      #expect(!line.contains("\n"))
      let read = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: String]
      #expect(read == ["text": text], "\(line)")
      #expect(try JSONValue(parsing: line) == .object(["text": .string(text)]))
    }
  }

  @Test func parsing() throws {
    let text =
      #" { "a" : [ 1 , -2.5e1, true,false , null ], "b":{}, "c":"\u00e9\ud83d\ude00\/\b\f" } "#
    let expected: JSONObject = [
      "a": .array([1, .number(-25), true, false, .null]), "b": .object([:]),
      "c": "é😀/\u{8}\u{C}",
    ]
    #expect(try JSONValue(parsing: text) == .object(expected))
  }

  @Test(arguments: [
    "", " ", "{", "}", "[1,]", "[1 2]", #"{"a"}"#, #"{"a":}"#, #"{"a":1,}"#, #"{"a":1,"a":2}"#,
    "{a:1}", "tru", "nul", "+1", "01", "-", ".5", "1e999", "0x10", "\"", "\"\n\"", #""\q""#,
    #""\u12""#, #""\ud800""#, #""\ud800\u0041""#, #""\u+123""#, "1 2", "NaN",
    String(repeating: "[", count: 100_000),
  ]) func whatIsNotJSONIsAnError(_ text: String) {
    #expect(throws: JSONError.self) { try JSONValue(parsing: text) }
  }

  @Test func notUTF8InsideAStringIsReplacedBeforeItComesHere() throws {
    #expect(try JSONValue(parsing: "\"\u{FFFD}\"") == "\u{FFFD}")
  }
}
