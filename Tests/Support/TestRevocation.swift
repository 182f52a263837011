import Crypto
import Foundation
import SwiftASN1
import X509

/// A certificate revocation list (RFC 5280, version 1) in PEM, written by hand: the libraries make none.
public func revocationListPEM(
  of certificatesPEM: [String], issuer: Certificate, key: P256.Signing.PrivateKey,
  from start: Double = -300, to end: Double? = 3600
) throws -> String {
  let algorithm = element(0x30, element(0x06, [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]))
  var serializer = DER.Serializer()
  try serializer.serialize(issuer.subject)
  var body = algorithm + serializer.serializedBytes + time(start)
  if let end { body += time(end) }
  let entries = try certificatesPEM.map { pem in
    let serial = try Certificate(pemEncoded: pem).serialNumber.bytes
    // A whole number whose first bit is set would be negative.
    let sign: [UInt8] = serial.first.map { $0 & 0x80 != 0 } == true ? [0] : []
    return element(0x30, element(0x02, sign + serial) + time(start))
  }
  if !entries.isEmpty { body += element(0x30, entries.flatMap { $0 }) }
  let list = element(0x30, body)
  let signature = try key.signature(for: list)
  let whole = element(0x30, list + algorithm + element(0x03, [0] + signature.derRepresentation))
  let text = Data(whole).base64EncodedString(options: [
    .lineLength64Characters, .endLineWithLineFeed,
  ])
  return "-----BEGIN X509 CRL-----\n\(text)\n-----END X509 CRL-----\n"
}

private func element(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
  var length: [UInt8] = []
  var rest = content.count
  if rest < 0x80 { return [tag, UInt8(rest)] + content }
  while rest > 0 {
    length.insert(UInt8(rest & 0xff), at: 0)
    rest >>= 8
  }
  return [tag, 0x80 | UInt8(length.count)] + length + content
}

/// GeneralizedTime would be refused for years before 2050.
private func time(_ secondsFromNow: Double) -> [UInt8] {
  let text = (Date() + secondsFromNow).ISO8601Format()
  let digits = text.utf8.filter { $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }
  return element(0x17, digits.dropFirst(2) + [UInt8(ascii: "Z")])
}
