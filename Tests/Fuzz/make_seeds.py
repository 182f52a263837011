#!/usr/bin/env python3
"""Writes the fuzzer's first inputs to Tests/Fuzz/Seeds from the worked example of docs/formats/wire.md.

The first byte of an input picks a part (FuzzProgram.swift); the steps of the connection parts stand in
FuzzConnections.swift. Inputs that a run found are put beside these by hand, under other names.
"""
import pathlib
import re

HERE = pathlib.Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "formats" / "wire.md"
FRAMES, HEAD, MESSAGE, SERVER, CLIENT = range(5)


def examples():
    """Whole frames of the page, in order."""
    text = PAGE.read_text()
    text = text[text.index("## Worked example"):text.index("## Texts")]
    data = b"".join(
        bytes.fromhex(line) for line in re.findall(r"^    ([0-9a-f ]+)$", text, re.MULTILINE))
    frames = []
    while data:
        size = 12 + int.from_bytes(data[:4], "big")
        frames.append(data[:size])
        data = data[size:]
    return frames


def raw(data):
    """The step that delivers bytes as they are."""
    return bytes([10]) + len(data).to_bytes(2, "big") + data


def built(kind, stream, payload=b"", end=False):
    """The step that delivers a frame of up to 63 bytes."""
    return bytes([kind, stream, len(payload) | (0x80 if end else 0)]) + payload


def call(stream, method):
    """The step that opens a call on the server (an index into its methods)."""
    return bytes([15, stream, method])


