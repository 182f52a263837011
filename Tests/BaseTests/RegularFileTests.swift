import Base
import Glibc
import TestSupport
import Testing

@Suite struct RegularFileTests {
  @Test func filesAreReadWholeUpToTheBound() throws {
    let folder = try TemporaryDirectory()
    let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let path = try folder.write("file", bytes)
    #expect(try RegularFile.contents(of: path, maximumBytes: bytes.count) == bytes)
    #expect(throws: RegularFile.Failure.tooLarge(maximumBytes: bytes.count - 1)) {
      try RegularFile.contents(of: path, maximumBytes: bytes.count - 1)
    }
    let empty = try folder.write("empty", [])
    #expect(try RegularFile.contents(of: empty, maximumBytes: 0) == [])
    #expect(symlink(path, folder.path("link")) == 0)
    #expect(try RegularFile.contents(of: folder.path("link"), maximumBytes: 1 << 20) == bytes)
  }

  @Test func whatIsNoFileIsNotWaitedFor() throws {
    let folder = try TemporaryDirectory()
    let pipe = folder.path("pipe")
    #expect(mkfifo(pipe, 0o600) == 0)
    for path in [pipe, folder.path, "/dev/zero"] {
      #expect(throws: RegularFile.Failure.notAFile) {
        try RegularFile.contents(of: path, maximumBytes: 1 << 20)
      }
    }
    #expect(throws: RegularFile.Failure.unreadable("No such file or directory")) {
      try RegularFile.contents(of: folder.path("none"), maximumBytes: 1)
    }
    // It says that it has no bytes, and has some.
    #expect(throws: RegularFile.Failure.unreadable("it grows while it is read")) {
      try RegularFile.contents(of: "/proc/self/status", maximumBytes: 1 << 20)
    }
  }
}
