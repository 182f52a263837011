import ImagePipeline
import Messages
import Testing

@Suite struct TagLimitsTests {
  private func tag(_ key: String, _ value: String) -> TagEntry {
    var tag = TagEntry()
    tag.key = key
    tag.value = value
    return tag
  }

  private func image(path: String = "a", tags: [TagEntry] = []) throws -> PlainImage {
    try PlainImage(bytes: [], path: path, tags: tags)
  }

  @Test(arguments: [
    ("a.png", "a.png"), ("/x/y/a.png", "a.png"), ("../../a", "a"), ("dir/", "dir"), ("", ""),
    ("/", ""), ("..", ""), ("x/..", ""), ("./.", ""), ("Schädel 1.dcm", "Schädel 1.dcm"),
  ]) func onlyTheLastComponentStays(path: String, name: String) throws {
    #expect(try TagLimits.fileName(ofPath: path) == name)
    #expect(try image(path: path).fileName == name)
  }

  @Test func limitsHoldExactly() throws {
    let longest = String(repeating: "n", count: 255)
    #expect(try image(path: longest).fileName == longest)
    #expect(throws: PipelineError.self) { try image(path: longest + "n") }
    #expect(throws: PipelineError.self) { try image(path: "a\nb") }
    let full = tag("k", String(repeating: "v", count: 1023))
    _ = try image(tags: [full])
    #expect(throws: PipelineError.self) { try image(tags: [tag("kk", full.value)]) }
    #expect(throws: PipelineError.self) { try image(tags: [tag("", "v")]) }
    _ = try image(tags: (0..<64).map { tag("\($0)", "v") })
    #expect(throws: PipelineError.self) { try image(tags: (0..<65).map { tag("\($0)", "v") }) }
    _ = try image(tags: Array(repeating: full, count: 60))
    #expect(throws: PipelineError.self) { try image(tags: Array(repeating: full, count: 61)) }
  }

  @Test func theLargestTagsFitTheMastersBound() throws {
    let full = tag("k", String(repeating: "v", count: 1023))
    let file = try PlainImage(
      bytes: TestPNG.bytes, path: String(repeating: "n", count: 255),
      tags: Array(repeating: full, count: 60))
    let sealed = try TestPNG.sealer().seal(file)
    #expect(sealed.record.sealedTags.count <= 64 << 10)
    #expect(sealed.record.sealedTags.count > 60 << 10)
  }
}
