#!/usr/bin/env python3
"""Compares SFMedIR's RPC with gRPC on this machine: unary echo, mutual TLS 1.3, loopback.

All servers are up at once; each round runs every peer's own load generator once, in turn, in an
order that rotates. Ratios are taken round by round, so that they hold while the load of the machine
drifts. Prints a table and, as the last line, one JSON object. `make bench-rpc` builds all of it.

Exit status: 0, or 1 where a peer that was asked for failed or is not built.
"""
import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import certificates  # noqa: E402
import machine  # noqa: E402
import peers  # noqa: E402
import report  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Cell:
    """One kind of load: a payload in bytes and a number of calls in flight on one connection."""
    name: str
    payload: int
    concurrency: int


CELLS = (Cell("1KiB_1", 1024, 1), Cell("1KiB_8", 1024, 8), Cell("1KiB_64", 1024, 64),
         Cell("1MiB_1", 1 << 20, 1), Cell("1MiB_8", 1 << 20, 8))


def positive(kind):
    """A parser of numbers above zero, for argparse."""
    def parse(text):
        number = kind(text)
        if not 0 < number < 1e6:
            raise argparse.ArgumentTypeError(f"{text} is not above zero")
        return number
    return parse


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog="peers: " + "; ".join(f"{peer.name}: {peer.what}" for peer in peers.ALL.values()))
    parser.add_argument("--rounds", type=positive(int), default=5, help="default 5")
    parser.add_argument("--seconds", type=positive(float), default=1.0,
                        help="of one run, after the warm-up; default 1")
    parser.add_argument("--warmup", type=positive(float), default=0.3, help="default 0.3 s")
    parser.add_argument("--peers", default=",".join(peers.DEFAULT),
                        help="names with commas between; default " + ",".join(peers.DEFAULT))
    parser.add_argument("--cells", default=",".join(cell.name for cell in CELLS),
                        help="PAYLOAD_INFLIGHT with commas between; default all")
    parser.add_argument("--idle-connections", type=positive(int), default=1000,
                        help="for the memory of an idle connection; default 1000")
    parser.add_argument("--cores", type=positive(int), default=2,
                        help="how many cores all of it may use; default 2")
    parser.add_argument("--json", action="store_true", help="the JSON line only")
    arguments = parser.parse_args()
    arguments.peers = pick(parser, arguments.peers, peers.ALL)
    arguments.cells = pick(parser, arguments.cells, {cell.name: cell for cell in CELLS})
    return arguments


def pick(parser, names, known):
    chosen = {}
    for name in names.split(","):
        if name not in known:
            parser.error(f"'{name}' is none of {', '.join(known)}")
        chosen[name] = known[name]
    return list(chosen.values())


class Run:
    """One run of the whole comparison."""

    def __init__(self, arguments, folder):
        self.arguments = arguments
        self.certificates = folder
        self.peers = []
        self.rounds = {}
        self.idle = {}
        self.tls = {}
        self.failures = []
        for peer in arguments.peers:
            if os.access(peer.program, os.X_OK):
                self.peers.append(peer)
            else:
                self.fail(f"{peer.name} is LEFT OUT: {peer.program} is not built")

    def say(self, text):
        if not self.arguments.json:
            print(text, file=sys.stderr, flush=True)

    def fail(self, reason):
        self.failures.append(str(reason))
        print(f"bench-rpc: {reason}", file=sys.stderr, flush=True)

    def measure(self):
        self.measure_idle()
        with contextlib.ExitStack() as stack:
            servers = []
            for peer in self.peers:
                try:
                    servers.append(stack.enter_context(peers.Server(peer, self.certificates)))
                except peers.PeerFailed as problem:
                    self.fail(f"{peer.name} is LEFT OUT: {problem}")
            self.look_at_tls(servers)
            for cell in self.arguments.cells:
                self.rounds[cell.name] = [
                    self.one_round(servers, cell, number)
                    for number in range(self.arguments.rounds)]

    def measure_idle(self):
        """On servers of their own, so that memory that calls have left behind is not reused."""
        for peer in self.peers:
            self.say(f"idle connections: {peer.name}")
            try:
                with peers.Server(peer, self.certificates) as server:
                    self.idle[peer.name] = server.idle_kib(self.arguments.idle_connections)
            except (peers.PeerFailed, OSError) as problem:
                self.fail(f"{peer.name}: idle connections were not measured: {problem}")

    def look_at_tls(self, servers):
        for server in servers:
            name = server.peer.name
            try:
                self.tls[name] = agreed = server.agreed_tls(CELLS[0])
            except (peers.PeerFailed, OSError) as problem:
                self.fail(f"{name}: TLS was not looked at: {problem}")
                continue
            if agreed["version"] != "TLS 1.3" or not agreed["mutual"]:
                self.fail(f"{name}: not mutual TLS 1.3 but {agreed}")

    def one_round(self, servers, cell, number):
        """One run of each peer, another first in each round; returns {peer: figures}."""
        self.say(f"{cell.name}: round {number + 1} of {self.arguments.rounds}")
        first = number % max(1, len(servers))
        row = {}
        for server in servers[first:] + servers[:first]:
            try:
                row[server.peer.name] = server.load(
                    cell, self.arguments.seconds, self.arguments.warmup)
            except (peers.PeerFailed, OSError) as problem:
                self.fail(f"{cell.name}, round {number + 1}: {problem}")
        return row


def main():
    arguments = parse_arguments()
    # A kill ends the servers too: `with` statements see it as they see Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cores = machine.use_cores(arguments.cores)
    machine.allow_descriptors(2 * arguments.idle_connections + 1000)
    facts = machine.facts(cores)
    facts["grpc_cpp"] = machine.first_line(["pkg-config", "--modversion", "grpc++"])
    busy, own = machine.busy_seconds(cores), machine.own_seconds()
    wall = os.times().elapsed
    with tempfile.TemporaryDirectory(prefix="sfmedir-bench-rpc-") as folder:
        certificates.make(folder)
        run = Run(arguments, pathlib.Path(folder))
        run.measure()
    wall = os.times().elapsed - wall
    # The servers have ended by now, so their time is among this process's children's.
    others = machine.busy_seconds(cores) - busy - (machine.own_seconds() - own)
    facts["others_cpu_percent"] = round(max(0.0, 100 * others / (len(cores) * wall)), 1)
    facts["wall_seconds"] = round(wall, 1)

    record = report.summary(run.rounds, run.idle, run.tls,
                            [peer.name for peer in arguments.peers])
    record.update(rounds=arguments.rounds, seconds=arguments.seconds, warmup=arguments.warmup,
                  machine=facts, failures=run.failures)
    if not arguments.json:
        print("\n".join(report.table(record)))
        print(f"\n{facts['processor']}, {len(cores)} cores; others used "
              f"{facts['others_cpu_percent']} % of them; {arguments.rounds} rounds of "
              f"{arguments.seconds:g} s\n", flush=True)
    print(json.dumps(record), flush=True)
    return 1 if run.failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
