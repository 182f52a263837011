import Base
import CWire
import Foundation
import Messages
import TestSupport
import Testing

@testable import RPC

/// The fuzzer's program (Tests/Fuzz) without the fuzzer: every kept input, and a bounded number of changed ones.
@Suite(.timeLimit(.minutes(3))) struct FuzzSeedTests {
  private static func seeds() throws -> [(String, [UInt8])] {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("Fuzz/Seeds")
    return try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted().map {
      ($0, [UInt8](try Data(contentsOf: folder.appendingPathComponent($0))))
    }
  }

  @Test func keptInputsHold() throws {
    let seeds = try Self.seeds()
    // Some for each part of the program.
    for part in 0..<5 as Range<UInt8> { #expect(seeds.contains { $0.1.first == part }) }
    let program = try FuzzProgram()
    defer { program.stop() }
    for (name, bytes) in seeds {
      let problem = program.run(bytes)
      #expect(problem == nil, "\(name)")
    }
  }

  @Test func changedInputsHold() throws {
    let seeds = try Self.seeds().map(\.1)
    let entropy = SeededEntropy.announced()
    let program = try FuzzProgram()
    defer { program.stop() }
    for round in 0..<20_000 {
      let input = Self.changed(seeds, entropy)
      if let problem = program.run(input) {
        Issue.record("round \(round): \(problem): \(input.hex)")
        return
      }
    }
  }

  /// A kept input with some bytes changed, cut out, repeated, or taken from another one.
  private static func changed(_ seeds: [[UInt8]], _ entropy: SeededEntropy) -> [UInt8] {
    func below(_ count: Int) -> Int { Int(entropy.uniform(below: UInt64(max(1, count)))) }
    var input = seeds[below(seeds.count)]
    for _ in 0...below(4) {
      let place = below(input.count)
      switch below(6) {
      case 0 where !input.isEmpty: input[place] = UInt8(below(256))
      case 1 where !input.isEmpty: input[place] ^= 1 << UInt8(below(8))
      case 2: input.removeSubrange(place..<min(input.count, place + below(20)))
      case 3:
        input.insert(contentsOf: input[place..<min(input.count, place + below(60))], at: place)
      case 4: input.insert(contentsOf: entropy.bytes(below(12)), at: place)
      default:
        let other = seeds[below(seeds.count)]
        let start = below(other.count)
        input.insert(contentsOf: other[start..<min(other.count, start + below(200))], at: place)
      }
      if input.count > 8192 { input.removeLast(input.count - 8192) }
    }
    return input
  }

  @Test func everyMessageIsAmongThoseThatAreFuzzed() {
    var names = Set<String>()
    for index in 0..<sfm_registered_message_count {
      names.insert(
        String(cString: sfm_registered_message_at(index).pointee.descriptor.pointee.name))
    }
    func name<M: WireMessage>(_: M.Type) -> String { M.protobufName }
    #expect(Set(FuzzProgram.messageTypes.map { name($0) }) == names)
  }
}
