"""The programs that `run.py` compares. All take the same three commands:

  PROGRAM serve --port 0 --certs DIR                       prints `listening PORT`
  PROGRAM load  --port P --certs DIR --payload N --concurrency C --seconds S --warmup W
                [--connections K]                          prints one JSON line
  PROGRAM idle  --port P --certs DIR --connections N       prints `ready N`, ends with its input
"""
import contextlib
import dataclasses
import json
import pathlib
import select
import subprocess
import time

import machine
import tls_probe

_HERE = pathlib.Path(__file__).resolve().parent
_ROOT = _HERE.parents[2]
_SWIFT_PEERS = _HERE / "grpc-swift/.build/release"
# Programs start and connect in well under a second; a loaded machine gets more.
_START_SECONDS = 60
_IDLE_WARM_UP = 50


class PeerFailed(Exception):
    """A peer's program did not do what its command promises."""


@dataclasses.dataclass(frozen=True)
class Peer:
    """One program and what is added to each of its commands."""
    name: str
    program: pathlib.Path
    what: str
    extra: tuple = ()

    def command(self, verb, certificates, **options):
        words = [str(self.program), verb, "--certs", str(certificates), *self.extra]
        for name, value in options.items():
            words += [f"--{name}", str(value)]
        return words


ALL = {peer.name: peer for peer in (
    Peer("sfmedir", _ROOT / ".build/release/sfmedir-rpc-bench", "this project's RPC"),
    Peer("grpc-cpp", _HERE / ".build-grpc-cpp/grpc-cpp-echo", "gRPC C++, callback server"),
    Peer("grpc-swift", _SWIFT_PEERS / "grpc-swift-echo", "gRPC Swift 2 as it comes"),
    Peer("grpc-swift-tuned", _SWIFT_PEERS / "grpc-swift-echo",
         "gRPC Swift 2, 16 MiB windows, 1 MiB frames", ("--tuned", "1")),
    Peer("nio", _SWIFT_PEERS / "nio-echo", "bare frames on SwiftNIO: the floor"),
)}
DEFAULT = ("sfmedir", "grpc-cpp", "grpc-swift", "nio")


def _wait_for_line(process, word):
    """The number behind `word` in the first line that the process prints."""
    deadline = time.monotonic() + _START_SECONDS
    text = b""
    while b"\n" not in text:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            raise PeerFailed(f"{process.args[0]} did not print '{word}' in {_START_SECONDS} s")
        piece = process.stdout.read1(4096)
        if not piece:
            raise PeerFailed(f"{process.args[0]} {process.args[1]} ended without '{word}'")
        text += piece
    first = text.decode(errors="replace").split()
    if len(first) < 2 or first[0] != word or not first[1].isdecimal():
        raise PeerFailed(f"{process.args[0]} printed {first!r} instead of '{word} NUMBER'")
    return int(first[1])


@contextlib.contextmanager
def _running(command, word, log):
    """A process that has printed `word` and its number; its errors go to the file `log`."""
    with open(log, "ab") as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=errors)
    try:
        try:
            number = _wait_for_line(process, word)
        except PeerFailed as problem:
            said = log.read_text(errors="replace").strip().splitlines()
            raise PeerFailed(f"{problem}; {said[-1] if said else 'it gave no reason'}") from None
        yield process, number
    finally:
        process.kill()
        process.stdin.close()
        process.wait()
        process.stdout.close()


class Server:
    """A running echo server of a peer. Use it in a `with` statement."""

    def __init__(self, peer, certificates):
        self.peer = peer
        self._certificates = certificates
        self._log = pathlib.Path(certificates) / f"{peer.name}.log"
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        command = self.peer.command("serve", self._certificates, port=0)
        self._process, self._port = self._stack.enter_context(
            _running(command, "listening", self._log))
        return self

    def __exit__(self, *problem):
        return self._stack.__exit__(*problem)

    def load(self, cell, seconds, warmup, port=None):
        """One run of the peer's own load generator; returns its figures."""
        before = machine.process_seconds(self._process.pid)
        command = self.peer.command(
            "load", self._certificates, port=port or self._port, payload=cell.payload,
            concurrency=cell.concurrency, seconds=seconds, warmup=warmup)
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                                  timeout=_START_SECONDS + seconds + warmup)
        except subprocess.TimeoutExpired as problem:
            raise PeerFailed(f"{self.peer.name}: load did not end") from problem
        try:
            figures = json.loads(done.stdout.splitlines()[-1])
            calls, rate = figures["calls"], float(figures["calls_per_s"])
            server_seconds = machine.process_seconds(self._process.pid) - before
            both = server_seconds + float(figures["client_cpu_s"])
        except (IndexError, KeyError, TypeError, ValueError, OSError) as problem:
            raise PeerFailed(f"{self.peer.name}: load ended with status {done.returncode} and "
                             f"no figures") from problem
        if done.returncode != 0 or figures["errors"] != 0 or calls == 0:
            raise PeerFailed(f"{self.peer.name}: {calls} calls, {figures['errors']} errors, "
                             f"status {done.returncode}")
        # One formula for all: the payload travels there and back.
        figures["MBps"] = rate * 2 * cell.payload / 1e6
        # Both ends, the warm-up's calls taken off pro rata; holds better than calls per second
        # where others use the machine too.
        figures["cpu_us_per_call"] = both * seconds / (seconds + warmup) * 1e6 / calls
        return figures

    def agreed_tls(self, cell):
        """Version, cipher and group between the peer's own client and server, and whether the
        server refuses a client without a certificate."""
        with tls_probe.Relay(self._port) as relay:
            self.load(cell, 0.2, 0, port=relay.port)
            agreed = relay.agreed()
        if agreed is None:
            raise PeerFailed(f"{self.peer.name}: no ServerHello was seen")
        agreed["mutual"] = tls_probe.refuses_strangers(self._port, self._certificates)
        return agreed

    def idle_kib(self, connections):
        """Resident KiB of the server for each of `connections` idle connections.

        A few connections are held first, so that what the server allocates once, and the free
        memory it keeps, does not count for or against the others.
        """
        command = self.peer.command("idle", self._certificates, port=self._port,
                                    connections=_IDLE_WARM_UP)
        with _running(command, "ready", self._log):
            before = self._settled_kib()
            command = self.peer.command("idle", self._certificates, port=self._port,
                                        connections=connections)
            with _running(command, "ready", self._log) as (_, ready):
                if ready != connections:
                    raise PeerFailed(f"{self.peer.name}: {ready} of {connections} connections")
                return (self._settled_kib() - before) / connections

    def _settled_kib(self):
        """Resident memory once it has stood still for a second, or after ten seconds."""
        samples = [machine.resident_kib(self._process.pid)]
        for _ in range(50):
            time.sleep(0.2)
            samples.append(machine.resident_kib(self._process.pid))
            if len(samples) > 5 and max(samples[-6:]) - min(samples[-6:]) <= 64:
                break
        return samples[-1]
