// swift-tools-version: 6.2
import PackageDescription

let house: [SwiftSetting] = [
  .swiftLanguageMode(.v6), .enableUpcomingFeature("ExistentialAny"), .treatAllWarnings(as: .error),
]
/// Modules that move or compute over many bytes: without this a debug test run takes minutes.
let fast = house + [.unsafeFlags(["-O"])]

let package = Package(
  name: "SFMedIR",
  dependencies: [
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
    .package(url: "https://github.com/apple/swift-asn1", from: "1.7.4"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    .package(url: "https://github.com/LebJe/TOMLKit", from: "0.6.0"),
    .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
  ],
  targets: [
    .target(
      name: "COpenSSL", cSettings: [.unsafeFlags(["-O2"])],
      linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
    .target(name: "Base", dependencies: ["COpenSSL"], swiftSettings: fast),
    .target(
      name: "CWire", cSettings: [.unsafeFlags(["-O2"])],
      linkerSettings: [.linkedLibrary("protobuf-c")]),
    .executableTarget(name: "wiregen", dependencies: ["CWire"], swiftSettings: house),
    .target(name: "Messages", dependencies: ["CWire"], swiftSettings: fast),
    .target(
      name: "RPC",
      dependencies: [
        "Base", "COpenSSL", "CWire", "Messages", .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: fast),

    // Keys, certificates and what every daemon shares.
    .target(
      name: "TestSupport",
      dependencies: [
        "Base", "RPC",
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "X509", package: "swift-certificates"),
        .product(name: "SwiftASN1", package: "swift-asn1"),
      ],
      path: "Tests/Support", swiftSettings: house),
  ],
  cLanguageStandard: .gnu17, cxxLanguageStandard: .cxx17
)
