"""The client's side of SFMedIR's protocol without a socket: bytes in, bytes out.

Written from docs/formats/wire.md.
"""

import collections
import struct
import time

from google.protobuf.message import DecodeError

from sfmedir_frames import (
    BULK, CANCEL, END, FRAME_OVERHEAD, GO_AWAY, HEADER, HELLO, HIGHEST_LIMIT, LARGEST_ACCOUNT,
    LARGEST_PIECE, LARGEST_STREAM, LOWEST_LIMIT, MESSAGE, OUTPUT_BYTES, PING, PONG, SMALLEST_PIECE,
    VERSION, WINDOW, FrameReader, Limits, Method, ProtocolViolation, RPCError, encode_frame,
    status_name)

class Incoming:
    """Credit that this side gave: what the peer may still send, and what was taken since."""

    def __init__(self, window):
        self.left, self.owed, self.lump = window, 0, max(1, window // 4)

    def charge(self, count):
        if count > self.left:
            raise ProtocolViolation("more was sent than there was credit for")
        self.left -= count

    def take(self, count):
        """Credit to give back now, 0 while it is less than a quarter of the window."""
        self.owed += count
        if self.owed < self.lump:
            return 0
        back, self.owed = self.owed, 0
        self.left += back
        return back


class Call:
    """One call: parts that wait to leave, parts that arrived, its end once it is `over`."""

    def __init__(self, session, stream, method, deadline):
        self.session, self.stream, self.method, self.deadline = session, stream, method, deadline
        self.over, self.error = False, None
        self.send_credit = session.peer.stream_window_bytes
        self.incoming = Incoming(session.limits.stream_window_bytes)
        self.parts = collections.deque()
        self.queue = collections.deque()
        self.ended = False

    # Sending: parts wait in a queue, as references, until there is credit.

    def send(self, message, end=False):
        payload = message.SerializeToString()
        if len(payload) > self.session.peer.maximum_frame_bytes:
            raise RPCError("RESOURCE_EXHAUSTED", f"a message of {len(payload)} bytes is too large")
        self._enqueue(MESSAGE, payload, end)

    def send_bulk(self, data, end=False):
        if data or end:
            self._enqueue(BULK, data, end)

    def finish(self):
        """The end alone."""
        self._enqueue(BULK, b"", True)

    def _enqueue(self, kind, data, end):
        if self.ended:
            raise ValueError("the request has ended")
        self.ended = end
        if not self.over:
            self.queue.append([kind, memoryview(data), end])

    def _next_frame(self):
        """The next frame of this call that both accounts have credit for, or None."""
        if not self.queue:
            return None
        kind, data, end = self.queue[0]
        credit = min(self.send_credit, self.session.send_credit) - FRAME_OVERHEAD
        if kind == BULK and end and not data:
            size, charge = 0, 0
        elif kind == MESSAGE:
            size, charge = len(data), len(data) + FRAME_OVERHEAD
            if size > credit:
                return None
        else:
            size = min(len(data), LARGEST_PIECE, self.session.peer.maximum_frame_bytes, credit)
            if size < min(len(data), SMALLEST_PIECE):
                return None
            charge = size + FRAME_OVERHEAD
        self.send_credit -= charge
        self.session.send_credit -= charge
        last = size == len(data)
        if last:
            self.queue.popleft()
        else:
            self.queue[0][1] = data[size:]
        return encode_frame(kind, self.stream, bytes(data[:size]), END if end and last else 0)

    # Receiving

    def arrived(self, kind, payload):
        if kind == MESSAGE:
            try:
                part = self.method.reply.FromString(payload)
            except DecodeError:
                self.abandon(RPCError("INTERNAL", "the answer is not the method's message"))
                return self.session.give_back(None, len(payload) + FRAME_OVERHEAD)
        else:
            part = payload
        self.parts.append((part, len(payload) + FRAME_OVERHEAD))

    def take(self):
        """The next part that has arrived; its credit goes back. IndexError where there is none."""
        part, charge = self.parts.popleft()
        self.session.give_back(None if self.over else self, charge)
        return part

    def end(self, error=None):
        """Over, by a trailer or otherwise. After a failure nobody reads what is left."""
        self.over, self.error = True, self.error or error
        self.queue.clear()
        self.session.calls.pop(self.stream, None)
        if self.error:
            self.discard()

    def discard(self):
        while self.parts:
            self.take()

    def abandon(self, error=None):
        """Cancels on the wire and ends here."""
        if not self.over:
            self.session.write(CANCEL, self.stream)
            self.end(error or RPCError("CANCELLED", "the caller cancelled"))


class Session:
    """The client's side of one connection, as bytes in and bytes out."""

    def __init__(self, schemas, limits=Limits()):
        self.schemas, self.limits = schemas, limits
        self.out = bytearray()
        self.peer = None
        self.go_away = None
        self.closed = None
        self.calls = {}
        self.highest = 0
        self.send_credit = 0
        self.incoming = Incoming(limits.connection_window_bytes)
        self.pings, self.pongs, self.last_pong = 0, 0, b""
        self._frames = FrameReader(limits.maximum_frame_bytes)
        self._turn = 0

    def write(self, kind, stream, payload=b"", flags=0):
        self.out += encode_frame(kind, stream, payload, flags)

    def start(self, version=VERSION):
        hello = self.schemas.message("Hello")(protocol_version=version, **self.limits._asdict())
        self.write(HELLO, 0, hello.SerializeToString())

    def open(self, name, timeout, patience=None, stream=None, metadata=()):
        """Opens a call.

        `timeout`: seconds until the deadline, as the server is told; `patience`: as this side keeps
        it, the same unless given. A method that the schemas do not have gets empty messages.
        """
        if self.closed or self.go_away:
            raise RPCError("UNAVAILABLE", "no more calls on this connection")
        if len(self.calls) >= self.peer.maximum_streams:
            raise RPCError("RESOURCE_EXHAUSTED", "as many calls are open as the server takes")
        stream = self.highest + 1 if stream is None else stream
        if not self.highest < stream <= LARGEST_STREAM:
            raise ValueError(f"stream {stream} after {self.highest}")
        entry = self.schemas.message("MetadataEntry")
        header = self.schemas.message("RequestHeader")(
            method=name, timeout_microseconds=round(timeout * 1e6),
            metadata=[entry(key=key, value=value) for key, value in metadata])
        method = self.schemas.methods.get(name) or Method(
            name, self.schemas.message("Empty"), self.schemas.message("Empty"))
        patience = timeout if patience is None else patience
        call = Call(self, stream, method, time.monotonic() + patience)
        self.highest = stream
        self.calls[stream] = call
        self.write(HEADER, stream, header.SerializeToString())
        return call

    def pump(self):
        """Cuts frames from waiting calls, one from each in turn, while there is room and credit."""
        idle = 0
        while len(self.out) < OUTPUT_BYTES and idle < len(self.calls):
            streams = sorted(self.calls)
            stream = next((number for number in streams if number > self._turn), streams[0])
            self._turn = stream
            frame = self.calls[stream]._next_frame()
            idle = 0 if frame else idle + 1
            self.out += frame or b""

    def give_back(self, call, charge):
        """Parts were taken: returns their credit, the connection's and that of `call` if any."""
        accounts = [(self.incoming, 0)] + ([(call.incoming, call.stream)] if call else [])
        for account, stream in accounts:
            back = account.take(charge)
            if back:
                self.write(WINDOW, stream, struct.pack(">I", back))

    def receive(self, data):
        for kind, flags, stream, payload in self._frames.push(data):
            if self.peer is None:
                self._open(kind, stream, payload)
                continue
            # Only a trailer ends what a server sends.
            if flags & END:
                raise ProtocolViolation("an end from a server")
            if kind in (HELLO, HEADER, CANCEL):
                raise ProtocolViolation(f"frame type {kind} from a server")
            if kind in (PING, PONG, GO_AWAY):
                self._control(kind, payload)
            else:
                self._part(kind, stream, payload)

    def _decode(self, name, payload):
        try:
            return self.schemas.message(name).FromString(payload)
        except DecodeError:
            raise ProtocolViolation(f"a frame that is not a {name}") from None

    def _open(self, kind, stream, payload):
        if stream != 0 or kind not in (HELLO, GO_AWAY):
            raise ProtocolViolation("the first frame is neither hello nor go-away")
        if kind == GO_AWAY:
            return self._control(kind, payload)
        hello = self._decode("Hello", payload)
        if hello.protocol_version != VERSION:
            raise ProtocolViolation(f"version {hello.protocol_version}, not {VERSION}")
        sizes = (
            hello.maximum_frame_bytes, hello.stream_window_bytes, hello.connection_window_bytes)
        if not all(LOWEST_LIMIT <= size <= HIGHEST_LIMIT for size in sizes):
            raise ProtocolViolation("limits out of range")
        self.peer, self.send_credit = hello, hello.connection_window_bytes

    def _control(self, kind, payload):
        if kind == GO_AWAY:
            self.go_away = self._decode("GoAway", payload)
            for stream in [number for number in self.calls if number > self.go_away.last_stream]:
                why = RPCError("UNAVAILABLE", f"not started: {self.go_away.message}")
                self.calls[stream].end(why)
        elif kind == PONG:
            self.pongs, self.last_pong = self.pongs + 1, payload
        elif len(payload) != 8:
            raise ProtocolViolation(f"a ping of {len(payload)} bytes")
        else:
            self.pings += 1
            self.write(PONG, 0, payload)

    def _part(self, kind, stream, payload):
        """A frame of a call. One of a call that is over was under way; its credit is counted."""
        if stream > self.highest or (stream == 0 and kind != WINDOW):
            raise ProtocolViolation(f"a frame for stream {stream}, which was never opened")
        call = self.calls.get(stream)
        if kind in (MESSAGE, BULK):
            charge = len(payload) + FRAME_OVERHEAD
            self.incoming.charge(charge)
            if call:
                call.incoming.charge(charge)
                call.arrived(kind, payload)
            else:
                self.give_back(None, charge)
        elif kind == WINDOW:
            self._credit(call, stream, payload)
        elif call:
            trailer = self._decode("Trailer", payload)
            details = [(entry.key, entry.value) for entry in trailer.details]
            call.end(
                RPCError(status_name(trailer.status), trailer.message, trailer.reason, details)
                if trailer.status else None)

    def _credit(self, call, stream, payload):
        if len(payload) != 4:
            raise ProtocolViolation(f"a window frame of {len(payload)} bytes")
        if stream != 0 and not call:
            return
        account = call or self
        account.send_credit += int.from_bytes(payload, "big")
        if account.send_credit > LARGEST_ACCOUNT:
            raise ProtocolViolation("an account overflows")

    def lost(self, why):
        """The connection is gone: open calls end, nobody knows what they did."""
        if self.closed:
            return
        if self.go_away:
            why = f"{status_name(self.go_away.status)}: {self.go_away.message}"
        self.closed = RPCError("UNAVAILABLE", why)
        for call in list(self.calls.values()):
            call.end(self.closed)
