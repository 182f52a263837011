import Base
import Foundation
import Logging
import RPC
import TestSupport
import Testing

@testable import DaemonSupport

/// A datagram socket as systemd has one.
private final class NotifySocket: @unchecked Sendable {
  private let descriptor: Int32

  /// "@name" binds an abstract name.
  init(_ name: String) throws {
    descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    var bytes = Array(name.utf8)
    let isAbstract = bytes[0] == UInt8(ascii: "@")
    if isAbstract { bytes[0] = 0 }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let length = socklen_t(2 + bytes.count + (isAbstract ? 0 : 1))
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
    }
    try #require(bound == 0, "bind: \(errno)")
    // A test that waits for ever says nothing.
    var limit = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
  }

  deinit { close(descriptor) }

  func receive() -> String? {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = recv(descriptor, &buffer, buffer.count, 0)
    return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
  }
}

private struct QuietDaemon: RunningDaemon {
  let stopped: Locked<UInt64?>
  var reloading: @Sendable () throws -> Void = {}
  func reload() async throws { try reloading() }
  func shutdown(graceMilliseconds: UInt64) async { stopped.withLock { $0 = graceMilliseconds } }
}

private struct StartFailure: Error {}

@Suite(.serialized) struct ServiceManagerTests {
  private func manager(_ variables: [String: String]) -> ServiceManager {
    ServiceManager { variables[$0] }
  }

  @Test func tellsAPathAndAnAbstractName() throws {
    let folder = try TemporaryDirectory()
    for name in [folder.path("notify"), "@sfmedir-test-\(getpid())"] {
      let socket = try NotifySocket(name)
      let manager = manager(["NOTIFY_SOCKET": name])
      #expect(manager.notify("READY=1"))
      #expect(socket.receive() == "READY=1")
      manager.status("two\nlines")
      #expect(socket.receive() == "STATUS=two lines")
    }
  }

  @Test func saysNothingWhereNobodyListens() throws {
    let folder = try TemporaryDirectory()
    #expect(!manager([:]).notify("READY=1"))
    #expect(!manager(["NOTIFY_SOCKET": "relative"]).notify("READY=1"))
    #expect(!manager(["NOTIFY_SOCKET": folder.path("absent")]).notify("READY=1"))
    let long = "/" + String(repeating: "x", count: 200)
    #expect(!manager(["NOTIFY_SOCKET": long]).notify("READY=1"))
  }

