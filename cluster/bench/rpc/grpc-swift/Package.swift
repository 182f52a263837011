// swift-tools-version: 6.2
// The Swift peers of `make bench-rpc`, in a package of their own so that nobody who builds SFMedIR
// fetches or builds them:
//   grpc-swift-echo  gRPC Swift 2 over HTTP/2
//   nio-echo         the floor: bare frames on SwiftNIO, which gRPC Swift 2 builds anyway
import PackageDescription

let house: [SwiftSetting] = [
  .swiftLanguageMode(.v6), .enableUpcomingFeature("ExistentialAny"), .treatAllWarnings(as: .error),
]

let package = Package(
  name: "grpc-swift-peers",
  platforms: [.macOS(.v15)],
  dependencies: [
    .package(url: "https://github.com/grpc/grpc-swift-2", exact: "2.4.3"),
    .package(url: "https://github.com/grpc/grpc-swift-nio-transport", exact: "2.9.2"),
    .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-ssl", exact: "2.37.6"),
  ],
  targets: [
    .target(name: "BenchSupport", swiftSettings: house),
    .executableTarget(
      name: "grpc-swift-echo",
      dependencies: [
        "BenchSupport",
        .product(name: "GRPCCore", package: "grpc-swift-2"),
        .product(name: "GRPCNIOTransportHTTP2Posix", package: "grpc-swift-nio-transport"),
      ],
      path: "Sources/GRPCEcho", swiftSettings: house),
    .executableTarget(
      name: "nio-echo",
      dependencies: [
        "BenchSupport",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
      ],
      path: "Sources/NIOEcho", swiftSettings: house),
  ]
)
