"""Calls of all four shapes, their ends, and many of them on one connection."""

import hashlib

from harness import (
    BOTH, ECHO, FORBIDDEN, GET, HANGING, HANGING_UNREAD, PUT, UNKNOWN, expect, failure, sample,
    scenario)
from sfmedir_frames import BULK, CANCEL, FRAME_OVERHEAD, MESSAGE, PONG, WINDOW, Limits

FIVE_MEGABYTES = 5_000_000


@scenario("unary")
def unary(world):
    with world.connect() as connection:
        request = world.message("ListShadowsRequest", after=b"\x01\x02")
        trace = [("traceparent", b"00-" + b"0a" * 16 + b"-" + b"0b" * 8 + b"-01")]
        reply = connection.unary(ECHO, request, metadata=trace)
        expect(
            list(reply.names) == [b"\x01\x02", b"sfmedir://test/mcs/node-1"],
            f"the reply was {reply.names}")


@scenario("refused headers")
def refused_headers(world):
    request = world.message("ListShadowsRequest")
    empty = world.message("Empty")
    pairs = lambda count, size: [(f"key-{number}", bytes(size)) for number in range(count)]
    with world.connect() as connection:
        with failure("UNIMPLEMENTED"):
            connection.unary(UNKNOWN, empty)
        refusal = "role mcs may not call " + FORBIDDEN
        with failure("PERMISSION_DENIED", message=refusal):
            connection.unary(FORBIDDEN, world.message("DeleteShadowsRequest"))
        with failure("INVALID_ARGUMENT"):
            connection.unary(ECHO, request, timeout=0, patience=60)
        # An unknown method is found before a missing deadline.
        with failure("UNIMPLEMENTED"):
            connection.unary(UNKNOWN, empty, timeout=0, patience=60)
        with failure("INVALID_ARGUMENT"):
            connection.unary(ECHO, request, timeout=3600.001)
        connection.unary(ECHO, request, timeout=3600.000999)
        # A trace that is not valid counts as none.
        connection.unary(ECHO, request, metadata=[("traceparent", b"00-nonsense")])
        for metadata in (pairs(65, 1), pairs(3, 6000)):
            with failure("RESOURCE_EXHAUSTED"):
                connection.unary(ECHO, request, metadata=metadata)
        connection.unary(ECHO, request, metadata=pairs(64, 200))


@scenario("refused requests")
def refused_requests(world):
    request = world.message("ListShadowsRequest")
    body = sample(100, 1)
    name = hashlib.sha256(body).digest()[:16]
    with world.connect() as connection:
        put = lambda announced, sent: connection.put(
            PUT, world.message("PutShadowHeader", name=name, body_bytes=announced), sent)
        with failure("INVALID_ARGUMENT"):
            put(101, body)
        with failure("INVALID_ARGUMENT"):
            put(99, body)
        with failure("RESOURCE_EXHAUSTED"):
            put(1 << 40, body)
        with failure("INVALID_ARGUMENT", reason="DigestMismatch"):
            put(100, bytes(100))
        with failure("NOT_FOUND", reason="NoSuchShadow"):
            call = connection.get(GET, world.message("GetShadowRequest", name=b"nowhere"))
            connection.receive(call)
        # A unary request is one message: not two, not a message and bulk, not none.
        for parts in ([request, request], [request, b"bulk"], [b"bulk"], []):
            call = connection.open(ECHO)
            for part in parts:
                call.send_bulk(part) if isinstance(part, bytes) else call.send(part)
            call.finish()
            with failure("INVALID_ARGUMENT"):
                connection.receive(call)
        # Bytes that are no message of the method.
        call = connection.open(ECHO)
        connection.session.send_credit -= 2 + FRAME_OVERHEAD
        connection.session.write(MESSAGE, call.stream, b"\x0a\x7f", 1)
        with failure("INVALID_ARGUMENT"):
            connection.receive(call)
        # Its sender refuses what the peer would not take; nothing leaves.
        request.after = bytes(connection.session.peer.maximum_frame_bytes)
        with failure("RESOURCE_EXHAUSTED"):
            connection.unary(ECHO, request)
        world.check(connection)


