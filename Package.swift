// swift-tools-version: 6.2
import PackageDescription

let house: [SwiftSetting] = [
  .swiftLanguageMode(.v6), .enableUpcomingFeature("ExistentialAny"), .treatAllWarnings(as: .error),
]
/// Modules that move or compute over many bytes: without this a debug test run takes minutes.
let fast = house + [.unsafeFlags(["-O"])]

/// Async functions stay where their caller is: a call on an event loop changes no executor on its way.
let onLoops = fast + [.enableUpcomingFeature("NonisolatedNonsendingByDefault")]

let argumentParser = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")
let asn1 = Target.Dependency.product(name: "SwiftASN1", package: "swift-asn1")
let certificates = Target.Dependency.product(name: "X509", package: "swift-certificates")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let histogram = Target.Dependency.product(name: "Histogram", package: "hdrhistogram-swift")
let lifecycle = Target.Dependency.product(
  name: "ServiceLifecycle", package: "swift-service-lifecycle")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let signals = Target.Dependency.product(
  name: "UnixSignals", package: "swift-service-lifecycle")
let toml = Target.Dependency.product(name: "TOMLKit", package: "TOMLKit")

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
  // Arrows go down only; docs/architecture.md has the levels.
  targets: [
    // Level 0: system libraries and C.
    .target(
      name: "COpenSSL", cSettings: [.unsafeFlags(["-O2"])],
      linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
    .target(
      name: "COpenBLAS", cSettings: [.unsafeFlags(["-O3"])],
      linkerSettings: [.linkedLibrary("openblas")]),
    .target(
      name: "CISAL", cSettings: [.unsafeFlags(["-O2"])], linkerSettings: [.linkedLibrary("isal")]),
    .target(name: "CSQLite", linkerSettings: [.linkedLibrary("sqlite3")]),
    .target(
      name: "CImage", cSettings: [.unsafeFlags(["-O3"])],
      linkerSettings: [.linkedLibrary("png"), .linkedLibrary("jpeg")]),
    .target(
      name: "CDicom", cxxSettings: [.unsafeFlags(["-O2"])],
      linkerSettings: [
        .linkedLibrary("dcmdata"), .linkedLibrary("oflog"), .linkedLibrary("ofstd"),
        .linkedLibrary("z"),
      ]),
    .target(
      name: "CWire", cSettings: [.unsafeFlags(["-O2"])],
      linkerSettings: [.linkedLibrary("protobuf-c")]),
    .target(name: "CSystem", cSettings: [.unsafeFlags(["-O3"])]),
    .target(name: "CAllocationCount", cSettings: [.unsafeFlags(["-O2"])]),
    .target(name: "CKernels", cSettings: [.unsafeFlags(["-O3"])]),

    // Level 1
    .target(name: "Base", dependencies: ["COpenSSL", "CSystem"], swiftSettings: fast),
    .target(name: "Messages", dependencies: ["CWire"], swiftSettings: fast),
    .executableTarget(name: "wiregen", dependencies: ["CWire"], swiftSettings: house),

    // Level 2
    .target(
      name: "RPC", dependencies: ["Base", "COpenSSL", "CWire", "Messages", logging],
      swiftSettings: onLoops),
    .target(name: "SegmentStore", dependencies: ["Base", "CSystem"], swiftSettings: fast),
    .target(name: "Raft", swiftSettings: fast),
    .target(
      name: "Shadows", dependencies: ["Base", "CISAL", "CKernels", "COpenSSL"],
      swiftSettings: fast),
    .target(name: "ImageCipher", dependencies: ["Base", "CKernels"], swiftSettings: fast),
    // Generic over the identifier: without this its users search through unspecialised code.
    .target(
      name: "HammingIndex", dependencies: ["CKernels"],
      swiftSettings: fast + [.unsafeFlags(["-cross-module-optimization"])]),
    .target(name: "Imaging", dependencies: ["CDicom", "CImage"], swiftSettings: fast),
    .target(
      name: "DeepHash", dependencies: ["Base", "CKernels", "COpenBLAS"], swiftSettings: fast),

    // Level 3
    .target(
      name: "Enrollment",
      dependencies: ["Base", "Messages", "RPC", logging, crypto, certificates, asn1],
      swiftSettings: house),
    .target(
      name: "DaemonSupport", dependencies: ["Base", "RPC", logging, lifecycle, signals, toml],
      swiftSettings: house),
    .target(
      name: "Replication", dependencies: ["Base", "Raft", "SegmentStore"], swiftSettings: fast),
    .target(
      name: "Consensus",
      dependencies: ["Base", "Messages", "RPC", "Raft", "Replication", "SegmentStore", logging],
      swiftSettings: fast),
    .target(
      name: "HashTraining", dependencies: ["Base", "DeepHash", "Imaging"], swiftSettings: fast),
    .target(
      name: "ImagePipeline",
      dependencies: [
        "Base", "DeepHash", "Enrollment", "ImageCipher", "Imaging", "Messages", "RPC",
      ],
      swiftSettings: fast),

    // Level 4: the roles, which meet only through Protos/
    .target(
      name: "KeyControl",
      dependencies: [
        "Base", "DaemonSupport", "Enrollment", "Messages", "RPC", logging, crypto, certificates,
        asn1,
      ],
      swiftSettings: house),
    .target(
      name: "MasterCloud",
      dependencies: [
        "Base", "CSQLite", "Consensus", "Enrollment", "HammingIndex", "Messages", "RPC", "Raft",
        "Replication", "SegmentStore", "Shadows", logging,
      ],
      swiftSettings: fast),
    .target(
      name: "SlaveCloud", dependencies: ["Base", "Messages", "RPC", "SegmentStore", logging],
      swiftSettings: fast),
    .target(
      name: "ImageOwner", dependencies: ["Base", "ImagePipeline", "Messages", "RPC", logging],
      swiftSettings: fast),
    .target(
      name: "ImageUser",
      dependencies: ["Base", "ImagePipeline", "Imaging", "Messages", "RPC", logging],
      swiftSettings: fast),

    // Level 5: daemons and the command line
    .executableTarget(
      name: "sfmedir-kce",
      dependencies: [
        "Base", "DaemonSupport", "Enrollment", "KeyControl", "RPC", logging, argumentParser,
      ],
      swiftSettings: house),
    .executableTarget(
      name: "sfmedir-mcs",
      dependencies: [
        "Base", "DaemonSupport", "Enrollment", "MasterCloud", "Messages", "RPC", "Raft", "Shadows",
        logging, argumentParser,
      ],
      swiftSettings: house),
    .executableTarget(
      name: "sfmedir-scs",
      dependencies: [
        "Base", "DaemonSupport", "Enrollment", "RPC", "SegmentStore", "SlaveCloud", logging,
        argumentParser,
      ],
      swiftSettings: house),
    .executableTarget(
      name: "sfmedir-mo",
      dependencies: [
        "Base", "DaemonSupport", "Enrollment", "ImageOwner", "ImagePipeline", "RPC", logging,
        argumentParser,
      ],
      swiftSettings: house),
    .executableTarget(
      name: "sfmedir-mu",
      dependencies: [
        "Base", "DaemonSupport", "Enrollment", "ImagePipeline", "ImageUser", "RPC", logging,
        argumentParser,
      ],
      swiftSettings: house),
    .target(
      name: "CommandLineTool",
      dependencies: [
        "Base", "CWire", "DaemonSupport", "DeepHash", "Enrollment", "HashTraining", "ImageCipher",
        "Imaging", "Messages", "RPC", "SegmentStore", "Shadows", argumentParser, histogram, logging,
      ],
      swiftSettings: house),
    .executableTarget(name: "sfmedir", dependencies: ["CommandLineTool"], swiftSettings: house),

    .target(
      name: "Simulator", dependencies: ["Base", "Raft", "Replication", "SegmentStore"],
      swiftSettings: fast),
    .executableTarget(
      name: "sfmedir-simulate", dependencies: ["Simulator", argumentParser], swiftSettings: house),
    .executableTarget(
      name: "sfmedir-rpc-bench",
      dependencies: ["Base", "CAllocationCount", "Messages", "RPC", argumentParser, logging],
      swiftSettings: onLoops),

    // Tests
    .target(
      name: "TestSupport", dependencies: ["Base", "RPC", logging, crypto, certificates, asn1],
      path: "Tests/Support", swiftSettings: house),
    .target(
      name: "ImageTestSupport",
      dependencies: [
        "Base", "DeepHash", "Enrollment", "ImagePipeline", "Imaging", "Messages", "RPC",
        "TestSupport", logging,
      ],
      path: "Tests/ImageSupport", swiftSettings: house),
    .testTarget(
      name: "BaseTests", dependencies: ["Base", "TestSupport"], swiftSettings: house),
    .testTarget(
      name: "MessagesTests", dependencies: ["Base", "CWire", "Messages", "TestSupport"],
      swiftSettings: house),
    .testTarget(
      name: "RPCTests", dependencies: ["Base", "CWire", "Messages", "RPC", "TestSupport", logging],
      swiftSettings: house),
    .testTarget(
      name: "InteropTests", dependencies: ["Base", "Messages", "RPC", "TestSupport", logging],
      swiftSettings: house),
    .testTarget(
      name: "RPCBenchTests", dependencies: ["RPC", "TestSupport", "sfmedir-rpc-bench"],
      resources: [.copy("Resources/allocations.json")], swiftSettings: house),
    .testTarget(
      name: "SegmentStoreTests", dependencies: ["Base", "CSystem", "SegmentStore", "Simulator"],
      swiftSettings: fast),
    .testTarget(
      name: "RaftTests", dependencies: ["Raft"], exclude: ["Transcripts"], swiftSettings: fast),
    .testTarget(
      name: "ConsensusTests",
      dependencies: [
        "Base", "Consensus", "Messages", "Raft", "Replication", "TestSupport", logging,
      ],
      swiftSettings: house),
    .testTarget(
      name: "ReplicationTests",
      dependencies: ["Base", "Raft", "Replication", "SegmentStore", "Simulator"],
      swiftSettings: house),
    .testTarget(
      name: "SimulatorTests", dependencies: ["Base", "Raft", "Simulator"], swiftSettings: house),
    .testTarget(
      name: "ShadowsTests", dependencies: ["Base", "CISAL", "CKernels", "Shadows"],
      resources: [.copy("Resources")], swiftSettings: house),
    .testTarget(
      name: "ImageCipherTests", dependencies: ["Base", "CKernels", "ImageCipher"],
      swiftSettings: house),
    .testTarget(name: "HammingIndexTests", dependencies: ["HammingIndex"], swiftSettings: fast),
    .testTarget(name: "ImagingTests", dependencies: ["Imaging"], swiftSettings: fast),
    .testTarget(
      name: "DeepHashTests", dependencies: ["CAllocationCount", "CKernels", "DeepHash"],
      resources: [.copy("Resources")], swiftSettings: house),
    .testTarget(
      name: "HashTrainingTests", dependencies: ["Base", "DeepHash", "HashTraining", "Imaging"],
      swiftSettings: house),
    .testTarget(
      name: "EnrollmentTests",
      dependencies: ["Base", "Enrollment", "Messages", "RPC", "TestSupport"],
      swiftSettings: house),
    .testTarget(
      name: "DaemonSupportTests",
      dependencies: ["Base", "DaemonSupport", "RPC", "TestSupport", logging],
      swiftSettings: house),
    .testTarget(
      name: "KeyControlTests",
      dependencies: [
        "Base", "DaemonSupport", "Enrollment", "KeyControl", "Messages", "RPC", "TestSupport",
        logging, crypto, certificates, asn1,
      ],
      resources: [.copy("Resources")], swiftSettings: house),
    .testTarget(
      name: "ImagePipelineTests",
      dependencies: [
        "Base", "DeepHash", "Enrollment", "ImageCipher", "ImagePipeline", "ImageTestSupport",
        "Imaging", "Messages", "RPC", "TestSupport",
      ],
      swiftSettings: house),
    .testTarget(
      name: "ImageOwnerTests",
      dependencies: [
        "Base", "Enrollment", "ImageCipher", "ImageOwner", "ImagePipeline", "ImageTestSupport",
        "Imaging", "Messages", "RPC", "TestSupport",
      ],
      swiftSettings: house),
    .testTarget(
      name: "ImageUserTests",
      dependencies: [
        "Base", "Enrollment", "ImageCipher", "ImageOwner", "ImagePipeline", "ImageTestSupport",
        "ImageUser", "Imaging", "Messages", "RPC", "TestSupport",
      ],
      swiftSettings: house),
    .testTarget(
      name: "SlaveCloudTests",
      dependencies: [
        "Base", "Messages", "RPC", "SegmentStore", "SlaveCloud", "TestSupport", logging,
      ],
      swiftSettings: house),
    .testTarget(
      name: "MasterCloudTests",
      dependencies: [
        "Base", "Consensus", "Enrollment", "MasterCloud", "Messages", "RPC", "Raft", "SegmentStore",
        "Shadows", "SlaveCloud", "TestSupport", logging,
      ],
      swiftSettings: house),
    .testTarget(
      name: "CommandLineToolTests",
      dependencies: [
        "Base", "CommandLineTool", "DeepHash", "HashTraining", "Messages", "RPC", "TestSupport",
        argumentParser, logging,
      ],
      swiftSettings: house),
    .testTarget(
      name: "ClusterTests",
      dependencies: [
        "Base", "DeepHash", "ImageCipher", "Imaging", "KeyControl", "Messages", "TestSupport",
      ],
      swiftSettings: house),
  ],
  cLanguageStandard: .gnu17, cxxLanguageStandard: .cxx17
)

