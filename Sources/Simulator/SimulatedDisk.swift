import Base
import Foundation

/// What a loss of power leaves of the changes that were not synchronized.
public enum CrashModel: CaseIterable, Sendable {
  /// None of them.
  case dropAll
  /// All of them.
  case keepAll
  /// The first ones, in order; the last write of them torn at any byte.
  case prefixTornAtByte
  /// Any 512-byte sectors of any writes, in any order; lost sectors inside the file read as zeros.
  case anySectors
  /// As before, with stale bytes instead of zeros.
  case anySectorsStale
}

/// A disk in memory that knows which bytes are synchronized. It can fail or cut the power at any operation that
/// changes something (numbered from 0), and gives the image a machine would find after the loss of power.
public final class SimulatedDisk: Disk, @unchecked Sendable {
  fileprivate enum FileChange {
    case write(offset: Int, bytes: [UInt8])
    case truncate(Int)
  }

  fileprivate final class Node {
    /// What running programs see.
    var content: [UInt8] = []
    /// What is on the medium.
    var durable: [UInt8] = []
    /// Changes since, in order.
    var pending: [FileChange] = []
  }

  private enum NameChange {
    case link(String, Node)
    case unlink(String)
    case rename(String, String, Node)
  }

  public init() {}

  private let lock = NSRecursiveLock()
  private var names: [String: Node] = [:]
  private var durableNames: [String: Node] = [:]
  private var pendingNames: [NameChange] = []
  private var directories: Set<String> = []
  private var heldLocks: Set<String> = []
  private var hasLostPower = false
  private var faults: [Int: Int32] = [:]
  private var cutAt: Int?
  private var operationCount = 0
  private var synchronizationCount = 0
  private var capacityBytes = Int.max
  private var unreadable: (path: String, range: Range<Int>)?
  private var beforeSynchronize: (@Sendable (Int) -> Void)?

  private func locked<Result, Failure: Error>(
    _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    lock.lock()
    defer { lock.unlock() }
    return try body()
  }

  // What tests turn.
  public var operations: Int { locked { operationCount } }
  public var synchronizations: Int { locked { synchronizationCount } }
  public func fail(operation: Int, code: Int32) { locked { faults[operation] = code } }
  public func cutPower(atOperation operation: Int) { locked { cutAt = operation } }
  /// Power was cut: every operation fails until the machine starts again from ``afterCrash(_:_:)``.
  public var isWithoutPower: Bool { locked { hasLostPower } }
  public func limitCapacity(_ bytes: Int) { locked { capacityBytes = bytes } }
  public func makeUnreadable(_ path: String, _ range: Range<Int>) {
    locked { unreadable = (path, range) }
  }
  /// Called before each synchronization of file data, with its number from 1, outside all locks.
  public func onSynchronize(_ body: @escaping @Sendable (Int) -> Void) {
    locked { beforeSynchronize = body }
  }
  public func content(_ path: String) -> [UInt8]? { locked { names[path]?.content } }
  public func setContent(_ path: String, _ bytes: [UInt8]) {
    locked {
      let node = names[path] ?? Node()
      node.content = bytes
      node.durable = bytes
      names[path] = node
      durableNames[path] = node
    }
  }
  public func removeFile(_ path: String) {
    locked {
      names[path] = nil
      durableNames[path] = nil
    }
  }
  public var paths: [String] { locked { names.keys.sorted() } }

  /// An independent disk with the same files, everything synchronized.
  public func copy() -> SimulatedDisk {
    let result = SimulatedDisk()
    locked {
      result.directories = directories
      for (path, node) in names { result.setContent(path, node.content) }
    }
    return result
  }

  /// What the machine finds after power was lost now.
  public func afterCrash(_ model: CrashModel, _ random: inout SeededGenerator) -> SimulatedDisk {
    locked {
      let result = SimulatedDisk()
      result.directories = directories
      var keptNames = durableNames
      let keptCount = Int.random(in: 0...pendingNames.count, using: &random)
      for (number, change) in pendingNames.enumerated() {
        let isKept =
          switch model {
          case .dropAll: false
          case .keepAll: true
          case .prefixTornAtByte: number < keptCount
          case .anySectors, .anySectorsStale: Bool.random(using: &random)
          }
        if isKept { Self.apply(change, to: &keptNames) }
      }
      // Files are visited in the order of their names: the seed alone decides what is kept.
      for (path, node) in keptNames.sorted(by: { $0.key < $1.key }) {
        result.setContent(path, Self.surviving(node, model, &random))
      }
      return result
    }
  }

