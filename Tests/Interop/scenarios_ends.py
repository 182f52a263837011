"""Who is let in, and how connections end."""

import contextlib

from harness import (
    BOTH, DRAIN, ECHO, HANGING, HANGING_UNREAD, JOIN, UNKNOWN, expect, expect_violation, failure,
    scenario)
from sfmedir_frames import (
    BULK, CANCEL, END, FRAME_OVERHEAD, GO_AWAY, HEADER, HELLO, MESSAGE, PING, STATUS_NAMES, TRAILER,
    WINDOW, Limits, RPCError, encode_frame)

OVERFLOW = b"\xff\xff\xff\xff"


@scenario("stranger")
def stranger(world):
    empty = world.message("Empty")
    with world.connect(world.draining_address, certificate=None) as connection:
        connection.unary(JOIN, world.message("JoinRequest", token=b"t"))
        # It does not learn which methods there are.
        for method in (ECHO, UNKNOWN):
            with failure("UNAUTHENTICATED"):
                connection.unary(method, empty)
    with failure("UNAVAILABLE"):
        world.connect(certificate=None)


@scenario("certificate of another cluster")
def foreign(world):
    with world.connect(certificate="foreign", hello=False) as connection:
        session = connection.session
        with contextlib.suppress(RPCError):
            connection.wait(lambda: session.closed)
        expect(session.peer is None, "a hello came")
        expect(session.go_away is not None, f"no go-away came: {session.closed}")
        status = STATUS_NAMES[session.go_away.status]
        expect(status == "UNAUTHENTICATED", f"the go-away said {status}")


@scenario("server of another role")
def other_role(world):
    with failure("UNAUTHENTICATED"):
        world.connect(role="mcs")


# Each sends something on a new connection. The server calls it a violation and is well afterwards.

def violation(name, hello=True):
    def add(cause):
        @scenario("violation: " + name)
        def run(world):
            with world.connect(hello=hello) as connection:
                cause(world, connection.session, connection)
                message = expect_violation(connection)
                if name == "wrong hello version":
                    expect("1" in message and "2" in message, f"both versions are named: {message}")
            with world.connect() as connection:
                world.check(connection)

        return cause

    return add


def sends(name, *frames, hello=True):
    """A violation that is bytes and nothing else."""
    @violation(name, hello)
    def cause(world, session, connection):
        for frame in frames:
            session.out += frame


sends("unknown frame type", encode_frame(10, 0))
sends("unknown flag", encode_frame(PING, 0, bytes(8), flags=2))
sends("reserved bytes", encode_frame(PING, 0, bytes(8), reserved=1))
sends("payload above the limit", encode_frame(PING, 0, length=(1 << 20) + 1))
sends("first frame is no hello", encode_frame(PING, 0, bytes(8)), hello=False)
sends("control payload is no message", encode_frame(HEADER, 1, b"\x0a\x7f"))
sends("text is not UTF-8", encode_frame(HEADER, 1, b"\x0a\x01\xff\x10\x01"))
sends("ping of 7 bytes", encode_frame(PING, 0, bytes(7)))
sends("window of 3 bytes", encode_frame(WINDOW, 0, bytes(3)))
sends("trailer from a client", encode_frame(TRAILER, 0))
sends("connection account overflows", encode_frame(WINDOW, 0, OVERFLOW))
sends("part for a call never opened", encode_frame(BULK, 1, b"x"))
sends("cancel of a call never opened", encode_frame(CANCEL, 1))
sends("part on stream 0", encode_frame(MESSAGE, 0))
sends("cancel on stream 0", encode_frame(CANCEL, 0))


def hello(world, **changes):
    fields = {**Limits()._asdict(), "protocol_version": 1, **changes}
    return world.message("Hello", **fields).SerializeToString()


@violation("wrong hello version", hello=False)
def wrong_version(world, session, connection):
    session.write(HELLO, 0, hello(world, protocol_version=2))


@violation("frame limit out of range", hello=False)
def low_limit(world, session, connection):
    session.write(HELLO, 0, hello(world, maximum_frame_bytes=(16 << 10) - 1))


@violation("window out of range", hello=False)
def high_window(world, session, connection):
    session.write(HELLO, 0, hello(world, stream_window_bytes=(1 << 30) + 1))


@violation("hello on a stream", hello=False)
def hello_on_a_stream(world, session, connection):
    session.write(HELLO, 1, hello(world))


@violation("second hello")
def second_hello(world, session, connection):
    session.write(HELLO, 0, hello(world))