def main():
    frames = examples()
    hello, header, message, reply, trailer, refusal = frames[:6]
    put = frames[6:10]
    credit, cancel, ping, away = frames[12:16]
    run = bytes([14])
    every = b"".join(frames)
    seeds = {
        "frames-page": bytes([FRAMES, 0, 0]) + every,
        "frames-page-cut": bytes([FRAMES, 5, 0, 3, 0, 20, 0, 33, 1, 0, 1, 90, 3]) + every,
        "frames-bulk-filled": bytes([FRAMES, 2, 0, 40, 8, 0, 3]) + bytes.fromhex(
            "00001000030000000000000900") + bytes(4095) + ping,
        "frames-too-long": bytes([FRAMES, 1, 0, 5, 0]) + bytes.fromhex("0000200103000000" "00000001"),
        "head-page": bytes([HEAD]) + header[12:],
        "head-timeout-only": bytes([HEAD, 0x10, 0xc0, 0x96, 0xb1, 0x02]),
        "head-zero-byte": bytes([HEAD, 0x0a, 3, 0x61, 0, 0x62, 0x10, 1]),
        "head-long-length": bytes([HEAD, 0x0a, 0x81, 0x80, 0x80, 0x80, 0x80, 0x00, 0x61]),
        "head-not-ascii": bytes([HEAD, 0x0a, 2, 0xc3, 0xa4, 0x10, 1]),
        "head-metadata": bytes([HEAD, 0x0a, 1, 0x61, 0x10, 5, 0x22, 6, 0x0a, 1, 0x6b, 0x12, 1, 0x76]),
        "server-page": bytes([SERVER, 1]) + raw(hello) + raw(header) + raw(message) + run
        + b"".join(raw(part) for part in put) + raw(credit) + raw(cancel) + raw(ping) + raw(away),
        "server-echo": bytes([SERVER, 0]) + call(1, 0) + built(2, 1, b"\x0a\x02hi", True) + run,
        "server-unary-in-pieces": bytes([SERVER, 0, 11, 0, 3]) + call(1, 1)
        + built(2, 1, b"\x0a\x03abc", True) + run,
        "server-put": bytes([SERVER, 0]) + call(1, 2) + built(2, 1, b"\x0a\x01x\x10\x14")
        + built(3, 1, bytes(20), True) + run,
        "server-put-filled": bytes([SERVER, 0]) + call(1, 2) + built(2, 1, b"\x0a\x01x\x10\x80\x40")
        + run + bytes([11, 0x10, 0, 3, 1, 0x40 | 16]) + built(3, 1, b"", True) + run,
        "server-put-short": bytes([SERVER, 0]) + call(1, 2) + built(2, 1, b"\x0a\x01x\x10\x15")
        + built(3, 1, bytes(20), True) + run,
        "server-get-slow-reader": bytes([SERVER, 0, 13]) + call(1, 3)
        + built(2, 1, b"\x0a\x01\x30", True) + run + bytes([12, 130, 13]) + run,
        "server-get-credit": bytes([SERVER, 0]) + call(1, 3) + built(2, 1, b"\x0a\x01\x30", True)
        + built(6, 1, b"\x00\x00\x80\x00") + built(6, 0, b"\x00\x10\x00\x00") + run,
        "server-echo-bulk": bytes([SERVER, 0]) + call(1, 4) + built(2, 1, b"\x08\x05")
        + built(3, 1, b"abcde") + built(3, 1, b"", True) + run,
        "server-early-answer": bytes([SERVER, 0]) + call(1, 4) + built(3, 1, b"\xee")
        + built(3, 1, bytes(30)) + run + built(3, 1, bytes(30)) + call(2, 4),
        "server-many-calls": bytes([SERVER, 0]) + b"".join(call(n, n % 6) for n in range(1, 12)) + run
        + built(5, 4) + bytes([16]) + call(20, 1) + run,
        "server-deadline": bytes([SERVER, 0]) + call(1, 4) + bytes([12, 255]) + run,
        "server-silent": bytes([SERVER, 0, 12, 41, 12, 41, 12, 41]),
        "server-mute": bytes([SERVER, 1, 12, 60]),
        "server-pings": bytes([SERVER, 0]) + built(7, 0, bytes(8)) * 40,
        "server-violation": bytes([SERVER, 0]) + call(1, 4) + built(4, 1) + call(2, 4),
        "client-page": bytes([CLIENT, 1]) + raw(hello) + run + raw(reply) + raw(trailer) + run,
        "client-refused": bytes([CLIENT, 0]) + run + raw(refusal) + run,
        "client-turned-away": bytes([CLIENT, 1]) + raw(away) + bytes([16]) + built(4, 1),
        "client-put": bytes([CLIENT, 0]) + built(2, 1) + built(4, 1) + bytes([15, 65]) + run
        + built(6, 2, b"\x00\x00\x80\x00") + built(2, 2) + built(4, 2) + run,
        "client-get": bytes([CLIENT, 0, 15, 2]) + run + built(2, 2, b"\x08\x14")
        + built(3, 2, bytes(20)) + built(4, 2) + run,
        "client-get-filled": bytes([CLIENT, 0, 15, 2]) + run + built(2, 2, b"\x08\x80\x40") + run
        + bytes([11, 0x10, 0, 3, 2, 0x40 | 16]) + built(4, 2) + run,
        "client-cancels": bytes([CLIENT, 0, 15, 3]) + run + built(2, 2, b"\x08\x05") + run
        + built(3, 2, b"late") + built(4, 2) + run,
        "client-drained": bytes([CLIENT, 0, 15, 1, 15, 2, 15, 0]) + run + raw(away) + built(2, 1)
        + built(4, 1) + run + bytes([16]),
        "client-nobody-answers": bytes([CLIENT, 1, 12, 50, 16, 12, 255]),
        "client-deadline": bytes([CLIENT, 0, 15, 1, 15, 2, 12, 200]) + run,
    }
    for index in range(71):
        # A length-delimited field, a number, a nested one and an unknown one: right for most messages.
        seeds[f"message-{index:02}"] = bytes([MESSAGE, index]) + bytes.fromhex(
            "0a03616263" "1005" "1a020801" "2204deadbeef" "2801" "fa010100")
    folder = HERE / "Seeds"
    folder.mkdir(exist_ok=True)
    for name, data in seeds.items():
        (folder / name).write_bytes(data)


main()
