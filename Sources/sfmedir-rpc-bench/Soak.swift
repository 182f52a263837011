import ArgumentParser
import Base
import Foundation
import Messages
import RPC

struct Soak: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Calls of all kinds for minutes, with cancellations, deadlines and lost connections.",
    discussion: """
      Server and clients run in this process over mutual TLS. Every call must end with exactly one status, and \
      at the end nothing may be left: no call, no descriptor, no growing memory. Exit status 1 where it is not so.
      """)

  @OptionGroup var certificates: CertificateFolder
  @Option(help: "How long.") var seconds = 300
  @Option(help: "Calls in flight at once.") var concurrency = 64
  @Option(help: "Seed of every random choice; 0 takes a fresh one and prints it.") var seed:
    UInt64 = 0
  @Flag(help: "The JSON line only.") var json = false

  func validate() throws {
    guard seconds > 0, concurrency > 0 else {
      throw ValidationError("--seconds and --concurrency must be positive")
    }
  }

  func run() async throws {
    let seed = seed == 0 ? UInt64.random(in: 1...UInt64.max) : seed
    let serving = EventLoopGroup(count: 1)
    let calling = EventLoopGroup(count: 1)
    let tls = try certificates.client()
    let server = try EchoService.server(try certificates.server(), port: 0, group: serving) {
      // Connections end under way, again and again.
      $0.limits.maximumAgeMilliseconds = 2000
      $0.limits.ageGraceMilliseconds = 1000
    }
    let tally = SoakTally()
    let until = SystemClock().monotonicNanoseconds() + UInt64(seconds) * 1_000_000_000
    // The first connections, threads and caches belong to no leak.
    try await Load.echo([1], EchoService.channel(tls, port: server.port, group: calling))
    var samples: [SoakSample] = []
    await withTaskGroup(of: Void.self) { tasks in
      for number in 0..<concurrency {
        tasks.addTask {
          var caller = SoakCaller(
            seed: seed &+ UInt64(number) &* 0x9E37_79B9_7F4A_7C15, until: until, tally: tally)
          await caller.run {
            EchoService.channel(tls, port: server.port, group: calling)
          }
        }
      }
      samples = await sample(until, server, tally)
      await tasks.waitForAll()
    }
    let left = await settle(server)
    await server.shutdown(graceMilliseconds: 1000)
    try report(seed, tally.counts, samples, left)
  }

  /// Busy connections give their buffers back after that.
  private static let coolingMilliseconds = 600

  private func sample(_ until: UInt64, _ server: Server, _ tally: SoakTally) async -> [SoakSample] {
    var samples: [SoakSample] = []
    let clock = SystemClock()
    let every = max(1, seconds / 60)
    let began = clock.monotonicNanoseconds()
    while clock.monotonicNanoseconds() < until {
      try? await Task.sleep(for: .seconds(every))
      // Measured at rest: payloads that are under way are no leak.
      tally.rest(true)
      while tally.openCalls > 0 || server.runningCalls > 0 {
        try? await Task.sleep(for: .milliseconds(5))
      }
      try? await Task.sleep(for: .milliseconds(Self.coolingMilliseconds))
      let elapsed = Int((clock.monotonicNanoseconds() - began) / 1_000_000_000)
      let sample = SoakSample(elapsedSeconds: elapsed)
      samples.append(sample)
      tally.rest(false)
      if !json, samples.count % 10 == 0 {
        print(
          "\(elapsed) s: \(tally.counts.began) calls; at rest \(sample.heapKiB) KiB of heap, "
            + "\(sample.residentKiB) KiB resident, "
            + "\(sample.descriptors) descriptors, \(server.connectionCount) connections")
      }
    }
    return samples
  }

  /// What is left once every caller has its answer; connections without calls may stay.
  private func settle(_ server: Server) async -> SoakLeft {
    let patience = SystemClock().monotonicNanoseconds() + 10_000_000_000
    while server.runningCalls > 0 || server.unreadBytes > 0 || server.connectionCount > 1 {
      guard SystemClock().monotonicNanoseconds() < patience else { break }
      try? await Task.sleep(for: .milliseconds(50))
    }
    return SoakLeft(
      handlers: server.runningCalls, unreadBytes: server.unreadBytes,
      connections: server.connectionCount, resumed: server.connectionCounters["Resumed"] ?? 0,
      accepted: server.connectionCounters["Accepted"] ?? 0)
  }

  private func report(
    _ seed: UInt64, _ counts: SoakCounts, _ samples: [SoakSample], _ left: SoakLeft
  ) throws {
    // The first third warms caches and the allocator up.
    let steady = Array(samples.dropFirst(samples.count / 3))
    let slope = SoakSample.slopeKiBPerMinute(steady, \.heapKiB)
    let residentSlope = SoakSample.slopeKiBPerMinute(steady, \.residentKiB)
    let descriptors = steady.map(\.descriptors)
    let growth = (descriptors.last ?? 0) - (descriptors.first ?? 0)
    var faults: [String] = []
    if counts.ended != counts.began {
      faults.append("\(counts.began - counts.ended) calls never ended")
    }
    if counts.twice > 0 { faults.append("\(counts.twice) calls ended twice") }
    if counts.wrong > 0 { faults.append("\(counts.wrong) answers were wrong") }
    if left.handlers > 0 { faults.append("\(left.handlers) handlers are stuck") }
    if left.unreadBytes != 0 { faults.append("\(left.unreadBytes) bytes were never read") }
    if growth > concurrency { faults.append("\(growth) descriptors more than after the warm-up") }
    // A slope of a few points is noise.
    let isLong = steady.count >= Self.samplesForSlope
    if isLong, residentSlope > Self.allowedResidentSlopeKiBPerMinute {
      faults.append("resident memory grows by \(Int(residentSlope)) KiB a minute")
    }
    if isLong, slope > Self.allowedSlopeKiBPerMinute {
      faults.append("memory grows by \(Int(slope)) KiB a minute")
    }
    let statuses = counts.statuses.sorted { $0.key < $1.key }
      .map { #""\#($0.key)": \#($0.value)"# }.joined(separator: ", ")
    print(
      #"{"soak_seconds": \#(seconds), "seed": \#(seed), "concurrency": \#(concurrency), "#
        + #""calls": \#(counts.began), "ended_once": \#(counts.ended), "ended_twice": \#(counts.twice), "#
        + #""wrong_answers": \#(counts.wrong), "statuses": {\#(statuses)}, "#
        + #""connections": \#(left.accepted), "resumed": \#(left.resumed), "#
        + #""stuck_handlers": \#(left.handlers), "unread_bytes": \#(left.unreadBytes), "#
        + #""descriptors_first": \#(descriptors.first ?? 0), "descriptors_last": \#(descriptors.last ?? 0), "#
        + #""resident_kib_first": \#(steady.first?.residentKiB ?? 0), "#
        + #""resident_kib_last": \#(steady.last?.residentKiB ?? 0), "#
        + #""heap_kib_first": \#(steady.first?.heapKiB ?? 0), "#
        + #""heap_kib_last": \#(steady.last?.heapKiB ?? 0), "#
        + String(
          format: #""heap_slope_kib_per_minute": %.1f, "resident_slope_kib_per_minute": %.1f, "#,
          slope, residentSlope)
        + #""faults": [\#(faults.map { "\"\($0)\"" }.joined(separator: ", "))]}"#)
    if !faults.isEmpty { throw ExitCode(1) }
  }

  private static let samplesForSlope = 10
  /// A connection more or less at the moment of measuring. A leak of 100 bytes a call would be some MiB.
  private static let allowedSlopeKiBPerMinute = 256.0
  /// Pages come and go with the largest payloads.
  private static let allowedResidentSlopeKiBPerMinute = 8192.0
}

/// What a soak found left behind.
struct SoakLeft {
  var handlers: Int
  var unreadBytes: Int
  var connections: Int
  var resumed: UInt64
  var accepted: UInt64
}
