import DaemonSupport
import Enrollment

/// Why the sealed key store cannot be used.
public enum KeyStoreError: Error, Equatable, Sendable, CustomStringConvertible,
  ExitCodeConvertible
{
  case file(FileError)
  case malformedSealKey(path: String, count: Int)
  case truncated(path: String)
  case notAKeyStore(path: String)
  case unknownVersion(path: String, UInt8)
  /// Another seal key than the one that sealed the store.
  case sealedKey(path: String)
  case altered(path: String)
  /// The seal fits and the content is nonsense: written by a faulty program.
  case malformed(path: String, reason: String)
  case wrongCluster(path: String, wanted: String, found: String)
  case tooManyVersions(maximum: Int)
  /// Another rotation is being written.
  case busy
  /// Another process has the state folder.
  case inUse(path: String)

  public var description: String {
    switch self {
    case .file(let error): "\(error)"
    case .malformedSealKey(let path, let count):
      "the seal key \(path) has \(count) bytes; it must have \(KeyStoreFormat.sealKeyBytes)"
    case .truncated(let path): "the key store \(path) ends early"
    case .notAKeyStore(let path): "\(path) is not a key store"
    case .unknownVersion(let path, let version):
      "the key store \(path) has format version \(version); this program reads version "
        + "\(KeyStoreFormat.version)"
    case .sealedKey(let path): "the seal key does not open the key store \(path)"
    case .altered(let path): "the key store \(path) was altered: its seal does not fit"
    case .malformed(let path, let reason): "the key store \(path) is malformed: \(reason)"
    case .wrongCluster(let path, let wanted, let found):
      "the key store \(path) belongs to cluster '\(found)', the configuration says '\(wanted)'"
    case .tooManyVersions(let maximum): "a key has at most \(maximum) versions"
    case .busy: "another key is being rotated; try again in a moment"
    case .inUse(let path): "another key control entity uses \(path)"
    }
  }

  public var exitCode: Int32 {
    switch self {
    case .file(.exposed), .malformedSealKey, .sealedKey: ExitCode.notPermitted
    case .file(.missing), .file(.exists), .wrongCluster: ExitCode.configuration
    case .inUse, .busy: ExitCode.unavailable
    case .file, .truncated, .notAKeyStore, .unknownVersion, .altered, .malformed:
      ExitCode.inputOutput
    case .tooManyVersions: ExitCode.internalError
    }
  }
}
