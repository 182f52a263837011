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
    .target(name: "CSystem", cSettings: [.unsafeFlags(["-O3"])]),
    .target(name: "CKernels", cSettings: [.unsafeFlags(["-O3"])]),
    .target(
      name: "CISAL", cSettings: [.unsafeFlags(["-O2"])], linkerSettings: [.linkedLibrary("isal")]),
    .target(name: "CSQLite", linkerSettings: [.linkedLibrary("sqlite3")]),
    .target(name: "Base", dependencies: ["COpenSSL", "CSystem"], swiftSettings: fast),
    .target(
      name: "COpenBLAS", cSettings: [.unsafeFlags(["-O3"])],
      linkerSettings: [.linkedLibrary("openblas")]),
    .target(name: "DeepHash", dependencies: ["CKernels", "COpenBLAS"], swiftSettings: fast),
    // Generic over the identifier: without this its users search through unspecialised code.
    .target(
      name: "HammingIndex", dependencies: ["CKernels"],
      swiftSettings: fast + [.unsafeFlags(["-cross-module-optimization"])]),
    .target(
      name: "CImage", cSettings: [.unsafeFlags(["-O3"])],
      linkerSettings: [.linkedLibrary("png"), .linkedLibrary("jpeg")]),
    .target(
      name: "CDicom", cxxSettings: [.unsafeFlags(["-O2"])],
      linkerSettings: [
        .linkedLibrary("dcmdata"), .linkedLibrary("oflog"), .linkedLibrary("ofstd"),
        .linkedLibrary("z"),
      ]),
    .target(name: "Imaging", dependencies: ["CDicom", "CImage"], swiftSettings: fast),
    .target(name: "ImageCipher", dependencies: ["Base", "CKernels"], swiftSettings: fast),
    .target(
      name: "Shadows", dependencies: ["Base", "CISAL", "CKernels", "COpenSSL"], swiftSettings: fast),
    .target(name: "SegmentStore", dependencies: ["Base", "CSystem"], swiftSettings: fast),
    .target(name: "Enrollment", dependencies: ["Base", "Messages"], swiftSettings: fast),
    .target(
      name: "MasterCloud",
      dependencies: [
        "Base", "CSQLite", "Enrollment", "HammingIndex", "Messages", "RPC", "SegmentStore",
        "Shadows", .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: fast),
    .target(
      name: "SlaveCloud",
      dependencies: [
        "Base", "Messages", "RPC", "SegmentStore", .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: house),
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
    .testTarget(
      name: "RPCTests",
      dependencies: [
        "Base", "CWire", "Messages", "RPC", "TestSupport",
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: house),
    .testTarget(
      name: "MasterCloudTests",
      dependencies: [
        "Base", "Enrollment", "MasterCloud", "Messages", "RPC", "SegmentStore", "Shadows",
        "SlaveCloud", "TestSupport", .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: house),
    .testTarget(name: "ImagingTests", dependencies: ["Imaging"], swiftSettings: fast),
    .testTarget(
      name: "ShadowsTests", dependencies: ["Base", "CISAL", "CKernels", "Shadows"],
      resources: [.copy("Resources")], swiftSettings: house),
    .testTarget(
      name: "DeepHashTests", dependencies: ["CKernels", "DeepHash"],
      resources: [.copy("Resources")], swiftSettings: house),
    .testTarget(name: "HammingIndexTests", dependencies: ["HammingIndex"], swiftSettings: fast),
    .testTarget(
      name: "ImageCipherTests", dependencies: ["Base", "CKernels", "ImageCipher"],
      swiftSettings: house),
  ],
  cLanguageStandard: .gnu17, cxxLanguageStandard: .cxx17
)
