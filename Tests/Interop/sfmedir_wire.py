"""A client of SFMedIR's wire, version 1, written from docs/formats/wire.md and Protos/*.proto.

`Session` is the protocol without a socket; `Connection` puts it on TLS and waits. Nothing here runs
by itself: bytes move while somebody waits in `Connection.wait`, `receive` and their like, and then
those of all calls do. Standard library and the `protobuf` package only.
"""

import re
import select
import socket
import ssl
import time

from sfmedir_frames import GO_AWAY, PING, STATUS_NAMES, Limits, ProtocolViolation, RPCError
from sfmedir_session import Session

NAME = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
IDENTITY = re.compile(f"sfmedir://({NAME})/(kce|mo|mcs|scs|mu|operator)/({NAME})")


def identity(certificate):
    """(cluster, role, node) of what `getpeercert` returned."""
    uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    match = IDENTITY.fullmatch(uris[0]) if len(uris) == 1 and len(uris[0]) <= 255 else None
    if not match:
        raise RPCError("UNAUTHENTICATED", f"the server's certificate names no node: {uris}")
    return match.groups()


def tls_context(authority, certificate=None, key=None):
    """TLS 1.3, the cluster's authority and nothing else, this side's certificate if it has one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Host names are not looked at; `identity` is.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority)
    if certificate:
        context.load_cert_chain(certificate, key)
    return context


class Connection:
    """A session over TLS. Every wait has an end: `limit` seconds, or a call's deadline before that.

    `cluster`, `role`, `node`: who the server has to be. `hello`: False sends nothing by itself.
    """

    def __init__(self, address, tls, schemas, cluster, role, node=None, limits=Limits(),
                 limit=60.0, hello=True, record_bytes=16 << 10):
        self.session, self.limit = Session(schemas, limits), limit
        # A TLS record has at most so many; tests make it 1.
        self.record_bytes = record_bytes
        self._socket, self._writes = socket.create_connection(address, timeout=limit), True
        try:
            self._begin(tls, cluster, role, node, hello)
        except BaseException:
            self.close()
            raise

    def _begin(self, tls, cluster, role, node, hello):
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = tls.wrap_socket(self._socket)
        self.peer_identity = identity(self._socket.getpeercert())
        if self.peer_identity[:2] != (cluster, role) or (node and self.peer_identity[2] != node):
            message = f"{self.peer_identity} is not the server that was looked for"
            self._refuse("UNAUTHENTICATED", message)
            raise RPCError("UNAUTHENTICATED", message)
        self._socket.setblocking(False)
        if hello:
            self.session.start()
            self.wait(lambda: self.session.peer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.session.lost("closed by this side")
        self._socket.close()

    def _refuse(self, status, message):
        """Says why, after what is on its way already, and closes."""
        go_away = self.session.schemas.message("GoAway")(
            status=STATUS_NAMES.index(status), message=message)
        self.session.write(GO_AWAY, 0, go_away.SerializeToString())
        try:
            self._socket.settimeout(1)
            self._socket.sendall(bytes(self.session.out))
        except OSError:
            pass
        self.close()

    def wait(self, condition, seconds=None):
        """Moves bytes until the condition holds; raises where connection or time end first."""
        until = time.monotonic() + (self.limit if seconds is None else seconds)
        while not condition():
            if self.session.closed:
                raise self.session.closed
            if time.monotonic() >= until:
                raise TimeoutError("waited too long")
            self.step(until)

    def step(self, until):
        """Moves what can be moved, or waits until something can, to the next deadline at most."""
        session = self.session
        session.pump()
        until = min([until] + [call.deadline for call in session.calls.values()])
        moved = self._write()
        if not self._read() and not moved:
            writers = [self._socket] if session.out and self._writes else []
            select.select([self._socket], writers, [], max(0.0, until - time.monotonic()))
        now = time.monotonic()
        for call in [call for call in session.calls.values() if call.deadline <= now]:
            call.abandon(RPCError("DEADLINE_EXCEEDED", "the deadline has passed"))

    def _write(self):
        out = self.session.out
        if not out or not self._writes:
            return False
        try:
            count = self._socket.send(bytes(out[: self.record_bytes]))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:
            # What the peer said before it closed may still be read.
            self._writes = False
            return False
        del out[:count]
        return True

    def _read(self):
        try:
            data = self._socket.recv(64 << 10)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as error:
            data = b""
            self.session.lost(f"the connection broke: {error}")
        if not data:
            self.session.lost("the server closed the connection")
            return True
        try:
            self.session.receive(data)
        except ProtocolViolation as violation:
            message = f"protocol violation: {violation}"
            self.session.lost(message)
            self._refuse("INTERNAL", message)
            raise
        return True

    # Calls

    def open(self, method, timeout=60.0, **options):
        return self.session.open(method, timeout, **options)

    def receive(self, call):
        """The call's next part: a message, or bytes of bulk; None after the last of a good call."""
        self.wait(lambda: call.parts or call.over)
        if call.parts:
            return call.take()
        if call.error:
            raise call.error
        return None

    def receive_message(self, call):
        part = self.receive(call)
        if not isinstance(part, call.method.reply):
            raise RPCError("INTERNAL", "a message was due")
        return part

    def receive_bulk(self, call, count):
        """Exactly `count` bytes, however they were cut."""
        data = bytearray()
        while len(data) < count:
            part = self.receive(call)
            if not isinstance(part, bytes) or len(data) + len(part) > count:
                raise RPCError("INTERNAL", f"{count} bytes of bulk were announced")
            data += part
        return bytes(data)

    def finish(self, call):
        """Nothing more may come but an OK trailer."""
        if self.receive(call) is not None:
            call.abandon()
            raise RPCError("INTERNAL", "more parts than the method has")

    def unary(self, method, request, timeout=60.0, **options):
        call = self.open(method, timeout, **options)
        call.send(request, end=True)
        return self._only_answer(call)

    def put(self, method, header, body, timeout=60.0):
        """Client streaming as this version's methods have it: a message, then bulk; one answer."""
        call = self.open(method, timeout)
        call.send(header)
        call.send_bulk(body)
        call.finish()
        return self._only_answer(call)

    def get(self, method, request, timeout=60.0):
        """Server streaming: the call, to be received from."""
        call = self.open(method, timeout)
        call.send(request, end=True)
        return call

    def _only_answer(self, call):
        reply = self.receive_message(call)
        self.finish(call)
        return reply

    def ping(self, content=bytes(8), stream=0):
        """A round trip: everything that the server had written before its pong has arrived."""
        seen = self.session.pongs
        self.session.write(PING, stream, content)
        self.wait(lambda: self.session.pongs > seen)
        if self.session.last_pong != content:
            raise ProtocolViolation("a pong with another content than its ping")
