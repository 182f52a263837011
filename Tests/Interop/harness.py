"""What the scenarios share: the list of them, the servers, and checks that say what was wrong."""

import contextlib
import hashlib
import os
import random

from sfmedir_frames import STATUS_NAMES, RPCError
from sfmedir_wire import Connection, tls_context

# Name to function, in the order of the files.
SCENARIOS = {}

ECHO = "sfmedir.v1.SlaveCloud/ListShadows"
PUT = "sfmedir.v1.SlaveCloud/PutShadow"
GET = "sfmedir.v1.SlaveCloud/GetShadow"
BOTH = "sfmedir.v1.ImageUser/QueryImages"
FORBIDDEN = "sfmedir.v1.SlaveCloud/DeleteShadows"
UNKNOWN = "sfmedir.v1.SlaveCloud/NoSuchMethod"
# These two end only when their caller gives up; the second reads nothing of its request.
HANGING = "sfmedir.v1.SlaveCloud/SlaveStatus"
HANGING_UNREAD = "sfmedir.v1.ImageUser/GetImage"
JOIN = "sfmedir.v1.KeyControl/Join"
DRAIN = "sfmedir.v1.ImageUser/UserStatus"


def scenario(name):
    def add(function):
        assert name not in SCENARIOS, name
        SCENARIOS[name] = function
        return function

    return add


class Failure(Exception):
    """A scenario saw something else than the page says."""


def expect(condition, what):
    if not condition:
        raise Failure(what)


@contextlib.contextmanager
def failure(status, reason=None, message=None):
    """The body must end with this error."""
    try:
        yield
    except RPCError as error:
        expect(error.status == status, f"{status} was due, not {error}")
        expect(reason is None or error.reason == reason, f"reason {reason} was due, not {error}")
        expect(message is None or error.message == message, f"'{message}' was due, not {error}")
    else:
        raise Failure(f"{status} was due, not success")


class World:
    """The servers, the certificates and the schemas."""

    def __init__(self, address, draining_address, certificates, schemas, page):
        self.address, self.draining_address = address, draining_address
        self.certificates, self.schemas, self.page = certificates, schemas, page

    def tls(self, name="client"):
        """`name`: a certificate in the folder, or None."""
        path = lambda file: os.path.join(self.certificates, file)
        files = (path(f"{name}.pem"), path(f"{name}.key")) if name else ()
        return tls_context(path("authority.pem"), *files)

    def connect(self, address=None, certificate="client", role="scs", **options):
        return Connection(
            address or self.address, self.tls(certificate), self.schemas, "test", role, **options)

    def message(self, name, /, **fields):
        return self.schemas.message(name)(**fields)

    def check(self, connection):
        """The connection makes calls as ever."""
        reply = connection.unary(ECHO, self.message("ListShadowsRequest", after=b"well"))
        expect(reply.names[0] == b"well", f"an echo came back as {reply.names}")

    def put(self, connection, body):
        """Puts a shadow; its name is the beginning of its digest, which the server checks."""
        name = hashlib.sha256(body).digest()[:16]
        header = self.message("PutShadowHeader", name=name, body_bytes=len(body))
        return name, connection.put(PUT, header, body)


def sample(size, seed):
    """Bytes that repeat from run to run."""
    return random.Random(seed).randbytes(size)


def expect_violation(connection):
    """The server says "protocol violation" in a go-away and closes."""
    session = connection.session
    with contextlib.suppress(RPCError):
        connection.wait(lambda: session.closed)
    expect(session.go_away is not None, f"no go-away came: {session.closed}")
    status, message = STATUS_NAMES[session.go_away.status], session.go_away.message
    expect(
        status == "INTERNAL" and message.startswith("protocol violation: "),
        f"the go-away said {status}: {message}")
    return message
