import Enrollment
import Foundation
import TestSupport
import Testing

@Suite struct PrivateFileTests {
  private func mode(_ path: String) -> mode_t {
    var status = stat()
    return stat(path, &status) == 0 ? status.st_mode & 0o777 : 0
  }

  @Test func writesWholeFilesForTheOwnerOnly() throws {
    let folder = try TemporaryDirectory()
    let path = folder.path("f")
    try PrivateFile.write([1, 2, 3], to: path)
    #expect(mode(path) == 0o600)
    #expect(try PrivateFile.read(path, maximumBytes: 3) == [1, 2, 3])
    try PrivateFile.write([4], to: path, keepingPrevious: path + ".previous")
    #expect(try folder.read("f") == [4])
    #expect(try folder.read("f.previous") == [1, 2, 3])
    try PrivateFile.write([5], to: path, keepingPrevious: path + ".previous")
    #expect(try folder.read("f.previous") == [4])
    // Nothing temporary stays.
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    #expect(names == ["f", "f.previous"])
  }

  @Test func refusesWhatItMust() throws {
    let folder = try TemporaryDirectory()
    let path = try folder.write("f", [1, 2, 3])
    #expect(throws: FileError.exists(path: path)) {
      try PrivateFile.write([9], to: path, replacing: false)
    }
    #expect(try folder.read("f") == [1, 2, 3])
    #expect(throws: FileError.tooLarge(path: path, maximumBytes: 2)) {
      try PrivateFile.read(path, maximumBytes: 2)
    }
    chmod(path, 0o604)
    #expect(throws: FileError.exposed(path: path)) { try PrivateFile.read(path, maximumBytes: 9) }
    #expect(try PrivateFile.read(path, maximumBytes: 9, secret: false) == [1, 2, 3])
    #expect(throws: FileError.self) { try PrivateFile.read(folder.path, maximumBytes: 9) }
    #expect(throws: FileError.missing(path: folder.path("x"))) {
      try PrivateFile.read(folder.path("x"), maximumBytes: 9)
    }
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
    #expect(names == ["f"])
  }

  @Test func foldersAreTheOwnersOnly() throws {
    let folder = try TemporaryDirectory()
    try PrivateFile.makePrivateDirectory(folder.path("a/b/c"))
    #expect(mode(folder.path("a/b/c")) == 0o700)
    chmod(folder.path("a/b/c"), 0o750)
    #expect(throws: FileError.exposed(path: folder.path("a/b/c"))) {
      try PrivateFile.makePrivateDirectory(folder.path("a/b/c"))
    }
    try folder.write("file", [1])
    #expect(throws: FileError.self) { try PrivateFile.makeDirectory(folder.path("file")) }
  }
}
