"""SFMedIR's frames, limits, errors and schemas, from docs/formats/wire.md and Protos/*.proto."""

import collections
import glob
import os
import struct
import subprocess
import tempfile

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

VERSION = 1
HELLO, HEADER, MESSAGE, BULK, TRAILER, CANCEL, WINDOW, PING, PONG, GO_AWAY = range(10)
END = 1
FRAME_OVERHEAD = 64
LARGEST_PIECE, SMALLEST_PIECE = 64 << 10, 4 << 10
LOWEST_LIMIT, HIGHEST_LIMIT = 16 << 10, 1 << 30
LARGEST_ACCOUNT = 2**32 - 1
LARGEST_STREAM = 2**32 - 1
# Data frames are cut while less than this waits for the socket: control frames wait behind little.
OUTPUT_BYTES = 256 << 10
HEAD = struct.Struct(">IBBHI")

STATUS_NAMES = (
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS "
    "PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED "
    "INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED"
).split()


class RPCError(Exception):
    """How a call ended that did not end well.

    `details` are pairs of the trailer: a message's full name, and its bytes.
    """

    def __init__(self, status, message="", reason="", details=()):
        # A number that this page's table does not have is read as UNKNOWN.
        self.status = status if status in STATUS_NAMES else "UNKNOWN"
        self.message, self.reason, self.details = message, reason, tuple(details)
        super().__init__(f"{self.status}: {message}" + (f" ({reason})" if reason else ""))


class ProtocolViolation(Exception):
    """The peer broke a rule that ends the connection."""


def status_name(number):
    return STATUS_NAMES[number] if number < len(STATUS_NAMES) else "UNKNOWN"


def encode_frame(kind, stream, payload=b"", flags=0, reserved=0, length=None):
    """One frame, right or wrong: tests of a server need both."""
    length = len(payload) if length is None else length
    return HEAD.pack(length, kind, flags, reserved, stream) + payload


Method = collections.namedtuple("Method", "name request reply")
Frame = collections.namedtuple("Frame", "kind flags stream payload")


# What this side announces in its hello, with the values that this project's programs have.
Limits = collections.namedtuple(
    "Limits",
    "maximum_frame_bytes stream_window_bytes connection_window_bytes maximum_streams",
    defaults=(1 << 20, 2 << 20, 16 << 20, 256),
)


class Schemas:
    """Messages and methods of a folder of .proto files, read by `protoc`; no generated modules.

    A descriptor set has no version that must fit the runtime's, as generated Python has.
    """

    def __init__(self, folder):
        files = sorted(glob.glob(os.path.join(folder, "*.proto")))
        if not files:
            raise FileNotFoundError(f"no .proto files in {folder}")
        with tempfile.TemporaryDirectory() as scratch:
            path = os.path.join(scratch, "schemas")
            protoc = ["protoc", f"--proto_path={folder}", f"--descriptor_set_out={path}"]
            subprocess.run(protoc + files, check=True)
            with open(path, "rb") as stream:
                found = descriptor_pb2.FileDescriptorSet.FromString(stream.read())
        self._pool = descriptor_pool.DescriptorPool()
        for file in found.file:
            self._pool.Add(file)
        self.methods = {}
        for file in found.file:
            for service in file.service:
                for method in service.method:
                    name = f"{file.package}.{service.name}/{method.name}"
                    # Types are written with a dot before the package.
                    self.methods[name] = Method(
                        name, self.message(method.input_type[1:]),
                        self.message(method.output_type[1:]))

    def message(self, name):
        """The class of a message, by its full name or by its name in sfmedir.v1."""
        name = name if "." in name else f"sfmedir.v1.{name}"
        descriptor = self._pool.FindMessageTypeByName(name)
        if hasattr(message_factory, "GetMessageClass"):
            return message_factory.GetMessageClass(descriptor)
        return message_factory.MessageFactory(self._pool).GetPrototype(descriptor)


class FrameReader:
    """Cuts a stream of bytes into frames; holds at most one frame that is not whole."""

    def __init__(self, maximum_frame_bytes):
        self.maximum_frame_bytes = maximum_frame_bytes
        self._bytes = bytearray()

    def push(self, data):
        """Yields the frames that `data` completes; refuses one by its first 12 bytes."""
        self._bytes += data
        while len(self._bytes) >= HEAD.size:
            length, kind, flags, reserved, stream = HEAD.unpack_from(self._bytes)
            if kind > GO_AWAY:
                raise ProtocolViolation(f"unknown frame type {kind}")
            if flags & ~END:
                raise ProtocolViolation(f"unknown flags {flags:#x}")
            if reserved:
                raise ProtocolViolation("reserved bytes are not 0")
            if length > self.maximum_frame_bytes:
                raise ProtocolViolation(f"a frame of {length} bytes")
            if len(self._bytes) < HEAD.size + length:
                return
            payload = bytes(self._bytes[HEAD.size : HEAD.size + length])
            del self._bytes[: HEAD.size + length]
            yield Frame(kind, flags, stream, payload)
