"""The page's own examples, and what the client refuses; no server is asked."""

import re

from harness import Failure, expect, scenario
from sfmedir_frames import (
    BULK, END, GO_AWAY, HELLO, MESSAGE, PING, TRAILER, WINDOW, FrameReader, Limits,
    ProtocolViolation, encode_frame)
from sfmedir_session import Session

HAS_IMAGES = "sfmedir.v1.MasterCloud/HasImages"
PUT = "sfmedir.v1.SlaveCloud/PutShadow"
IMAGE = bytes(range(16))
NAME = bytes(range(0x10, 0x20))


def hexadecimal_blocks(text):
    """The indented blocks of a page that are bytes in hexadecimal."""
    blocks, lines = [], []
    for line in text.splitlines() + [""]:
        if re.fullmatch(r"    [0-9a-f]{2}( +[0-9a-f]{2})*", line):
            lines.append(line)
        elif lines:
            blocks.append(bytes.fromhex("".join(lines)))
            lines = []
    return blocks


def sent(session):
    session.pump()
    data = bytes(session.out)
    session.out.clear()
    return data


@scenario("worked examples")
def worked_examples(world):
    with open(world.page, encoding="utf-8") as page:
        blocks = hexadecimal_blocks(page.read())
    expect(len(blocks) == 9, f"the page has {len(blocks)} blocks of bytes")
    bulk, hello, header, message, answer, refusal, put, put_answer, others = blocks
    same = lambda made, block, what: expect(
        made == block, f"{what}: {made.hex(' ')} is not the page's {block.hex(' ')}")
    same(encode_frame(BULK, 9, b"\xaa\xbb\xcc", END), bulk, "three bytes of bulk")

    # A whole conversation: this side's bytes are the page's, the other's are the page's answer.
    session = Session(world.schemas)
    session.start()
    same(sent(session), hello, "hello")
    session.receive(hello)
    call = session.open(HAS_IMAGES, 5)
    same(sent(session), header, "header")
    call.send(world.message("HasImagesRequest", image_ids=[IMAGE]), end=True)
    credit = session.send_credit
    same(sent(session), message, "message")
    expect(credit - session.send_credit == 18 + 64, "the charge")
    session.receive(answer)
    expect(list(call.take().stored) == [True] and call.over and not call.error, "the answer")

    call = session.open(PUT, 30, stream=3)
    call.send(world.message("PutShadowHeader", name=NAME, body_bytes=5))
    call.send_bulk(b"hello")
    call.finish()
    same(sent(session), put, "put")
    session.receive(put_answer)
    expect(not call.take().existed and call.over and not call.error, "the answer to put")

    # The refusal comes on stream 1; a session of its own has that number still.
    session = Session(world.schemas)
    session.receive(hello)
    call = session.open(HAS_IMAGES, 5)
    session.receive(refusal)
    expect(call.error.status == "PERMISSION_DENIED", f"the refusal was {call.error}")
    expect(call.error.message == f"role scs may not call {HAS_IMAGES}", f"it was {call.error}")

    session = Session(world.schemas)
    session.receive(hello)
    call = session.open(HAS_IMAGES, 5)
    session.out.clear()
    session.write(WINDOW, 0, (4 << 20).to_bytes(4, "big"))
    call.abandon()
    session.write(PING, 0, bytes(8))
    away = world.message("GoAway", last_stream=1, status=14, message="shutting down")
    session.write(GO_AWAY, 0, away.SerializeToString())
    same(sent(session), others, "other frames")


@scenario("the client refuses violations")
def refuses(world):
    """Everything a client has to refuse; each in a session with one open call."""
    window = Limits().stream_window_bytes
    piece = lambda size: encode_frame(BULK, 1, bytes(size))
    hello = world.message("Hello", protocol_version=1, **Limits()._asdict()).SerializeToString()
    first = encode_frame(HELLO, 0, hello)
    cases = {
        "no hello": encode_frame(PING, 0, bytes(8)),
        "hello on a stream": encode_frame(HELLO, 1, hello),
        "another version": encode_frame(HELLO, 0, b"\x08\x02" + hello[2:]),
        "limits": encode_frame(HELLO, 0, hello[:2]),
        "second hello": first + first,
        "type": first + encode_frame(10, 0),
        "flag": first + encode_frame(PING, 0, bytes(8), flags=4),
        "end": first + encode_frame(BULK, 1, b"x", END),
        "reserved": first + encode_frame(PING, 0, bytes(8), reserved=256),
        "too long": first + encode_frame(BULK, 1, length=Limits().maximum_frame_bytes + 1),
        "header": first + encode_frame(1, 2),
        "cancel": first + encode_frame(5, 1),
        "ping": first + encode_frame(PING, 0, bytes(9)),
        "window": first + encode_frame(WINDOW, 1, bytes(5)),
        "overflow": first + encode_frame(WINDOW, 0, b"\xff\xff\xff\xff"),
        "stream 0": first + encode_frame(MESSAGE, 0),
        "window of an ended call": first + encode_frame(WINDOW, 1, bytes(3)),
        "no such call": first + encode_frame(MESSAGE, 2),
        "trailer": first + encode_frame(TRAILER, 1, b"\x0a\x7f"),
        "overrun": first + piece(window // 2 - 64) + piece(window // 2 - 64) + piece(0),
    }
    for name, data in cases.items():
        session = Session(world.schemas)
        try:
            if data.startswith(first):
                session.receive(first)
                session.open(HAS_IMAGES, 5)
                data = data[len(first):]
            session.receive(data)
        except ProtocolViolation:
            continue
        raise Failure(f"{name} was accepted")


@scenario("a frame is refused by its head")
def bounds(world):
    reader = FrameReader(1000)
    # The largest that it takes, a byte at a time; then a head that announces one byte more.
    frame = encode_frame(BULK, 1, bytes(1000))
    frames = [found for byte in frame for found in reader.push(bytes([byte]))]
    expect(len(frames) == 1 and len(frames[0].payload) == 1000, "a frame of 1000 bytes")
    try:
        list(reader.push(encode_frame(BULK, 1, length=1001)))
    except ProtocolViolation:
        return
    raise Failure("a frame of 1001 bytes was waited for")
