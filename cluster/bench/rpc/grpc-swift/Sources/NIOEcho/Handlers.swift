import BenchSupport
import NIOCore

/// A frame is its payload's size (4 bytes), its call's number (4 bytes) and the payload.
struct Frame {
  let call: UInt32
  let payload: ByteBuffer

  static let headerBytes = 8
  /// Payloads up to a TLS record's size are copied behind their header, so that they are one record.
  private static let copyBytes = 16384

  func write(_ context: ChannelHandlerContext) {
    let small = payload.readableBytes <= Self.copyBytes
    var buffer = context.channel.allocator.buffer(
      capacity: Self.headerBytes + (small ? payload.readableBytes : 0))
    buffer.writeInteger(UInt32(payload.readableBytes))
    buffer.writeInteger(call)
    if small { buffer.writeImmutableBuffer(payload) }
    context.write(NIOAny(buffer), promise: nil)
    if !small { context.write(NIOAny(payload), promise: nil) }
  }
}

/// Takes frames off what has arrived.
struct FrameReader {
  private var pending = ByteBuffer()

  mutating func append(_ buffer: ByteBuffer) {
    if pending.readableBytes == 0 {
      pending = buffer
    } else {
      // Callers that never let the buffer run empty would make it grow for ever.
      if pending.readerIndex > 1 << 20 { pending.discardReadBytes() }
      pending.writeImmutableBuffer(buffer)
    }
  }

  mutating func next() -> Frame? {
    guard
      let size = pending.getInteger(at: pending.readerIndex, as: UInt32.self),
      pending.readableBytes >= Frame.headerBytes + Int(size),
      let (_, call) = pending.readMultipleIntegers(as: (UInt32, UInt32).self),
      let payload = pending.readSlice(length: Int(size))
    else { return nil }
    return Frame(call: call, payload: payload)
  }
}

/// The server's side of a connection.
final class EchoHandler: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer
  private var reader = FrameReader()

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    reader.append(unwrapInboundIn(data))
    while let frame = reader.next() { frame.write(context) }
  }

  func channelReadComplete(context: ChannelHandlerContext) { context.flush() }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    context.close(promise: nil)
  }
}

struct CallerResult {
  /// Of the counted calls, in nanoseconds.
  var latencies: [UInt64] = []
  var errors = 0
}

/// The callers of one connection: each sends its next call when its last has returned.
final class LoadHandler: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer
  private let payload: ByteBuffer
  private let window: Window
  private let done: EventLoopPromise<CallerResult>
  private var reader = FrameReader()
  private var result = CallerResult()
  private var started: [UInt64]
  private var open: Int

  init(callers: Int, payloadBytes: Int, window: Window, done: EventLoopPromise<CallerResult>) {
    payload = ByteBuffer(repeating: 0x5a, count: payloadBytes)
    self.window = window
    self.done = done
    started = .init(repeating: 0, count: callers)
    open = callers
    result.latencies.reserveCapacity(1 << 18)
  }

  func channelActive(context: ChannelHandlerContext) {
    for caller in started.indices { call(caller, context) }
    context.flush()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    reader.append(unwrapInboundIn(data))
    while let frame = reader.next() {
      let now = monotonicNanoseconds()
      let caller = Int(frame.call)
      guard started.indices.contains(caller),
        frame.payload.readableBytes == payload.readableBytes
      else { fail("a reply to nothing") }
      if window.counts(now) { result.latencies.append(now - started[caller]) }
      if now < window.end {
        call(caller, context)
      } else {
        open -= 1
        if open == 0 { context.close(promise: nil) }
      }
    }
  }

  func channelReadComplete(context: ChannelHandlerContext) { context.flush() }

  func channelInactive(context: ChannelHandlerContext) {
    result.errors += open
    done.succeed(result)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { fail("\(error)") }

  private func call(_ caller: Int, _ context: ChannelHandlerContext) {
    started[caller] = monotonicNanoseconds()
    Frame(call: UInt32(caller), payload: payload).write(context)
  }
}

/// One call, then nothing: a connection that is held idle.
final class ProbeHandler: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer
  private let answered: EventLoopPromise<Void>
  private var reader = FrameReader()

  init(answered: EventLoopPromise<Void>) { self.answered = answered }

  func channelActive(context: ChannelHandlerContext) {
    Frame(call: 0, payload: ByteBuffer(bytes: [0])).write(context)
    context.flush()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    reader.append(unwrapInboundIn(data))
    if reader.next() != nil { answered.succeed() }
  }

  func channelInactive(context: ChannelHandlerContext) {
    answered.fail(ChannelError.eof)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { fail("\(error)") }
}
