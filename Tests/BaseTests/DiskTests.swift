import Base
import Foundation
import Testing

@Suite struct SystemDiskTests {
  /// A fresh folder that goes when the test ends.
  private func withFolder(_ body: (String) throws -> Void) throws {
    let path = NSTemporaryDirectory() + "disk-test-" + UUID().uuidString
    #expect(try SystemDisk().createDirectory(path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    try body(path)
  }

  private func write(_ text: String, _ file: any DiskFile, at offset: UInt64) throws {
    try Array(text.utf8).withUnsafeBytes { try file.write($0, at: offset) }
  }

  private func read(_ file: any DiskFile, at offset: UInt64, count: Int) throws -> String {
    var buffer = [UInt8](repeating: 0, count: count)
    let found = try buffer.withUnsafeMutableBytes { try file.read(into: $0, at: offset) }
    return String(decoding: buffer[..<found], as: UTF8.self)
  }

  @Test func filesAreWrittenReadCutAndRenamed() throws {
    try withFolder { folder in
      let disk = SystemDisk()
      let file = try disk.open("\(folder)/a", mode: .createNew)
      try write("hello world", file, at: 0)
      try write("W", file, at: 6)
      try file.synchronizeData()
      #expect(try read(file, at: 0, count: 100) == "hello World")
      #expect(try read(file, at: 6, count: 3) == "Wor")
      #expect(try read(file, at: 50, count: 3) == "")
      try file.preallocate(offset: 0, sizeBytes: 1 << 20)
      #expect(try file.sizeBytes() == 11)
      try file.truncate(toSizeBytes: 5)
      try file.synchronize()
      try disk.rename("\(folder)/a", to: "\(folder)/b")
      try disk.synchronizeDirectory(folder)
      #expect(try disk.listDirectory(folder) == ["b"])
      let again = try disk.open("\(folder)/b", mode: .readOnly)
      #expect(try read(again, at: 0, count: 100) == "hello")
      try disk.remove("\(folder)/b")
      #expect(try disk.listDirectory(folder) == [])
      #expect(try disk.freeSpaceBytes(folder) > 0)
    }
  }

  @Test func failuresNameOperationPathAndErrorNumber() throws {
    try withFolder { folder in
      let disk = SystemDisk()
      #expect(throws: DiskError(operation: .open, path: "\(folder)/none", code: ENOENT)) {
        try disk.open("\(folder)/none", mode: .readOnly)
      }
      let file = try disk.open("\(folder)/a", mode: .createNew)
      #expect(throws: DiskError(operation: .open, path: "\(folder)/a", code: EEXIST)) {
        try disk.open("\(folder)/a", mode: .createNew)
      }
      #expect(throws: DiskError(operation: .write, path: "\(folder)/a", code: EOVERFLOW)) {
        try write("x", file, at: .max - 5)
      }
      let reader = try disk.open("\(folder)/a", mode: .readOnly)
      #expect(throws: DiskError(operation: .write, path: "\(folder)/a", code: EBADF)) {
        try write("x", reader, at: 0)
      }
      #expect(try !disk.createDirectory(folder))
      #expect(throws: DiskError(operation: .createDirectory, path: "\(folder)/a", code: EEXIST)) {
        try disk.createDirectory("\(folder)/a")
      }
      let text = "\(DiskError(operation: .rename, path: "p", code: ENOSPC))"
      #expect(text == "disk operation rename on p failed: No space left on device (errno 28)")
    }
  }

  @Test func aLockExcludesOthersUntilReleased() throws {
    try withFolder { folder in
      let disk = SystemDisk()
      let lock = try #require(try disk.lock("\(folder)/lock"))
      #expect(try disk.lock("\(folder)/lock") == nil)
      lock.release()
      lock.release()
      var second = try disk.lock("\(folder)/lock")
      #expect(second != nil)
      second = nil
      #expect(try disk.lock("\(folder)/lock") != nil)
    }
  }

  /// What a child has between fork and exec: another descriptor of the same open file.
  @Test func aReleasedLockIsFreeThoughTheDescriptorWasCopied() throws {
    try withFolder { folder in
      let disk = SystemDisk()
      let path = "\(folder)/lock"
      let lock = try #require(try disk.lock(path))
      let own = try #require(
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").first {
          (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)"))
            == path
        }.flatMap { Int32($0) })
      let copy = dup(own)
      defer { close(copy) }
      lock.release()
      #expect(try disk.lock(path) != nil)
    }
  }
}
