import Base
import TestSupport

@testable import CommandLineTool

/// Makes messages up, in exactly the form in which the decoder writes them.
struct RandomMessage {
  let schema: Schema
  let entropy: SeededEntropy

  func object(_ type: String) throws -> JSONObject {
    guard let shape = schema.messages[type] else { throw CodecError("no type \(type)") }
    var object = JSONObject()
    for field in shape.fields where entropy.uniform(below: 4) > 0 {
      if field.isRepeated {
        let count = entropy.uniform(below: 4)
        if count == 0 { continue }
        object[field.jsonName] = .array(
          try (0..<count).map { _ in try value(field.kind, mayBeZero: true) })
      } else {
        object[field.jsonName] = try value(field.kind, mayBeZero: false)
      }
    }
    return object
  }

  private func value(_ kind: Schema.Kind, mayBeZero: Bool) throws -> JSONValue {
    while true {
      let value = try anyValue(kind)
      let zeros: [JSONValue] = [0, "0", "", false]
      if case .message = kind { return value }
      if case .enumeration(let type) = kind, !mayBeZero {
        let zero = schema.enumerations[type]?.names[0]
        if value == zero.map({ .string($0) }) || value == 0 { continue }
        return value
      }
      if mayBeZero || !zeros.contains(value) { return value }
    }
  }

  private func anyValue(_ kind: Schema.Kind) throws -> JSONValue {
    switch kind {
    case .message(let type): return .object(try object(type))
    case .enumeration(let type):
      let values = schema.enumerations[type]?.values ?? []
      // Numbers of a later version have no name here.
      if entropy.uniform(below: 4) == 0 || values.isEmpty {
        return .integer(1000 + Int64(entropy.uniform(below: 1000)))
      }
      return .string(values[Int(entropy.uniform(below: UInt64(values.count)))].name)
    case .bool: return .bool(entropy.uniform(below: 2) == 0)
    case .string: return .string(text())
    case .bytes:
      return .string(Base64.encode(entropy.bytes(Int(entropy.uniform(below: 40)))))
    case .uint32, .fixed32: return .integer(Int64(UInt32(truncatingIfNeeded: number())))
    case .uint64, .fixed64: return .string(String(number()))
    default: throw CodecError("no schema of the project has \(kind.name)")
    }
  }

  /// Every length of number comes as often.
  private func number() -> UInt64 {
    if entropy.uniform(below: 8) == 0 { return .max }
    return entropy.next() >> entropy.uniform(below: 64)
  }

  private func text() -> String {
    let scalars = ["a", "Z", "\"", "\\", "\n", "é", "ß", "中", "😀", "\u{1}", "\u{2028}"]
    return (0..<entropy.uniform(below: 12)).map { _ in
      scalars[Int(entropy.uniform(below: UInt64(scalars.count)))]
    }.joined()
  }
}
