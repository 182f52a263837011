import Base

/// What a connection looks after by the clock: silence, deadlines, readers that stop, its own age.
struct ConnectionWatch {
  var receivedSinceLook = false
  var pingIsOut = false
  fileprivate var keepaliveTimer: TimerID?
  fileprivate var ageTimer: TimerID?
  fileprivate var checkTimer: TimerID?
  fileprivate var checkNanoseconds = UInt64.max
  private var pingAllowance = Self.pingBurst
  private var pingNanoseconds: UInt64 = 0

  /// Pings that a peer may send at once, and how long it takes to earn one more.
  static let pingBurst: UInt64 = 32
  static let pingEarnNanoseconds: UInt64 = 500_000_000

  /// Who is sent data may ask in between whether the other side still lives.
  mutating func dataWasSent() { pingAllowance = min(Self.pingBurst, pingAllowance + 1) }

  /// Answering costs this side little, but not nothing.
  mutating func allowsPing(at now: UInt64) -> Bool {
    if pingNanoseconds == 0 { pingNanoseconds = now }
    let earned = (now - min(now, pingNanoseconds)) / Self.pingEarnNanoseconds
    pingAllowance = min(Self.pingBurst, pingAllowance + min(earned, Self.pingBurst))
    // What is left of the time counts towards the next one.
    pingNanoseconds += earned * Self.pingEarnNanoseconds
    guard pingAllowance > 0 else { return false }
    pingAllowance -= 1
    return true
  }
}

extension Connection {
  /// Both sides have said hello.
  func startWatching() {
    scheduleKeepalive()
    var (oldest, grace) = (limits.maximumAgeMilliseconds, limits.ageGraceMilliseconds)
    if peer == nil {
      oldest = min(oldest == 0 ? .max : oldest, limits.strangerAgeMilliseconds)
      grace = min(grace, limits.strangerAgeMilliseconds)
    }
    guard side == .server, oldest > 0 else { return }
    // Jitter, so that clients that came together do not all come back together.
    let age = Double(oldest) * loop.jitter(in: 0.9...1.1)
    watch.ageTimer = loop.schedule(afterMilliseconds: UInt64(age)) { [weak self] in
      self?.endOfAge(grace)
    }
  }

  func stopWatching() {
    loop.cancel(watch.keepaliveTimer)
    loop.cancel(watch.ageTimer)
    loop.cancel(watch.checkTimer)
  }

  private func endOfAge(_ grace: UInt64) {
    guard !isClosed else { return }
    drain("this connection has reached its age")
    watch.ageTimer = loop.schedule(afterMilliseconds: grace) { [weak self] in
      self?.close(
        RPCError(
          .unavailable, "the connection outlived its age", reason: CloseReason.drained))
    }
  }

  private func scheduleKeepalive() {
    let delay =
      watch.pingIsOut ? limits.keepaliveTimeoutMilliseconds : limits.keepaliveMilliseconds
    watch.keepaliveTimer = loop.schedule(afterMilliseconds: delay) { [weak self] in
      guard let self, !isClosed else { return }
      if let refusal = transport.peerRefusal() {
        closeSaying(refusal)
        return
      }
      if watch.receivedSinceLook {
        watch.pingIsOut = false
      } else if watch.pingIsOut {
        close(RPCError(.unavailable, "the peer is silent", reason: CloseReason.silent))
        return
      } else {
        watch.pingIsOut = true
        withUnsafeBytes(of: UInt64(0)) { send(.ping, stream: 0, $0) }
      }
      watch.receivedSinceLook = false
      scheduleKeepalive()
    }
  }

  // MARK: deadlines

  func setDeadline(of stream: Stream, _ nanoseconds: UInt64) {
    stream.deadlineNanoseconds = nanoseconds
    check(at: nanoseconds)
  }

  /// A part waits that its reader has not taken.
  func noteBlocked(_ stream: Stream) {
    guard side == .server else { return }
    let now = loop.nowNanoseconds()
    stream.blockedSinceNanoseconds = now
    check(at: now + limits.slowReaderMilliseconds * 1_000_000)
  }

  /// One timer for all calls: most end long before their deadlines, and then nothing was spent on them.
  private func check(at nanoseconds: UInt64) {
    guard nanoseconds < watch.checkNanoseconds else { return }
    loop.cancel(watch.checkTimer)
    watch.checkNanoseconds = nanoseconds
    watch.checkTimer = loop.schedule(atNanoseconds: nanoseconds) { [weak self] in
      self?.checkStreams()
    }
  }

  private func checkStreams() {
    watch.checkNanoseconds = .max
    watch.checkTimer = nil
    let now = loop.nowNanoseconds()
    let patience = limits.slowReaderMilliseconds * 1_000_000
    var next = UInt64.max
    for stream in streams.all where !stream.isFinished {
      let blockedUntil =
        stream.blockedSinceNanoseconds == .max ? .max : stream.blockedSinceNanoseconds + patience
      if stream.deadlineNanoseconds <= now {
        timedOut(stream)
      } else if blockedUntil <= now {
        // What a reader leaves lying holds memory here and credit of a connection that others share.
        endFromServer(
          stream, RPCError(.aborted, "the reader takes nothing", reason: "SlowReader"))
      } else {
        next = min(next, stream.deadlineNanoseconds, blockedUntil)
      }
    }
    if next < .max { check(at: next) }
  }

  private func timedOut(_ stream: Stream) {
    let error = RPCError(.deadlineExceeded, "the deadline passed")
    if side == .client { cancelStream(stream, error) } else { endFromServer(stream, error) }
  }
}