@scenario("deadline exceeded")
def deadline_exceeded(world):
    empty = world.message("Empty")
    with world.connect() as connection:
        with failure("DEADLINE_EXCEEDED", message="the deadline has passed"):
            connection.unary(HANGING, empty, timeout=0.2)
        # Here this side waits for longer: the server keeps the deadline as well.
        with failure("DEADLINE_EXCEEDED"):
            connection.unary(HANGING, empty, timeout=0.2, patience=60)
        world.check(connection)


@scenario("cancel")
def cancel(world):
    with world.connect() as connection:
        call = connection.get(HANGING, world.message("Empty"), timeout=3000)
        connection.ping()
        expect(not call.over, "the call ended by itself")
        call.abandon()
        with failure("CANCELLED"):
            connection.receive(call)
        connection.ping()
        world.check(connection)
        # One that waits for credit, with far more to send than the server would take.
        call = connection.open(HANGING_UNREAD, 3000)
        call.send_bulk(bytes(64 << 20))
        connection.wait(lambda: call.send_credit < 4096 + FRAME_OVERHEAD)
        call.abandon()
        world.check(connection)


@scenario("client streaming")
def client_streaming(world):
    body = sample(FIVE_MEGABYTES, 2)
    with world.connect() as connection:
        expect(
            connection.session.peer.stream_window_bytes < len(body) // 2, "one window takes it all")
        name, reply = world.put(connection, body)
        expect(not reply.existed, "the shadow was there already")
        name, reply = world.put(connection, body)
        expect(reply.existed, "the shadow is not there")
        _, reply = world.put(connection, b"")
        call = connection.get(GET, world.message("GetShadowRequest", name=name))
        count = connection.receive_message(call).body_bytes
        expect(connection.receive_bulk(call, count) == body, "other bytes came back")
        connection.finish(call)


@scenario("server streaming to a slow reader")
def server_streaming(world):
    body = sample(FIVE_MEGABYTES, 3)
    limits = Limits(stream_window_bytes=256 << 10, maximum_frame_bytes=64 << 10)
    with world.connect(limits=limits) as connection:
        name, _ = world.put(connection, body)
        call = connection.get(GET, world.message("GetShadowRequest", name=name))
        # Nothing is taken, so the sender stops where the window has no room for a piece.
        connection.wait(lambda: call.incoming.left < (64 << 10) + FRAME_OVERHEAD)
        for _ in range(5):
            connection.ping()
            world.check(connection)
        held = sum(charge for _, charge in call.parts)
        expect(held <= limits.stream_window_bytes, f"{held} bytes came without credit")
        # Then a part at a time, with a round trip after each.
        count = connection.receive_message(call).body_bytes
        data = bytearray()
        while len(data) < count:
            data += connection.receive(call)
            connection.ping()
        expect(bytes(data) == body, "other bytes came back")
        connection.finish(call)


@scenario("bidirectional")
def bidirectional(world):
    with world.connect() as connection:
        call = connection.open(BOTH)
        for rank in range(1, 5):
            body = sample(rank * 1000, rank)
            call.send(world.message("QueryImagesHeader", file_bytes=len(body)))
            call.send_bulk(body)
            result = connection.receive_message(call)
            expect((result.rank, result.file_bytes) == (rank, len(body)), f"result {result}")
            expect(connection.receive_bulk(call, len(body)) == body, "other bytes came back")
        # More than all windows of both directions hold: neither side may wait for the other's end.
        body = sample(6 * FIVE_MEGABYTES, 9)
        call.send(world.message("QueryImagesHeader", file_bytes=len(body)))
        call.send_bulk(body, end=True)
        connection.receive_message(call)
        expect(connection.receive_bulk(call, len(body)) == body, "other bytes came back")
        connection.finish(call)


@scenario("32 calls interleaved")
def interleaved(world):
    shapes = [echo_call, put_call, get_call, both_call]
    with world.connect() as connection:
        name, _ = world.put(connection, sample(200_000, 4))
        calls = [shapes[number % 4](world, connection, number, name) for number in range(32)]
        for step in calls:
            next(step)
        expect(len(connection.session.calls) == 32, "not all calls are open")
        # Each takes one part in its turn, until it has all of them.
        while calls:
            calls = [step for step in calls if next(step, "over") != "over"]


def echo_call(world, connection, number, _):
    call = connection.get(ECHO, world.message("ListShadowsRequest", after=bytes([number])))
    yield
    reply = connection.receive_message(call)
    expect(reply.names[0] == bytes([number]), f"call {number} got {reply.names}")
    yield
    connection.finish(call)


def put_call(world, connection, number, _):
    body = sample(100_000 * number, number)
    name = hashlib.sha256(body).digest()[:16]
    call = connection.open(PUT)
    call.send(world.message("PutShadowHeader", name=name, body_bytes=len(body)))
    call.send_bulk(body, end=True)
    yield
    connection.receive_message(call)
    yield
    connection.finish(call)


def get_call(world, connection, number, name):
    call = connection.get(GET, world.message("GetShadowRequest", name=name))
    yield
    left = connection.receive_message(call).body_bytes
    data = b""
    while len(data) < left:
        yield
        data += connection.receive(call)
    expect(data == sample(200_000, 4), f"call {number} got other bytes")
    connection.finish(call)


def both_call(world, connection, number, _):
    body = sample(100_000 * number, number)
    call = connection.open(BOTH)
    call.send(world.message("QueryImagesHeader", file_bytes=len(body)))
    call.send_bulk(body)
    yield
    left = connection.receive_message(call).file_bytes
    data = b""
    while len(data) < left:
        yield
        data += connection.receive(call)
    call.finish()
    expect(data == body, f"call {number} got other bytes")
    connection.finish(call)


@scenario("too many calls")
def too_many_calls(world):
    with world.connect() as connection:
        peer, request = connection.session.peer, world.message("ListShadowsRequest")
        calls = [connection.open(HANGING_UNREAD, 3000) for _ in range(peer.maximum_streams)]
        with failure("RESOURCE_EXHAUSTED", message="as many calls are open as the server takes"):
            connection.open(ECHO)
        # The same question put to the server.
        peer.maximum_streams += 1
        with failure("RESOURCE_EXHAUSTED"):
            connection.unary(ECHO, request)
        calls.pop().abandon()
        connection.unary(ECHO, request)


@scenario("frames for a call that is over")
def late_frames(world):
    with world.connect() as connection:
        session, piece = connection.session, 64 << 10
        call = connection.open(UNKNOWN)
        with failure("UNIMPLEMENTED"):
            connection.receive(call)
        # No violation, and their credit comes back: this is twice the window of the connection.
        for _ in range(2 * session.peer.connection_window_bytes // piece):
            connection.wait(lambda: session.send_credit >= piece + FRAME_OVERHEAD)
            session.send_credit -= piece + FRAME_OVERHEAD
            session.write(BULK, call.stream, bytes(piece))
        session.write(WINDOW, call.stream, b"\1\2\3\4")
        session.write(CANCEL, call.stream, b"ignored")
        session.write(WINDOW, 0, bytes(4))
        world.check(connection)


@scenario("smallest limits")
def smallest_limits(world):
    body = sample(300_000, 6)
    with world.connect(limits=Limits(*[16 << 10] * 3, 1)) as connection:
        name, _ = world.put(connection, body)
        call = connection.get(GET, world.message("GetShadowRequest", name=name))
        count = connection.receive_message(call).body_bytes
        expect(connection.receive_bulk(call, count) == body, "other bytes came back")
        connection.finish(call)
        # One character of 600,000 bytes: an answer that repeats it would not fit into a frame.
        with failure("UNIMPLEMENTED"):
            connection.unary("e" + "\u0301" * 300_000, world.message("Empty"))
        for _ in range(1000):
            world.check(connection)


@scenario("highest stream number")
def highest_number(world):
    with world.connect() as connection:
        for stream in (1000, 2**31, 2**32 - 1):
            request = world.message("ListShadowsRequest")
            connection.unary(ECHO, request, stream=stream)


@scenario("ping")
def ping(world):
    with world.connect() as connection:
        for number in range(10):
            connection.ping(number.to_bytes(8, "big"))
        # The stream of a ping is not looked at.
        connection.ping(b"\xff" * 8, stream=77)
        connection.session.write(PONG, 0, b"nobody asked")
        world.check(connection)


@scenario("pings of the server")
def pings_of_the_server(world):
    """The second server asks soon. That it asks again shows that it has seen the first answer."""
    with world.connect(world.draining_address) as connection:
        connection.wait(lambda: connection.session.pings >= 2)
        world.check(connection)


@scenario("one byte in each TLS record")
def byte_by_byte(world):
    with world.connect(record_bytes=1) as connection:
        world.check(connection)
        world.put(connection, sample(300, 5))
        connection.ping()
