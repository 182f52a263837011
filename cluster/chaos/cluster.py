"""A cluster as `sfmedir dev up` lays it out, with each node in a namespace of its own."""
import json
import os
import pathlib
import shutil
import subprocess
import time

from daemons import Daemon
from delays import VARIABLE, Delays
from disks import Disk
from network import Network

CLIENTS = "clients"
SMALL_DISK_MEBIBYTES = 48
VOTERS = ("mcs", "witness")


class ClusterFailed(Exception):
    """The cluster did not come to where a scenario could begin or go on."""


class Programs:
    """The programs under test, and the checker."""

    def __init__(self, folder, checker, model):
        self.folder = pathlib.Path(folder)
        self.checker = pathlib.Path(checker)
        self.environment = {**os.environ, "NO_COLOR": "1", "SFMEDIR_MODEL": str(model)}
        for program in (self.checker, self["sfmedir"], self["sfmedir-mcs"]):
            if not os.access(program, os.X_OK):
                raise ClusterFailed(f"{program} cannot be run; SFMEDIR_BIN is the folder of programs")

    def __getitem__(self, name):
        return self.folder / name

    def run(self, name, *arguments):
        done = subprocess.run([self[name], *map(str, arguments)], env=self.environment, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise ClusterFailed(f"'{name} {arguments[0]}' ended with {done.returncode}: {done.stderr}")
        return done.stdout


class Template:
    """Keys, certificates and configurations, made once; each scenario begins with a copy."""

    def __init__(self, programs, folder, slaves):
        self.programs = programs
        self.folder = pathlib.Path(folder)
        programs.run("sfmedir", "dev", "up", "--dir", self.folder, "--slaves", slaves)
        programs.run("sfmedir", "dev", "down", "--dir", self.folder)
        plan = json.loads((self.folder / "cluster.json").read_text())
        self.nodes = [(node["node"], node["role"], node["port"]) for node in plan["nodes"]]

    def copy(self, folder, addresses):
        """Its nodes listen at these addresses, and the voters have no past."""
        shutil.copytree(self.folder, folder)
        for file in [*folder.glob("config/*.toml"), folder / "cli.toml"]:
            text = file.read_text().replace(f"{self.folder}/", f"{folder}/")
            for node, _, port in self.nodes:
                text = text.replace(f"\"127.0.0.1:{port}\"", f"\"{addresses[node]}:{port}\"")
            file.write_text(text)
        for node, role, _ in self.nodes:
            if role in VOTERS:
                # Their logs have the members' addresses.
                forget(folder / "state" / node)


def forget(state):
    """Removes all of a node's state but its identity."""
    for entry in state.iterdir():
        if entry.is_dir() and entry.name != "identity":
            shutil.rmtree(entry)
        elif not entry.is_dir():
            entry.unlink()


class Cluster:
    def __init__(self, template, folder, has_small_disks=False, slow_fsync=None):
        self.programs = template.programs
        self.folder = pathlib.Path(folder)
        self.roles = {node: role for node, role, _ in template.nodes}
        self.ports = {node: port for node, _, port in template.nodes}
        self.daemons = {}
        self.disks = {}
        self._leader = self.of_role("mcs")[0]
        self.network = Network([*self.roles, CLIENTS])
        try:
            self.delays = Delays(self.folder, self.network.addresses)
            template.copy(self.folder / "cluster", self.network.addresses)
            for node, role in self.roles.items():
                self._lay_out(node, role, has_small_disks, slow_fsync)
        except BaseException:
            self.remove()
            raise

    def _lay_out(self, node, role, has_small_disks, slow_fsync):
        base = self.folder / "cluster"
        disk = self.disks[node] = Disk(base / "state" / node, self.folder / f"{node}.slow")
        program = self.programs["sfmedir-mcs" if role == "witness" else f"sfmedir-{role}"]
        words = ["--config", base / "config" / f"{node}.toml"]
        if role == "witness":
            words.append("--witness")
        environment = {**self.programs.environment, VARIABLE: str(self.delays.file(node))}
        if role in VOTERS:
            if has_small_disks:
                disk.make_small(SMALL_DISK_MEBIBYTES)
            self._initialise(program, words)
            if slow_fsync is not None:
                environment |= {"LD_PRELOAD": str(slow_fsync), "SLOW_FSYNC_FILE": str(disk.control)}
        self.daemons[node] = Daemon(
            node, (program, words), base / "logs" / f"{node}.log", environment)

    def _initialise(self, program, words):
        self.programs.run(program.name, *words, "--initialize")

    def wipe(self, node):
        """A voter that is down forgets all that it acknowledged."""
        forget(self.disks[node].folder)
        self._initialise(*self.daemons[node].program)

    def remove(self):
        for daemon in self.daemons.values():
            daemon.kill()
        for disk in self.disks.values():
            disk.remove()
        self.network.remove()

    def of_role(self, *roles):
        return [node for node, role in self.roles.items() if role in roles]

    def start(self, seconds):
        for node in self.of_role("kce"):
            self.daemons[node].start()
        # The others want their keys from it at once.
        time.sleep(0.3)
        for daemon in self.daemons.values():
            daemon.start()
        self.wait_until_well(seconds)

    # What the cluster says of itself

    def client(self, *words):
        """The command line of a client."""
        return [*Network.inside(CLIENTS), str(self.programs["sfmedir"]), *map(str, words),
                "--config", str(self.folder / "cluster" / "cli.toml")]

    def status(self):
        """The lines of `status --json`, as far as it got."""
        try:
            done = subprocess.run(
                self.client("status", "--json", "--timeout", 1), env=self.programs.environment,
                capture_output=True, text=True, check=False, timeout=15)
        except subprocess.TimeoutExpired:
            return []
        lines = []
        for line in done.stdout.splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                pass
        return lines

    def leader(self, seconds=5):
        """Who leads in the highest term of which anybody knows; where nobody does, who led last."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            leaders = [line for line in self.status() if line.get("leads")]
            if leaders:
                self._leader = max(leaders, key=lambda line: line["term"])["node"]
                break
            time.sleep(0.1)
        return self._leader

    def let_lead(self, node, seconds=10):
        """Hands the leadership over."""
        deadline = time.monotonic() + seconds
        while (leader := self.leader()) != node:
            if time.monotonic() > deadline:
                raise ClusterFailed(f"{node} did not take the leadership over in {seconds} s")
            address = f"{self.network.addresses[leader]}:{self.ports[leader]}"
            subprocess.run(
                self.client("rpc", "call", "Consensus/TransferLeadership", "--address", address,
                            "--role", "mcs", "--json-in", json.dumps({"to": node}), "--timeout", 2),
                env=self.programs.environment, capture_output=True, check=False, timeout=15)

    def other_master(self):
        leader = self.leader()
        return next(node for node in self.of_role("mcs") if node != leader)

    def term(self):
        return max((line.get("term", 0) for line in self.status()), default=0)

    def wait_until_well(self, seconds):
        deadline = time.monotonic() + seconds
        while True:
            problem = self._problem(self.status())
            if problem is None:
                return
            if time.monotonic() > deadline:
                raise ClusterFailed(f"not well after {seconds} s: {problem}")
            time.sleep(0.2)

    def _problem(self, lines):
        """Why the voters do not agree yet, or a slave is not reached; None where all is well."""
        voters = [line for line in lines if line.get("role") in VOTERS]
        expected = self.of_role(*VOTERS)
        for node in expected:
            line = next((line for line in voters if line.get("node") == node), None)
            if line is None:
                return f"{node} does not answer"
            if line["state"] != "ok":
                return f"{node}: {line['problem'] or line['state']}"
        for key in ("leader", "term", "commit_index"):
            values = {line["node"]: line[key] for line in voters}
            if len(set(values.values())) != 1:
                return f"the voters do not agree on {key}: {values}"
        if sum(line["leads"] for line in voters) != 1:
            return "nobody leads, or several do"
        for line in voters:
            if line["role"] == "mcs" and line["applied_index"] != line["commit_index"]:
                return f"{line['node']} has not applied all"
        silent = [line["node"] for line in lines if line["type"] == "slave"
                  and not (line["reachable"] and not line["read_only"])]
        if silent or len([line for line in lines if line["type"] == "slave"]) == 0:
            return f"slaves that are not there or read-only: {silent or 'all'}"
        for line in lines:
            if line.get("role") in ("mo", "mu", "kce") and line["state"] != "ok":
                return f"{line['role']}: {line['problem'] or line['state']}"
        return None
