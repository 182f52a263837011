import Base
import CWire
import Messages

@testable import RPC

/// Bytes that say what happens; at their end everything is 0.
struct FuzzInput {
  private let bytes: [UInt8]
  private var position = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  var isAtEnd: Bool { position >= bytes.count }

  mutating func byte() -> UInt8 {
    defer { position += 1 }
    return isAtEnd ? 0 : bytes[position]
  }

  /// Two bytes.
  mutating func number() -> Int { Int(byte()) << 8 | Int(byte()) }

  mutating func take(_ count: Int) -> ArraySlice<UInt8> {
    let end = min(bytes.count, position + count)
    defer { position = end }
    return bytes[min(position, end)..<end]
  }

  mutating func rest() -> [UInt8] { Array(take(bytes.count)) }
}

/// What the fuzzer runs (Tests/Fuzz), and the tests with kept and drawn inputs.
///
/// The first byte picks a part of the RPC, the others are its input. Each part knows what must be true
/// whatever they are.
final class FuzzProgram {
  private let connections: FuzzConnections

  init() throws { connections = try FuzzConnections() }

  func stop() { connections.stop() }

  /// Nil where all that must be true is; else what is not.
  func run(_ bytes: [UInt8]) -> String? {
    var input = FuzzInput(bytes)
    switch input.byte() % 5 {
    case 0: return Self.frames(input)
    case 1: return Self.requestHead(input.rest())
    case 2: return Self.message(input)
    case 3: return connections.server(input)
    default: return connections.client(input)
    }
  }

  // MARK: frames

  /// Keeps frames, and gives bulk of odd streams memory of its own.
  private final class Sink: FrameSink {
    let collects: Bool
    var frames: [Frame] = []

    init(collects: Bool) { self.collects = collects }

    func collector(for header: FrameHeader) -> BulkCollector? {
      collects && header.stream % 2 == 1 && header.payloadBytes > 0
        ? BulkCollector(expected: header.payloadBytes) : nil
    }

    func receive(_ header: FrameHeader, _ payload: FramePayload) throws(ProtocolViolation) {
      let bytes =
        if case .collected(let collector) = payload { collector.take() } else { payload.array }
      frames.append(Frame(header: header, payload: bytes))
    }
  }

  private static let maximumFrameBytes = 8192

  /// However the bytes are cut, and wherever they are put, the frames are the same.
  private static func frames(_ input: FuzzInput) -> String? {
    var input = input
    let cutCount = Int(input.byte() % 16)
    let places = (0..<cutCount).map { _ in input.number() }
    let flags = input.byte()
    let bytes = input.rest()
    let whole = Sink(collects: false)
    let cut = Sink(collects: flags & 1 != 0)
    let wholeEnd = decode(bytes, [], fills: false, whole)
    let cuts = places.map { bytes.isEmpty ? 0 : $0 % bytes.count }.sorted()
    let cutEnd = decode(bytes, cuts, fills: flags & 2 != 0, cut)
    if whole.frames != cut.frames {
      return "\(cut.frames.count) frames in pieces, \(whole.frames.count) whole"
    }
    return wholeEnd == cutEnd
      ? nil : "\(cutEnd, default: "-") in pieces, \(wholeEnd, default: "-") whole"
  }

  private static func decode(
    _ bytes: [UInt8], _ cuts: [Int], fills: Bool, _ sink: Sink
  ) -> ProtocolViolation? {
    var decoder = FrameDecoder(maximumPayloadBytes: maximumFrameBytes)
    var start = 0
    do throws(ProtocolViolation) {
      for end in cuts + [bytes.count] {
        var piece = bytes[start..<end]
        start = end
        while fills, decoder.wantsFilling, !piece.isEmpty {
          try decoder.fill(sink) { room in
            let count = min(room.count, piece.count)
            room.copyBytes(from: piece.prefix(count))
            piece = piece.dropFirst(count)
            return count
          }
        }
        let rest = Array(piece)
        let outcome = rest.withUnsafeBytes { view in
          Result { () throws(ProtocolViolation) in try decoder.push(view, sink) }
        }
        try outcome.get()
      }
      return nil
    } catch {
      return error
    }
  }

  // MARK: headers of requests

  /// What the short way reads is what protobuf-c reads, and what it writes is what protobuf-c writes.
  private static func requestHead(_ bytes: [UInt8]) -> String? {
    let slow = try? RequestHeader(decoding: bytes)
    let fast: (method: String, timeout: UInt64)? = bytes.withUnsafeBytes { view in
      RequestHead(view).map { (String(decoding: $0.method, as: UTF8.self), $0.timeoutMicroseconds) }
    }
    if let fast {
      guard let slow else { return "read what protobuf-c refuses" }
      guard slow.method == fast.method, slow.timeoutMicroseconds == fast.timeout,
        slow.metadata.isEmpty
      else { return "read \(fast), protobuf-c reads \(slow)" }
    }
    guard var slow, slow.metadata.isEmpty else { return nil }
    // As our own clients write it.
    if slow.timeoutMicroseconds == 0 { slow.timeoutMicroseconds = 1 }
    let method = slow.method.utf8
    let count = RequestHead.encodedCount(method, slow.timeoutMicroseconds)
    var written = [UInt8](repeating: 0xff, count: count)
    written.withUnsafeMutableBytes {
      RequestHead.encode(method, slow.timeoutMicroseconds, into: $0)
    }
    return written == slow.encoded() ? nil : "wrote \(written), protobuf-c writes \(slow.encoded())"
  }