// SFMEDIR_PART keeps what one part and its tests need: sanitizer and fuzz builds take minutes less.
let parts: [String: Set<String>] = [
  "rpc": [
    "Base", "COpenSSL", "CSystem", "CWire", "InteropTests", "Messages", "MessagesTests", "RPC",
    "RPCTests", "TestSupport", "wiregen",
  ],
  "deephash": [
    "Base", "CAllocationCount", "CDicom", "CImage", "CKernels", "COpenBLAS", "COpenSSL", "CSystem",
    "DeepHash",
    "DeepHashTests", "HashTraining", "HashTrainingTests", "Imaging", "ImagingTests",
  ],
  "raft": ["Raft", "RaftTests"],
  "simulator": [
    "Base", "COpenSSL", "CSystem", "Raft", "RaftTests", "Replication", "ReplicationTests",
    "SegmentStore", "SegmentStoreTests", "Simulator", "SimulatorTests", "sfmedir-simulate",
  ],
]
if let part = Context.environment["SFMEDIR_PART"], let needed = parts[part] {
  package.targets.removeAll { !needed.contains($0.name) }
}

// FUZZ=1 adds libFuzzer's program (`make fuzz`), which has no main of its own. It takes files of RPCTests, which
// therefore goes.
if Context.environment["FUZZ"] != nil {
  package.targets.removeAll { $0.isTest || $0.name == "TestSupport" }
  package.products.append(.executable(name: "RPCFuzz", targets: ["RPCFuzz"]))
  package.targets.append(
    .executableTarget(
      name: "RPCFuzz", dependencies: ["Base", "CWire", "Messages", "RPC", logging], path: "Tests",
      exclude: ["Fuzz/Seeds", "Fuzz/make_seeds.py"], sources: ["Fuzz", "RPCTests/Fuzzing"],
      swiftSettings: house + [.unsafeFlags(["-parse-as-library"])]))
}
