import ArgumentParser
import Base

struct BenchCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract:
      "Measure: the whole system (e2e), repair (care), masters (metadata, failover), model, cipher, shadows, files.",
    discussion: """
      Every result says which build was measured: figures of a debug build mean nothing.

      EXAMPLE
        sfmedir bench e2e --images scans/ --json
      """,
    subcommands: [
      BenchEndToEndCommand.self, BenchCareCommand.self, BenchCipherCommand.self,
      BenchShadowsCommand.self,
      BenchSegmentsCommand.self, BenchMetadataCommand.self, BenchFailoverCommand.self,
      BenchModelCommand.self,
    ])
}

/// The machine and the moment that belong to a measured figure.
enum BenchContext {
  static func add(to object: inout JSONObject) {
    object["build"] = .string(Build.kind)
    object["version"] = .string(Build.version)
    object["date"] = .string(Units.time(milliseconds: SystemClock().wallMilliseconds()))
    object["machine"] = .string(machine())
  }

  static func warn(_ output: Output) {
    if Build.kind != "release" {
      output.remark("this is a debug build: its figures say nothing about the product")
    }
  }

  /// "AMD EPYC ..., 2 cores"
  static func machine() -> String {
    let lines = ((try? ProcessTable.text("/proc/cpuinfo")) ?? "").split(separator: "\n")
    let cores = ProcessTable.processorCount
    let name = lines.first { $0.hasPrefix("model name") }?.split(separator: ":").last ?? "unknown"
    return "\(name.drop { $0 == " " }), \(Units.count(cores, "core"))"
  }
}

/// Wall-clock time of something done again and again.
struct RepeatedMeasurement {
  private(set) var seconds: [Double] = []

  /// - Parameter minimumSeconds: measured on until this much time has gone by, and `repeats` are done.
  init(repeats: Int, minimumSeconds: Double, _ body: () throws -> Void) rethrows {
    let clock = SystemClock()
    // The first run pays for pages that were never touched.
    try body()
    var total = 0.0
    while seconds.count < repeats || total < minimumSeconds {
      let start = clock.monotonicNanoseconds()
      try body()
      let elapsed = Double(clock.monotonicNanoseconds() - start) / 1e9
      seconds.append(elapsed)
      total += elapsed
    }
    seconds.sort()
  }

  var median: Double { seconds[seconds.count / 2] }

  /// The smallest time that so many percent of the runs do not exceed.
  func percentile(_ percent: Double) -> Double {
    let rank = Int((percent / 100 * Double(seconds.count)).rounded(.up))
    return seconds[max(1, rank) - 1]
  }

  /// Of the median run, in units of 10^6 bytes.
  func megabytesPerSecond(_ byteCount: Int) -> Double { Double(byteCount) / 1e6 / median }
}
