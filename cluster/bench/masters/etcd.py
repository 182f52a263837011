"""Three members of etcd on loopback, on a disk, fsync on."""
import contextlib
import http.client
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import tempfile
import time

PROGRAM = "/usr/bin/etcd"
MEMBERS = 3
# A member answers within a second or two of its start; a loaded machine gets more.
_START_SECONDS = 60
_ANSWER_SECONDS = 2


class EtcdFailed(Exception):
    """etcd did not do what this comparison needs."""


def _free_ports(count):
    """Ports that nobody listens on, below those that the kernel gives to outgoing connections: one
    of these could take a member's port while the member is down."""
    lowest = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = list(range(max(1024, lowest - 12_000), lowest)) or list(range(20_000, 32_000))
    random.shuffle(candidates)
    found = []
    for port in candidates:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise EtcdFailed("no free ports")


class Cluster:
    """A running cluster. Use it in a `with` statement: that ends the members and removes their files."""

    def __init__(self, folder, heartbeat_ms=100, election_ms=1000):
        self._parent = folder
        self._timers = ["--heartbeat-interval", str(heartbeat_ms), "--election-timeout", str(election_ms)]
        ports = _free_ports(2 * MEMBERS)
        self.ports, self._peer_ports = ports[:MEMBERS], ports[MEMBERS:]
        self._members = [None] * MEMBERS

    def __enter__(self):
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="etcd-", dir=self._parent))
        try:
            for index in range(MEMBERS):
                self.start(index)
            self.wait_until_healthy()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *problem):
        for member in filter(None, self._members):
            member.kill()
            member.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self, index):
        """Starts a member, or starts it again on what it had written."""
        client, peer = (f"http://127.0.0.1:{ports[index]}" for ports in (self.ports, self._peer_ports))
        everyone = ",".join(f"member{number}=http://127.0.0.1:{port}" for number, port in enumerate(self._peer_ports))
        command = [
            # The kernel ends a member even where this process is killed and cannot.
            "setpriv", "--pdeathsig", "KILL", PROGRAM,
            "--name", f"member{index}", "--data-dir", str(self._folder / f"member{index}"),
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", everyone, "--initial-cluster-token", self._folder.name,
            # A long run must not end at the 2 GiB that etcd allows itself.
            "--quota-backend-bytes", str(8 << 30), "--logger", "zap", "--log-level", "error", *self._timers]
        # etcd takes variables of these names for options.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        with open(self._log(index), "ab") as log:
            self._members[index] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment)

    def kill(self, index):
        """SIGKILL; returns once the member is dead."""
        self._members[index].kill()
        self._members[index].wait()

    def leader(self):
        """The member that all members take for the leader; None where they do not agree."""
        statuses = [self._ask(index, "POST", "/v3/maintenance/status") for index in range(MEMBERS)]
        names = [status and status["header"]["member_id"] for status in statuses]
        leaders = {status and status.get("leader") for status in statuses}
        leader = leaders.pop() if len(leaders) == 1 else None
        return names.index(leader) if leader and leader in names else None

    def wait_until_healthy(self):
        """Returns the leader once every member knows it and answers linearizable reads."""
        limit = time.monotonic() + _START_SECONDS
        while time.monotonic() < limit:
            for index, member in enumerate(self._members):
                if member.poll() is not None:
                    raise EtcdFailed(f"member {index} ended with status {member.returncode}: {self._last_words(index)}")
            leader = self.leader()
            # etcd answers this after a linearizable read through the member that is asked.
            healthy = [self._ask(index, "GET", "/health") for index in range(MEMBERS)]
            if leader is not None and all(one and one.get("health") == "true" for one in healthy):
                return leader
            time.sleep(0.05)
        raise EtcdFailed(f"not healthy within {_START_SECONDS} s: {self._last_words(0)}")

    def _ask(self, index, method, path):
        """An answer of the JSON gateway; None where there is none. urllib would ask a proxy of the environment."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[index], timeout=_ANSWER_SECONDS)
        try:
            connection.request(method, path, body=b"{}" if method == "POST" else None)
            reply = connection.getresponse()
            return json.loads(reply.read()) if reply.status == 200 else None
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def _log(self, index):
        return self._folder / f"member{index}.log"

    def _last_words(self, index):
        lines = self._log(index).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it gave no reason"