  // MARK: messages

  /// Decoding takes no more memory than it may; what was decoded is the same after a way over the wire.
  private static func message(_ input: FuzzInput) -> String? {
    var input = input
    let index = Int(input.byte()) % messageTypes.count
    return roundTrip(messageTypes[index], input.rest())
  }

  private static let memoryLimitBytes = 1 << 20

  private static func roundTrip<M: WireMessage & Equatable>(_: M.Type, _ bytes: [UInt8]) -> String?
  {
    guard let first = try? M(decoding: bytes, memoryLimitBytes: memoryLimitBytes) else {
      return nil
    }
    let encoded = first.encoded()
    do {
      let second = try M(decoding: encoded, memoryLimitBytes: 2 * memoryLimitBytes)
      guard second == first else { return "\(M.self): another one after a round trip" }
    } catch {
      return "\(M.self): own bytes are refused: \(error)"
    }
    return nil
  }

  /// Every message of Protos/, which FuzzSeedTests checks.
  static let messageTypes: [any (WireMessage & Equatable).Type] = [
    AbortUpload.self, BeginUpload.self, CheckImagesReply.self, CheckImagesRequest.self,
    ClusterStatusReply.self, CommitUpload.self, CreateTokenReply.self, CreateTokenRequest.self,
    DeleteImage.self, DeleteImageReply.self, DeleteImageRequest.self, DeleteShadowsReply.self,
    DeleteShadowsRequest.self, DescribeTypesReply.self, DescribeTypesRequest.self,
    EchoBulkHeader.self, EchoMessage.self, Empty.self, EnumDescription.self,
    EnumValueDescription.self, FetchImageHeader.self, FetchImageRequest.self, FetchKeysReply.self,
    FetchKeysRequest.self, FieldDescription.self, GetImageHeader.self, GetImageRequest.self,
    GetShadowHeader.self, GetShadowRequest.self, GoAway.self, HasImagesReply.self,
    HasImagesRequest.self, HealthCheckRequest.self, HealthCheckResponse.self, Hello.self,
    ImageRecord.self, ImageTags.self, JoinReply.self, JoinRequest.self, KeySummary.self,
    ListImagesReply.self, ListImagesRequest.self, ListKeysReply.self, ListMethodsReply.self,
    ListOwnImagesReply.self, ListOwnImagesRequest.self, ListShadowsReply.self,
    ListShadowsRequest.self, LogCommand.self, LogOutcome.self, MaskedCode.self,
    MessageDescription.self, MetadataEntry.self, MethodDescription.self, MethodFigures.self,
    MethodMetricsReply.self, NodeStatusReply.self, NotLeader.self, OwnImage.self,
    PutImageHeader.self, PutImageReply.self, PutShadowHeader.self, PutShadowReply.self,
    QueryImagesHeader.self, QueryResult.self, RemoveImageReply.self, RemoveImageRequest.self,
    RenewRequest.self, RequestHeader.self, RetryAfter.self, RotateKeyReply.self,
    RotateKeyRequest.self, SealedKey.self, SearchImagesRequest.self, SearchResult.self,
    ShadowPlacement.self, ShadowsCollected.self, SlaveHealth.self, SlaveStatusReply.self,
    StatusCount.self, StoreImageHeader.self, StoreImageReply.self, TagEntry.self, Trailer.self,
    // Seeds name a type by its place: later ones stand behind.
    AbortMove.self, BeginMove.self, CareStatus.self, CommitMove.self, EndangeredImage.self,
    ExplainImageReply.self, ExplainImageRequest.self, ExplainedShadow.self, ForgetSlave.self,
    ForgetSlaveRequest.self, ListEndangeredReply.self, ListEndangeredRequest.self,
    ListOwnersReply.self, OwnerUsage.self, SetQuota.self, SetQuotaRequest.self,
    SetSlaveCondition.self, SetSlaveConditionRequest.self,
    RaftAppend.self, RaftAppended.self, RaftBase.self, RaftHeartbeat.self,
    RaftHeartbeatAnswer.self, RaftMessage.self, RaftMessages.self, RaftRequestVote.self,
    RaftSnapshotHeader.self, RaftSnapshotReply.self, RaftVote.self, StateMark.self,
    StateMarks.self, ConsensusStatusReply.self, MemberHealth.self, ReplaceMemberRequest.self,
    TransferLeadershipRequest.self,
  ]
}
