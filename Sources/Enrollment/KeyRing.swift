import Base
import Messages

/// The keys of a node's role, all versions; in memory only.
public final class KeyRing: Sendable {
  public static let keyBytes = 32
  private let keys: [KeyKind: [UInt32: SecretBytes]]

  /// Each (kind, version) once, each key of 32 bytes.
  public init(keys: [(kind: KeyKind, version: UInt32, key: SecretBytes)]) {
    var sorted: [KeyKind: [UInt32: SecretBytes]] = [:]
    for (kind, version, key) in keys {
      precondition(key.count == Self.keyBytes, "a key has 32 bytes, not \(key.count)")
      let previous = sorted[kind, default: [:]].updateValue(key, forKey: version)
      precondition(previous == nil, "two keys of kind \(kind.rawValue), version \(version)")
    }
    self.keys = sorted
  }

  /// The key for new data: the highest version.
  public func current(_ kind: KeyKind) -> (version: UInt32, key: SecretBytes)? {
    guard let newest = keys[kind]?.max(by: { $0.key < $1.key }) else { return nil }
    return (newest.key, newest.value)
  }

  /// The key under which older data was written.
  public func key(_ kind: KeyKind, version: UInt32) -> SecretBytes? { keys[kind]?[version] }

  /// Ascending.
  public func versions(_ kind: KeyKind) -> [UInt32] { keys[kind]?.keys.sorted() ?? [] }
}
