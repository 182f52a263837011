import Base
import Raft

/// What simulated clients do to a few registers.
public enum RegisterInput: Hashable, Sendable {
  case read
  case write(UInt64)
  case exchange(expected: UInt64, new: UInt64)
}

public enum RegisterOutput: Hashable, Sendable {
  case value(UInt64)
  case done
  /// Of an exchange: whether the register had the expected value.
  case exchanged(Bool)
}

/// A register that begins at 0.
public struct RegisterModel: SequentialModel {
  public let initial: UInt64 = 0

  public init() {}

  public func apply(
    _ input: RegisterInput, _ output: RegisterOutput?, to state: UInt64
  ) -> UInt64? {
    switch (input, output) {
    case (.read, nil): state
    case (.read, .value(let value)?): value == state ? state : nil
    case (.write(let value), nil), (.write(let value), .done?): value
    case (.exchange(let expected, let new), nil): state == expected ? new : state
    case (.exchange(let expected, let new), .exchanged(let isDone)?):
      isDone == (state == expected) ? (isDone ? new : state) : nil
    default: nil
    }
  }
}

/// A command of one client, numbered so that it has its effect once though it be proposed twice.
struct RegisterCommand: Hashable, Sendable {
  var client: UInt64
  var sequence: UInt64
  var register: UInt64
  var input: RegisterInput

  func encoded() -> [UInt8] {
    let (kind, first, second): (UInt64, UInt64, UInt64) =
      switch input {
      case .read: (0, 0, 0)
      case .write(let value): (1, value, 0)
      case .exchange(let expected, let new): (2, expected, new)
      }
    var bytes: [UInt8] = []
    for number in [client, sequence, register, kind, first, second] {
      bytes.append(bigEndian: number)
    }
    return bytes
  }

  init(client: UInt64, sequence: UInt64, register: UInt64, input: RegisterInput) {
    self.client = client
    self.sequence = sequence
    self.register = register
    self.input = input
  }

  init?(decoding bytes: [UInt8]) {
    let numbers = stride(from: 0, to: 48, by: 8).compactMap { UInt64(bigEndian: bytes, at: $0) }
    guard numbers.count == 6, bytes.count == 48 else { return nil }
    (client, sequence, register) = (numbers[0], numbers[1], numbers[2])
    switch numbers[3] {
    case 1: input = .write(numbers[4])
    case 2: input = .exchange(expected: numbers[4], new: numbers[5])
    default: return nil
    }
  }
}

/// The state machine of simulated data nodes.
struct RegisterMachine: Equatable, Sendable {
  /// Up to where it has applied, and who voted then.
  var base: LogBase
  private(set) var registers: [UInt64: UInt64] = [:]
  /// Of each client, its last command and what that answered.
  private(set) var answers: [UInt64: (sequence: UInt64, output: RegisterOutput)] = [:]
  /// Over everything applied, in order.
  private(set) var hash: UInt64 = 14_695_981_039_346_656_037

  init(base: LogBase) { self.base = base }

  static func == (left: Self, right: Self) -> Bool {
    left.base == right.base && left.hash == right.hash && left.registers == right.registers
  }

  func value(of register: UInt64) -> UInt64 { registers[register] ?? 0 }

  /// - Parameter isWrong: a bug that is played.
  mutating func apply(_ entry: Entry, isWrong: Bool = false) -> RegisterOutput? {
    if isWrong { mix(1) }
    base.position = Position(term: entry.term, index: base.position.index + 1)
    mix(entry.term)
    switch entry.payload {
    case .nothing: return nil
    case .membership(let membership):
      base.membership = membership
      return nil
    case .command(let bytes):
      for byte in bytes { mix(UInt64(byte)) }
      guard let command = RegisterCommand(decoding: bytes) else {
        preconditionFailure("a command of \(bytes.count) bytes that nobody made")
      }
      return apply(command)
    }
  }

  private mutating func apply(_ command: RegisterCommand) -> RegisterOutput? {
    if let last = answers[command.client], last.sequence >= command.sequence {
      return last.sequence == command.sequence ? last.output : nil
    }
    let output: RegisterOutput
    switch command.input {
    case .read: return nil
    case .write(let value):
      registers[command.register] = value
      output = .done
    case .exchange(let expected, let new):
      let matches = value(of: command.register) == expected
      if matches { registers[command.register] = new }
      output = .exchanged(matches)
    }
    answers[command.client] = (command.sequence, output)
    return output
  }

  private mutating func mix(_ value: UInt64) { hash = (hash ^ value) &* 1_099_511_628_211 }
}
