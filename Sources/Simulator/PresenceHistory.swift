import Foundation

/// Whether an image is stored: absent at first.
///
/// Uploads are one operation whether they sent the image or found it there, since a repeated attempt may find what the one before
/// it has stored.
public struct PresenceModel: SequentialModel {
  public enum Input: String, Hashable, Sendable, Codable {
    case upload, remove, read
  }

  public enum Output: String, Hashable, Sendable, Codable {
    /// Of an upload.
    case stored
    /// Of a removal: it was there.
    case removed
    /// Of a removal or a read: it was not there.
    case absent
    /// Of a read.
    case found
    /// Of a read: other bytes came than were stored. Nothing explains that.
    case altered
  }

  public let initial = false

  public init() {}

  public func apply(_ input: Input, _ output: Output?, to state: Bool) -> Bool? {
    switch (input, output) {
    case (.upload, .stored?): true
    case (.remove, .removed?): state ? false : nil
    case (.remove, .absent?), (.read, .absent?): state ? nil : false
    case (.read, .found?): state ? true : nil
    // What was never answered need not have happened: where it changes nothing it is not tried, which keeps the search small.
    case (.upload, nil): state ? nil : true
    case (.remove, nil): state ? false : nil
    default: nil
    }
  }
}

/// What clients of a real cluster saw, as `cluster/chaos` writes it: a JSON object a line.
public struct PresenceHistory: Sendable {
  /// A line. Times are nanoseconds of one clock.
  public struct Line: Codable, Sendable, Equatable {
    public var image: String
    public var client: UInt64
    public var input: PresenceModel.Input
    /// Nil where it is not known whether it happened.
    public var output: PresenceModel.Output?
    public var invoked: UInt64
    public var completed: UInt64

    public init(
      image: String, client: UInt64, input: PresenceModel.Input, output: PresenceModel.Output?,
      invoked: UInt64, completed: UInt64
    ) {
      self.image = image
      self.client = client
      self.input = input
      self.output = output
      self.invoked = invoked
      self.completed = completed
    }
  }

  public struct BadLine: Error, CustomStringConvertible {
    public let number: Int
    public let problem: String
    public var description: String { "line \(number): \(problem)" }
  }

  public enum Verdict: String, Sendable, Codable {
    case linearizable, violated, undecided
  }

  /// What was found about one image.
  public struct Finding: Sendable, Codable {
    public var image: String
    public var operations: Int
    public var unknown: Int
    public var verdict: Verdict
    /// Of a violation: answers that no order explains.
    public var unplaced: [Line]
  }

  public private(set) var lines: [Line] = []

  public init(lines: [Line]) { self.lines = lines }

  public init(parsing text: String) throws(BadLine) {
    let decoder = JSONDecoder()
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
    where !line.isEmpty {
      do {
        let line = try decoder.decode(Line.self, from: Data(line.utf8))
        guard line.output == nil || line.invoked <= line.completed else {
          throw BadLine(number: index + 1, problem: "it ends before it begins")
        }
        lines.append(line)
      } catch let problem as BadLine {
        throw problem
      } catch {
        throw BadLine(number: index + 1, problem: "\(error)")
      }
    }
  }

  /// Image by image, in the order of their names.
  /// - Parameter repeats: whether a call may have taken effect twice before its answer, as where its first attempt was
  ///   not answered and a second one was made.
  public func check(repeats: Bool = false, maximumSteps: Int = 5_000_000) -> [Finding] {
    Dictionary(grouping: lines, by: \.image).sorted { $0.key < $1.key }.map { image, lines in
      // A read without an answer says nothing.
      let lines = lines.filter { $0.output != nil || $0.input != .read }
      var calls = lines.map {
        Operation<PresenceModel.Input, PresenceModel.Output>(
          client: $0.client, input: $0.input, output: $0.output, invoked: $0.invoked,
          completed: $0.completed)
      }
      if repeats {
        calls += calls.compactMap { call in
          guard call.output != nil, call.input != .read else { return nil }
          var attempt = call
          (attempt.output, attempt.isOptional) = (nil, true)
          return attempt
        }
      }
      var finding = Finding(
        image: image, operations: lines.count, unknown: lines.count { $0.output == nil },
        verdict: .linearizable, unplaced: [])
      switch LinearizabilityChecker(PresenceModel(), maximumSteps: maximumSteps).check(calls) {
      case .linearizable: break
      case .undecided: finding.verdict = .undecided
      case .violated(let unplaced):
        finding.verdict = .violated
        finding.unplaced = unplaced.map { lines[$0] }
      }
      return finding
    }
  }
}
