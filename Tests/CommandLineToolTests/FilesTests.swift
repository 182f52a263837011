import Base
import Foundation
import Testing

@testable import CommandLineTool

/// A folder that goes away with the test.
final class ScratchFolder {
  let path: String

  init() throws { path = try Files.makeTemporaryDirectory(prefix: "sfmedir-test") }

  deinit { try? Files.removeTree(path) }

  func write(_ text: String, _ name: String) throws {
    let file = "\(path)/\(name)"
    try Files.createDirectories(Files.parent(of: file))
    try Files.write(Array(text.utf8), to: file)
  }

  func text(_ name: String) throws -> String {
    String(
      decoding: try Files.contents(of: "\(path)/\(name)", limitBytes: 1 << 20), as: UTF8.self)
  }
}

@Suite struct SafeNameTests {
  @Test(arguments: [
    ("scan.png", "scan.png"), ("../../etc/passwd", "passwd"), ("..", "image"), ("", "image"),
    ("/", "image"), (".hidden", "hidden"), ("-rf", "rf"), ("a b\u{1B}é.dcm", "a_b__.dcm"),
    ("C:\\Users\\x.dcm", "x.dcm"), ("....", "image"), ("name.", "name"), ("a\0b", "a_b"),
    ("con:1", "con_1"),
  ]) func component(_ text: String, _ safe: String) { #expect(SafeName.component(text) == safe) }

  @Test func longNamesKeepTheirEnding() {
    let name = SafeName.component(String(repeating: "x", count: 300) + ".dcm")
    #expect(name.utf8.count == SafeName.maximumBytes)
    #expect(name.hasSuffix("x.dcm"))
    #expect(SafeName.component(String(repeating: "y", count: 300)).count == SafeName.maximumBytes)
  }

  @Test func everythingIsOneHarmlessComponent() {
    let seed = UInt64.random(in: .min ... .max)
    var state = seed
    for _ in 0..<2000 {
      var text = ""
      for _ in 0..<Int(state % 20) {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        text.unicodeScalars.append(Unicode.Scalar(UInt32(state >> 40) % 0x250) ?? "?")
      }
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      let name = SafeName.component(text)
      let allowed = name.utf8.allSatisfy { byte in
        byte < 0x80 && byte > 0x20 && !"/\\\"'`$&|;<>*?!(){}[]#~%".utf8.contains(byte)
      }
      #expect(allowed && !name.isEmpty && name.first != "." && name.first != "-", "seed \(seed)")
    }
  }

  @Test func resultsSortByRank() {
    #expect(
      SafeName.result(rank: 3, distance: 12, imageID: "0123456789abcdef", fileName: "../a.png")
        == "03-d012-01234567-a.png")
  }
}

@Suite struct FilesTests {
  @Test func anAbandonedFileLeavesNothing() throws {
    let folder = try ScratchFolder()
    do {
      let file = try AtomicFile("\(folder.path)/a")
      try file.write([1, 2, 3])
    }
    #expect(try Files.names(in: folder.path).isEmpty)
  }

  @Test func nothingIsReplacedUnasked() throws {
    let folder = try ScratchFolder()
    try folder.write("old", "a")
    #expect(throws: FileError("create", "\(folder.path)/a", number: EEXIST)) {
      try Files.write([1], to: "\(folder.path)/a", replacing: false)
    }
    #expect(try folder.text("a") == "old")
    #expect(try Files.names(in: folder.path) == ["a"])
    try Files.write(Array("new".utf8), to: "\(folder.path)/a")
    #expect(try folder.text("a") == "new")
  }

  @Test func digestsAndLimits() throws {
    let folder = try ScratchFolder()
    try folder.write("abc", "a")
    let (digest, size) = try Files.digest(of: "\(folder.path)/a")
    #expect(size == 3)
    #expect(digest.hex == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(throws: FileError("read", "\(folder.path)/a", number: EFBIG)) {
      try Files.contents(of: "\(folder.path)/a", limitBytes: 2)
    }
    #expect(throws: FileError("read", folder.path, number: EISDIR)) {
      try Files.digest(of: folder.path)
    }
    #expect(throws: FileError("open", "\(folder.path)/b", number: ENOENT)) {
      try Files.digest(of: "\(folder.path)/b")
    }
  }

  @Test func aPipeDoesNotHangTheCommand() throws {
    let folder = try ScratchFolder()
    #expect(mkfifo("\(folder.path)/pipe", 0o600) == 0)
    #expect(throws: FileError.self) { try Files.digest(of: "\(folder.path)/pipe") }
  }

  @Test func linksAreRemovedAndNotFollowed() throws {
    let outside = try ScratchFolder()
    try outside.write("keep", "keep")
    let folder = try ScratchFolder()
    try folder.write("x", "deep/er/file")
    #expect(symlink(outside.path, "\(folder.path)/deep/link") == 0)
    try Files.removeTree("\(folder.path)/deep")
    #expect(try Files.names(in: folder.path).isEmpty)
    #expect(try outside.text("keep") == "keep")
    try Files.removeTree("\(folder.path)/nothing-there")
  }

  @Test(arguments: [
    ("/a/b/c", "/a/b"), ("/a", "/"), ("/", "/"), ("c", "."), ("a/b/", "a"), ("./a", "."),
  ]) func parents(_ path: String, _ parent: String) { #expect(Files.parent(of: path) == parent) }

  @Test func absolutePathsOfWhatIsNotThereYet() throws {
    let folder = try ScratchFolder()
    let real = Files.absolute(folder.path)
    try Files.createDirectories("\(folder.path)/a")
    #expect(Files.absolute("\(folder.path)/./a/../b") == "\(real)/b")
    #expect(Files.absolute("\(folder.path)/new/deeper/") == "\(real)/new/deeper")
    #expect(Files.absolute("./nothing-here") == Files.absolute(".") + "/nothing-here")
    #expect(Files.absolute("/nothing-here") == "/nothing-here")
  }

  @Test func foldersGiveTheirFilesInOrder() throws {
    let folder = try ScratchFolder()
    for name in ["b.png", "a.png", ".hidden", "sub/c.png", "sub/.git/d"] {
      try folder.write(name, name)
    }
    #expect(symlink("\(folder.path)/sub", "\(folder.path)/loop") == 0)
    #expect(symlink("\(folder.path)/a.png", "\(folder.path)/link.png") == 0)
    var flat = FileCollector(recursive: false)
    flat.add(folder.path)
    // The link leads to a file that is there already.
    #expect(flat.items.map { Files.lastComponent(of: $0.path) } == ["a.png", "b.png"])
    #expect(flat.skippedFolders == 1)
    #expect(flat.items[0].sizeBytes == 5)
    var deep = FileCollector(recursive: true)
    deep.add(folder.path)
    deep.add("\(folder.path)/a.png")
    deep.add("\(folder.path)/missing.png")
    #expect(deep.items.map { Files.lastComponent(of: $0.path) } == ["a.png", "b.png", "c.png"])
    #expect(deep.failures.map(\.number) == [ENOENT])
  }
}
