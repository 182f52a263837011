"""Clients that store, fetch, list, search and remove a few images through the command line."""
import filecmp
import json
import random
import subprocess
import threading
import time

from cluster import ClusterFailed

# Of how many operations in a hundred; removals are few, so that most images are there most of the time.
MIX = {"upload": 40, "remove": 18, "get": 24, "list": 8, "query": 10}
CALL_SECONDS = 4
# An upload repeats what failed for a passing reason; longer than this is hanging.
PATIENCE_SECONDS = 25
OWN, SHARED = 2, 4


class Image:
    def __init__(self, path):
        self.path = path
        self.name = path.name
        self.id = None
        # As far as the last call knows that wrote it.
        self.is_stored = False


class Workload:
    def __init__(self, cluster, history, folder, seed):
        self.cluster = cluster
        self.history = history
        self.folder = folder
        self.seed = seed
        self.images = []
        self._clients = []
        self._stop = threading.Event()

    def start(self, count):
        self.cluster.programs.run("sfmedir", "phantom", "--out", self.folder / "images", "--count",
                                  count * OWN + SHARED, "--seed", self.seed + 1, "--side", 64)
        self.images = [Image(path) for path in sorted((self.folder / "images").iterdir())]
        Caller(self, 0).upload_all()
        shared = self.images[:SHARED]
        for number in range(1, count + 1):
            own = self.images[SHARED + (number - 1) * OWN:SHARED + number * OWN]
            caller = Caller(self, number)
            thread = threading.Thread(target=self._run, args=(caller, own, shared), daemon=True)
            thread.start()
            self._clients.append(thread)

    def _run(self, caller, own, shared):
        chance = random.Random(f"{self.seed}/{caller.number}")
        kinds, weights = list(MIX), list(MIX.values())
        try:
            while not self._stop.is_set():
                image = chance.choice(own if chance.random() < 0.5 else shared)
                kind = chance.choices(kinds, weights)[0]
                if kind in ("upload", "remove") and image in own:
                    # Of the shared ones most are there already: 'writes go on' needs writes that change something.
                    kind = "remove" if image.is_stored else "upload"
                getattr(caller, kind)(image)
        except Exception as problem:  # pylint: disable=broad-except
            # With fewer clients than were asked for, less is seen.
            self.history.odd.append(f"client {caller.number} ended: {problem!r}")

    def stop(self):
        self._stop.set()
        for thread in self._clients:
            thread.join()
        self._clients = []

    def fetch_all(self):
        """(what cannot be had, those images that were acknowledged and are not there): every image is asked for."""
        stored = self.history.surely_stored()
        caller = Caller(self, 0)
        problems, lost = [], []
        for image in self.images:
            for _ in range(3):
                outcome, text = caller.get(image)
                if outcome is not None:
                    break
            else:
                problems.append(f"{image.name} cannot be fetched: {text}")
            if image.name in stored and outcome != "found":
                lost.append(image.name)
        if caller.list(None) is None:
            problems.append("what is stored cannot be listed")
        return problems, lost


class Caller:
    """Calls the command line, and writes down what came of it."""

    def __init__(self, workload, number):
        self.workload = workload
        self.number = number
        self.history = workload.history

    def _call(self, *words):
        """Exit status (None where it hung), lines of JSON, the error's text, begin, end."""
        command = self.workload.cluster.client(*words, "--json", "--timeout", CALL_SECONDS)
        invoked = time.monotonic_ns()
        try:
            done = subprocess.run(
                command, env=self.workload.cluster.programs.environment, check=False,
                stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired as hung:
            text = f"no end in {PATIENCE_SECONDS} s: {hung.stderr or b''!r}"
            return None, [], text, invoked, time.monotonic_ns()
        completed = time.monotonic_ns()
        lines = []
        for line in done.stdout.splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                pass
        text = done.stderr.decode(errors="replace").strip()
        text = text or next((line["error"] for line in lines if "error" in line), "")
        return done.returncode, lines, text, invoked, completed

    def _record(self, kind, call, effects):
        status, _, text, invoked, completed = call
        self.history.add(self.number, kind, invoked, completed, (status, text), effects)
        return status, text

    def upload(self, image):
        call = self._call("upload", image.path)
        line = next((line for line in call[1] if line.get("type") == "file"), {})
        is_stored = call[0] == 0 and line.get("status") in ("stored", "already_stored")
        if is_stored:
            image.id = line["image_id"]
            image.is_stored = True
        return self._record(
            f"upload {line.get('status')}", call,
            [(image.name, "upload", "stored" if is_stored else None)])

    def upload_all(self):
        """All are stored once in peace: so every name's id is known."""
        images = {str(image.path): image for image in self.workload.images}
        call = self._call("upload", self.workload.folder / "images", "--recursive")
        for line in call[1]:
            if line.get("status") == "stored":
                images[line["path"]].id = line["image_id"]
                images[line["path"]].is_stored = True
        missing = [image.name for image in self.workload.images if image.id is None]
        if missing:
            raise ClusterFailed(f"not stored before anything went wrong: {missing}; {call[2]}")
        self._record("upload all", call,
                     [(image.name, "upload", "stored") for image in self.workload.images])

    def remove(self, image):
        call = self._call("rm", image.id)
        line = next((line for line in call[1] if line.get("type") == "image"), {})
        outcome = {(0, "removed"): "removed", (66, "not_found"): "absent"}.get(
            (call[0], line.get("status")))
        if outcome is not None:
            image.is_stored = False
        return self._record("rm", call, [(image.name, "remove", outcome)])

    def get(self, image):
        target = self.workload.folder / f"fetched-{self.number}"
        target.unlink(missing_ok=True)
        call = self._call("get", image.id, "-o", target)
        outcome = None
        if call[0] == 0:
            is_same = filecmp.cmp(target, image.path, shallow=False)
            outcome = "found" if is_same else "altered"
        elif call[0] == 66 and "NOT_FOUND" in call[2]:
            outcome = "absent"
        _, text = self._record("get", call, [(image.name, "read", outcome)])
        return outcome, text

    def list(self, _):
        call = self._call("ls")
        if call[0] != 0:
            self._record("ls", call, [(self.workload.images[0].name, "read", None)])
            return None
        ids = {line["image_id"] for line in call[1] if line.get("type") == "image"}
        self._record("ls", call, [
            (image.name, "read", "found" if image.id in ids else "absent")
            for image in self.workload.images])
        return ids

    def query(self, image):
        call = self._call("query", image.path, "-k", 5)
        if call[0] != 0:
            return self._record("query", call, [(image.name, "read", None)])
        ids = {line["image_id"] for line in call[1] if line.get("type") == "result"}
        # What it does not name may be less similar than what it does.
        return self._record("query", call, [
            (image.name, "read", "found") for image in self.workload.images if image.id in ids])