  private static func apply(_ change: NameChange, to names: inout [String: Node]) {
    switch change {
    case .link(let name, let node): names[name] = node
    case .unlink(let name): names[name] = nil
    case .rename(let source, let target, let node):
      names[source] = nil
      names[target] = node
    }
  }

  private static func surviving(
    _ node: Node, _ model: CrashModel, _ random: inout SeededGenerator
  ) -> [UInt8] {
    var content = node.durable
    let keptCount = Int.random(in: 0...node.pending.count, using: &random)
    for (number, change) in node.pending.enumerated() {
      switch (change, model) {
      case (_, .dropAll): break
      case (_, .keepAll): apply(change, to: &content)
      case (.write(let offset, let bytes), .prefixTornAtByte) where number == keptCount:
        let torn = bytes.prefix(Int.random(in: 0...bytes.count, using: &random))
        apply(.write(offset: offset, bytes: Array(torn)), to: &content)
      case (_, .prefixTornAtByte): if number < keptCount { apply(change, to: &content) }
      case (.truncate, _): if Bool.random(using: &random) { apply(change, to: &content) }
      case (.write(let offset, let bytes), _):
        applySectors(offset, bytes, isStale: model == .anySectorsStale, &content, &random)
      }
    }
    return content
  }

  private static func applySectors(
    _ offset: Int, _ bytes: [UInt8], isStale: Bool, _ content: inout [UInt8],
    _ random: inout SeededGenerator
  ) {
    var start = 0
    while start < bytes.count {
      let end = min(bytes.count, ((offset + start) / 512 + 1) * 512 - offset)
      if Bool.random(using: &random) {
        let hole = offset + start - content.count
        if hole > 0 {
          content += isStale ? random.bytes(hole) : [UInt8](repeating: 0, count: hole)
        }
        apply(.write(offset: offset + start, bytes: Array(bytes[start..<end])), to: &content)
      }
      start = end
    }
  }

  fileprivate static func apply(_ change: FileChange, to content: inout [UInt8]) {
    switch change {
    case .truncate(let size):
      if size < content.count {
        content.removeLast(content.count - size)
      } else {
        content += [UInt8](repeating: 0, count: size - content.count)
      }
    case .write(let offset, let bytes):
      if content.count < offset + bytes.count {
        content += [UInt8](repeating: 0, count: offset + bytes.count - content.count)
      }
      content.replaceSubrange(offset..<(offset + bytes.count), with: bytes)
    }
  }

  /// Counts an operation that changes something. `change` is what a cut or failed operation may still leave.
  private func step(
    _ operation: DiskError.Operation, _ path: String, onFailure change: () -> Void = {}
  ) throws(DiskError) {
    let number = operationCount
    operationCount += 1
    if hasLostPower { throw DiskError(operation: operation, path: path, code: EIO) }
    if cutAt == number {
      change()
      hasLostPower = true
      throw DiskError(operation: operation, path: path, code: EIO)
    }
    if let code = faults[number] {
      change()
      throw DiskError(operation: operation, path: path, code: code)
    }
  }

  // The disk.
  public func open(_ path: String, mode: DiskOpenMode) throws(DiskError) -> any DiskFile {
    try locked { () throws(DiskError) in
      if mode == .createNew {
        if names[path] != nil { throw DiskError(operation: .open, path: path, code: EEXIST) }
        let node = Node()
        let link = {
          self.names[path] = node
          self.pendingNames.append(.link(path, node))
        }
        try step(.open, path, onFailure: link)
        link()
      }
      if hasLostPower { throw DiskError(operation: .open, path: path, code: EIO) }
      guard let node = names[path] else {
        throw DiskError(operation: .open, path: path, code: ENOENT)
      }
      return SimulatedFile(disk: self, node: node, path: path)
    }
  }

  public func rename(_ source: String, to target: String) throws(DiskError) {
    try locked { () throws(DiskError) in
      guard let node = names[source] else {
        throw DiskError(operation: .rename, path: source, code: ENOENT)
      }
      let change = {
        Self.apply(.rename(source, target, node), to: &self.names)
        self.pendingNames.append(.rename(source, target, node))
      }
      try step(.rename, source, onFailure: change)
      change()
    }
  }

  public func remove(_ path: String) throws(DiskError) {
    try locked { () throws(DiskError) in
      guard names[path] != nil else {
        throw DiskError(operation: .remove, path: path, code: ENOENT)
      }
      let change = {
        self.names[path] = nil
        self.pendingNames.append(.unlink(path))
      }
      try step(.remove, path, onFailure: change)
      change()
    }
  }

  public func listDirectory(_ path: String) throws(DiskError) -> [String] {
    locked {
      names.keys.filter { $0.hasPrefix(path + "/") }.map { String($0.dropFirst(path.count + 1)) }
    }
  }

