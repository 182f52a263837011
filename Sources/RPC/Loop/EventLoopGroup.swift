import Base
import CWire
import Glibc

/// Several loops, used in turn.
public final class EventLoopGroup: Sendable {
  public let loops: [EventLoop]
  private let next = Locked(0)

  /// How long a busy loop looks again before its thread sleeps, in microseconds.
  ///
  /// It costs processor time only while calls follow one another that closely (``WaitPolicy``).
  public static let defaultBusyPollMicroseconds: UInt64 = 50

  /// - Parameters:
  ///   - count: threads; by default one for each processor.
  ///   - busyPollMicroseconds: 0 lets a thread sleep as soon as it has nothing to do.
  public init(
    count: Int = max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))),
    busyPollMicroseconds: UInt64 = EventLoopGroup.defaultBusyPollMicroseconds
  ) {
    sfm_keep_freed_memory()
    loops = (0..<count).map {
      EventLoop(name: "loop-\($0)", busyPollMicroseconds: busyPollMicroseconds)
    }
  }

  /// Loops of somebody else's, for simulations.
  init(loops: [EventLoop]) { self.loops = loops }

  deinit { for loop in loops { loop.stop() } }

  public func nextLoop() -> EventLoop {
    next.withLock { index in
      index = (index + 1) % loops.count
      return loops[index]
    }
  }
}
