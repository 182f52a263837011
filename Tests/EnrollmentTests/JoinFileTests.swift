import Base
import RPC
import TestSupport
import Testing

@testable import Enrollment

@Suite struct JoinFileTests {
  private func sample() throws -> JoinFile {
    let authority = try TestAuthority()
    return JoinFile(
      identity: try authority.identity(.slave, "scs-1"),
      token: SecretBytes([UInt8](0..<32)), authorityPEM: authority.certificatePEM)
  }

  private func reason(_ text: String) -> String? {
    do {
      _ = try JoinFile.parse(Array(text.utf8), path: "f")
      return nil
    } catch {
      guard case .malformedJoinFile("f", let reason) = error else { return "\(error)" }
      return reason
    }
  }

  @Test func comesBackAsItWas() throws {
    let file = try sample()
    #expect(try JoinFile.parse(file.encoded()) == file)
    let lines = String(decoding: file.encoded(), as: UTF8.self).split(separator: "\n")
    let token = [UInt8](0..<32).hex
    #expect(
      lines.prefix(6) == [
        "sfmedir-join-1", "cluster = test", "role = scs", "node = scs-1", "token = \(token)",
        "-----BEGIN CERTIFICATE-----",
      ])
  }

  @Test func everyTruncationIsRefused() throws {
    let bytes = try sample().encoded()
    // Without its last line feeds a PEM text is still whole.
    let end = try #require(bytes.lastIndex(of: UInt8(ascii: "-")))
    for count in 0..<end {
      #expect(throws: EnrollmentError.self, "\(count)") {
        try JoinFile.parse(Array(bytes[..<count]))
      }
    }
  }

  @Test func strictlyParsed() throws {
    let text = String(decoding: try sample().encoded(), as: UTF8.self)
    #expect(reason(text) == nil)
    #expect(
      reason("sfmedir-join-2" + text.dropFirst(14)) == "the first line is not 'sfmedir-join-1'")
    let cases: [(String, String, String)] = [
      ("role = scs", "role = boss", "no role 'boss'"),
      ("role = scs", "role=scs", "line 3 is not 'role = ...'"),
      ("node = scs-1", "node = Scs-1", "'test' or 'Scs-1' is not a name"),
      ("token = 00", "token = ", "the token is not 64 hexadecimal digits"),
      ("token = 00", "token = zz", "the token is not 64 hexadecimal digits"),
      ("BEGIN CERTIFICATE", "BEGIN SOMETHING", "no authority's certificate in PEM after the token"),
      (
        "cluster = test", "cluster = te\u{1b}st",
        "a character that is neither printable ASCII nor a line feed"
      ),
    ]
    for (old, new, expected) in cases {
      let changed = text.replacing(old, with: new, maxReplacements: 1)
      #expect(changed != text)
      #expect(reason(changed) == expected)
    }
    #expect(reason(text + String(repeating: "a", count: 20_000)) == "more than 16384 bytes")
  }

  @Test func aLeafIsNoAuthority() throws {
    let authority = try TestAuthority()
    let leaf = try authority.credentials(.slave, "scs-1").certificatePEM
    let text = String(decoding: try sample().encoded(), as: UTF8.self)
    let head = text.split(separator: "\n").prefix(5).joined(separator: "\n")
    #expect(reason(head + "\n" + leaf) == "its certificate is not an authority's")
  }

  @Test func errorsNeverShowTheToken() throws {
    let text = String(decoding: try sample().encoded(), as: UTF8.self)
    let secret = String([UInt8](0..<32).hex.dropFirst(2))
    let broken = text.replacing("token = 00", with: "token = 0")
    let found = try #require(reason(broken))
    #expect(!found.contains(secret))
  }

  @Test func anExposedFileIsRefused() throws {
    let folder = try TemporaryDirectory()
    let path = try folder.write("a.join", try sample().encoded(), mode: 0o640)
    #expect(throws: EnrollmentError.file(.exposed(path: path))) { try JoinFile.load(path) }
    #expect(throws: EnrollmentError.file(.missing(path: folder.path("no")))) {
      try JoinFile.load(folder.path("no"))
    }
  }
}