  public func synchronizeDirectory(_ path: String) throws(DiskError) {
    try locked { () throws(DiskError) in
      try step(.synchronizeDirectory, path)
      for change in pendingNames { Self.apply(change, to: &durableNames) }
      pendingNames = []
    }
  }

  public func createDirectory(_ path: String) throws(DiskError) -> Bool {
    locked { directories.insert(path).inserted }
  }

  public func freeSpaceBytes(_ path: String) throws(DiskError) -> UInt64 {
    locked { UInt64(max(0, capacityBytes - usedBytes)) }
  }

  public var usedBytes: Int { names.values.reduce(0) { $0 + $1.content.count } }

  public func lock(_ path: String) throws(DiskError) -> (any DiskLock)? {
    locked { heldLocks.insert(path).inserted ? SimulatedLock(disk: self, path: path) : nil }
  }

  fileprivate func release(_ path: String) { locked { _ = heldLocks.remove(path) } }

  // The files.
  fileprivate func read(
    _ node: Node, _ path: String, _ buffer: UnsafeMutableRawBufferPointer, _ offset: Int
  ) throws(DiskError) -> Int {
    try locked { () throws(DiskError) in
      if let unreadable, unreadable.path == path,
        unreadable.range.overlaps(offset..<(offset + buffer.count))
      {
        throw DiskError(operation: .read, path: path, code: EIO)
      }
      let count = max(0, min(buffer.count, node.content.count - offset))
      if count > 0 { buffer.copyBytes(from: node.content[offset..<(offset + count)]) }
      return count
    }
  }

  fileprivate func write(
    _ node: Node, _ path: String, _ bytes: [UInt8], _ offset: Int
  ) throws(DiskError) {
    try locked { () throws(DiskError) in
      let grown = max(0, offset + bytes.count - node.content.count)
      let room = capacityBytes == .max ? Int.max : capacityBytes - usedBytes
      let isFull = grown > room
      let kept = isFull ? bytes.prefix(max(0, bytes.count - grown + room)) : bytes[...]
      let change = {
        let change = FileChange.write(offset: offset, bytes: Array(kept))
        Self.apply(change, to: &node.content)
        node.pending.append(change)
      }
      try step(.write, path, onFailure: change)
      change()
      if isFull { throw DiskError(operation: .write, path: path, code: ENOSPC) }
    }
  }

  fileprivate func truncate(_ node: Node, _ path: String, _ size: Int) throws(DiskError) {
    try locked { () throws(DiskError) in
      let change = {
        Self.apply(.truncate(size), to: &node.content)
        node.pending.append(.truncate(size))
      }
      try step(.truncate, path, onFailure: change)
      change()
    }
  }

  fileprivate func synchronize(_ node: Node, _ path: String) throws(DiskError) {
    let (gate, number) = locked {
      synchronizationCount += 1
      return (beforeSynchronize, synchronizationCount)
    }
    gate?(number)
    try locked { () throws(DiskError) in
      // As on Linux, pages of a failed synchronization are clean afterwards and not on the medium.
      do throws(DiskError) { try step(.synchronize, path) } catch {
        if !hasLostPower { node.pending = [] }
        throw error
      }
      // Only the pending changes reach the medium: bytes a failed synchronization lost stay lost.
      for change in node.pending { Self.apply(change, to: &node.durable) }
      node.pending = []
    }
  }

  fileprivate func size(_ node: Node) -> Int { locked { node.content.count } }
}

private final class SimulatedFile: DiskFile, @unchecked Sendable {
  let disk: SimulatedDisk
  let node: SimulatedDisk.Node
  let path: String

  init(disk: SimulatedDisk, node: SimulatedDisk.Node, path: String) {
    self.disk = disk
    self.node = node
    self.path = path
  }

  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int
  {
    try disk.read(node, path, buffer, Int(offset))
  }
  func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(DiskError) {
    try disk.write(node, path, Array(buffer), Int(offset))
  }
  func synchronizeData() throws(DiskError) { try disk.synchronize(node, path) }
  func synchronize() throws(DiskError) { try disk.synchronize(node, path) }
  func truncate(toSizeBytes sizeBytes: UInt64) throws(DiskError) {
    try disk.truncate(node, path, Int(sizeBytes))
  }
  func preallocate(offset: UInt64, sizeBytes: UInt64) throws(DiskError) {}
  func sizeBytes() throws(DiskError) -> UInt64 { UInt64(disk.size(node)) }
}

private final class SimulatedLock: DiskLock {
  let disk: SimulatedDisk
  let path: String
  init(disk: SimulatedDisk, path: String) {
    self.disk = disk
    self.path = path
  }
  deinit { release() }
  func release() { disk.release(path) }
}