def header(world, method=HANGING_UNREAD):
    return world.message(
        "RequestHeader", method=method, timeout_microseconds=60_000_000).SerializeToString()


@violation("stream 0 as a call")
def stream_zero(world, session, connection):
    session.write(HEADER, 0, header(world))


@violation("stream id reuse")
def reuse(world, session, connection):
    call = connection.open(HANGING_UNREAD)
    session.write(HEADER, call.stream, header(world))


@violation("stream id reuse after the call")
def reuse_after(world, session, connection):
    world.check(connection)
    session.write(HEADER, session.highest, header(world))


@violation("stream number going back")
def going_back(world, session, connection):
    connection.open(HANGING_UNREAD, stream=8)
    session.write(HEADER, 7, header(world))


@violation("data after the end")
def data_after_end(world, session, connection):
    call = connection.get(HANGING, world.message("Empty"))
    connection.ping()
    session.write(BULK, call.stream, b"x")


@violation("end after the end")
def end_after_end(world, session, connection):
    session.write(HEADER, 1, header(world), END)
    session.highest = 1
    session.write(BULK, 1, b"", END)


@violation("window of a call overrun")
def stream_overrun(world, session, connection):
    call = connection.open(HANGING_UNREAD)
    fill(session, connection, call)
    # An empty message costs 64 bytes; there are fewer left.
    session.write(MESSAGE, call.stream)


@violation("window of a connection overrun")
def connection_overrun(world, session, connection):
    while session.send_credit >= FRAME_OVERHEAD:
        fill(session, connection, connection.open(HANGING_UNREAD))
    call = connection.open(HANGING_UNREAD)
    session.write(MESSAGE, call.stream)


def fill(session, connection, call):
    """Uses the call's credit up to less than an empty frame, or the connection's."""
    while (credit := min(call.send_credit, session.send_credit)) >= FRAME_OVERHEAD:
        size = min(credit - FRAME_OVERHEAD, 64 << 10)
        call.send_credit -= size + FRAME_OVERHEAD
        session.send_credit -= size + FRAME_OVERHEAD
        session.write(BULK, call.stream, bytes(size))
        connection.wait(lambda: len(session.out) < 1 << 20)
    # It was all within the credit.
    connection.ping()


@violation("account of a call overflows")
def account_overflow(world, session, connection):
    call = connection.open(HANGING_UNREAD)
    session.write(WINDOW, call.stream, OVERFLOW)


@violation("bad window for a call that is over")
def bad_window(world, session, connection):
    world.check(connection)
    session.write(WINDOW, session.highest, bytes(3))


@scenario("go-away of the client")
def client_leaves(world):
    with world.connect() as connection:
        session = connection.session
        call = connection.open(BOTH)
        away = world.message("GoAway", status=14, message="leaving")
        session.write(GO_AWAY, 0, away.SerializeToString())
        with failure("UNAVAILABLE", reason="Draining"):
            connection.unary(ECHO, world.message("ListShadowsRequest"))
        # What was open goes on to its end; then the server closes.
        call.finish()
        connection.finish(call)
        with contextlib.suppress(RPCError):
            connection.wait(lambda: session.closed)


# The last scenario: after it one server is gone.

@scenario("draining")
def draining(world):
    request = world.message("ListShadowsRequest")
    with world.connect(world.draining_address) as connection:
        session = connection.session
        call = connection.open(BOTH)
        call.send(world.message("QueryImagesHeader", file_bytes=5))
        connection.receive_message(call)
        connection.unary(DRAIN, world.message("Empty"))
        connection.wait(lambda: session.go_away)
        away = session.go_away
        expect(
            (STATUS_NAMES[away.status], away.message) == ("UNAVAILABLE", "shutting down"),
            f"the go-away was {away}")
        expect(away.last_stream == session.highest, f"last stream {away.last_stream}")
        with failure("UNAVAILABLE"):
            connection.unary(ECHO, request)
        # A client that did not see the go-away in time.
        session.go_away = None
        with failure("UNAVAILABLE", reason="Draining"):
            connection.unary(ECHO, request)
        # What was open goes on to its end; then the server closes.
        call.send_bulk(b"hello", end=True)
        expect(connection.receive_bulk(call, 5) == b"hello", "other bytes came back")
        connection.finish(call)
        with contextlib.suppress(RPCError):
            connection.wait(lambda: session.closed)
        expect(session.closed, "the connection stays open")