  @Test func theWatchdogIsForThisProcess() {
    #expect(manager([:]).watchdogMicroseconds == nil)
    #expect(manager(["WATCHDOG_USEC": "3000"]).watchdogMicroseconds == 3000)
    #expect(
      manager(["WATCHDOG_USEC": "3000", "WATCHDOG_PID": "\(getpid())"]).watchdogMicroseconds == 3000
    )
    #expect(
      manager(["WATCHDOG_USEC": "3000", "WATCHDOG_PID": "1"]).watchdogMicroseconds == nil)
    #expect(manager(["WATCHDOG_USEC": "soon"]).watchdogMicroseconds == nil)
  }

  @Test func aDaemonLivesFromReadyToStopping() async throws {
    let folder = try TemporaryDirectory()
    let name = folder.path("notify")
    let socket = try NotifySocket(name)
    let manager = manager(["NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000"])
    let stopped = Locked<UInt64?>(nil)
    let log = CapturedLog()
    // Reading blocks: on a thread of its own, which sends the signal once the daemon is ready.
    let states = Task.detached {
      var states: [String] = []
      while let state = socket.receive() {
        if states.last != state { states.append(state) }
        if state == "WATCHDOG=1" && states.count < 3 { kill(getpid(), SIGTERM) }
        if state == "STOPPING=1" { break }
      }
      return states
    }
    let status = await DaemonRunner.run(
      logger: log.logger, manager: manager, shutdownGraceSeconds: 3
    ) { context in
      context.logger.info("starting")
      return QuietDaemon(stopped: stopped)
    }
    #expect(status == ExitCode.ok)
    #expect(stopped.withLock { $0 } == 3000)
    #expect(await states.value == ["READY=1", "WATCHDOG=1", "STOPPING=1"])
    #expect(log.contains("notice ready"))
    #expect(log.contains("notice stopped"))
  }

  @Test func aHangUpReloadsAndAFailureIsSurvived() async throws {
    let folder = try TemporaryDirectory()
    let name = folder.path("notify")
    let socket = try NotifySocket(name)
    let log = CapturedLog()
    let reloads = Locked(0)
    let daemon = QuietDaemon(stopped: Locked(nil)) {
      let count = reloads.withLock { count in
        count += 1
        return count
      }
      if count == 2 { throw RPCError(.unauthenticated, "no such key") }
    }
    // READY, then SIGHUP; each answer asks for the next.
    let states = Task.detached {
      var states: [String] = []
      while let state = socket.receive() {
        states.append(state)
        switch states.count {
        case 1, 3: kill(getpid(), SIGHUP)
        case 6: kill(getpid(), SIGTERM)
        default: break
        }
        if state == "STOPPING=1" { break }
      }
      return states
    }
    let status = await DaemonRunner.run(
      logger: log.logger, manager: manager(["NOTIFY_SOCKET": name]), shutdownGraceSeconds: 1
    ) { _ in daemon }
    #expect(status == ExitCode.ok)
    let seen = await states.value
    try #require(seen.count == 7, "\(seen)")
    #expect(seen[0] == "READY=1")
    for reload in [seen[1], seen[3]] {
      let parts = reload.split(separator: "\n").map(String.init)
      #expect(parts.first == "RELOADING=1")
      let stamp = parts.last.flatMap { UInt64($0.dropFirst("MONOTONIC_USEC=".count)) } ?? 0
      #expect((1...SystemClock().monotonicNanoseconds() / 1000).contains(stamp), "\(parts)")
    }
    #expect(seen[2] == "READY=1\nSTATUS=reloaded")
    #expect(seen[4] == "READY=1")
    #expect(seen[5] == "STATUS=the last reload failed: UNAUTHENTICATED: no such key")
    #expect(seen[6] == "STOPPING=1")
    #expect(log.lines.filter { $0 == "notice reloaded" }.count == 1)
    #expect(log.contains("error the reload failed: what was in use stays"))
  }

  @Test func aHangUpDuringTheStartIsAnsweredAfterIt() async throws {
    let log = CapturedLog()
    let daemon = QuietDaemon(stopped: Locked(nil)) { kill(getpid(), SIGTERM) }
    let status = await DaemonRunner.run(
      logger: log.logger, manager: manager([:]), shutdownGraceSeconds: 1
    ) { _ in
      kill(getpid(), SIGHUP)
      return daemon
    }
    #expect(status == ExitCode.ok)
    let order = log.lines.filter { $0 == "notice ready" || $0.hasPrefix("notice reload") }
    #expect(order == ["notice ready", "notice reloading", "notice reloaded"])
  }

  @Test func aFailedStartHasItsStatus() async {
    let errors: [(any Error, Int32)] = [
      (ConfigurationError.missing(path: "c", key: "k"), 78),
      (RPCError(.unauthenticated, "who?"), 77), (RPCError(.permissionDenied, "no"), 77),
      (RPCError(.unavailable, "gone"), 69), (RPCError(.deadlineExceeded, "late"), 69),
      (RPCError(.dataLoss, "rot"), 74), (RPCError(.internalError, "bug"), 70),
      (StartFailure(), 70),
    ]
    for (error, expected) in errors {
      #expect(ExitCode.of(error) == expected, "\(error)")
    }
    let log = CapturedLog()
    let status = await DaemonRunner.run(
      logger: log.logger, manager: manager([:]), shutdownGraceSeconds: 1
    ) { _ in throw RPCError(.unavailable, "no key control entity") }
    #expect(status == ExitCode.unavailable)
    #expect(log.contains("no key control entity"))
    #expect(!log.contains("notice ready"))
  }

  @Test func aSignalCutsAStartShort() async {
    let log = CapturedLog()
    let status = await DaemonRunner.run(
      logger: log.logger, manager: manager([:]), shutdownGraceSeconds: 1
    ) { _ in
      kill(getpid(), SIGTERM)
      try await Task.sleep(for: .seconds(3600))
      throw StartFailure()
    }
    #expect(status == ExitCode.ok)
    #expect(!log.contains("notice ready"))
  }
}
