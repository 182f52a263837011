"""What clients did and saw, for people and for the checker."""
import json
import pathlib
import subprocess
import threading

# Exit codes after which it is not known whether the operation took effect, and which say so clearly.
CLEAR = {69: "not available", 75: "try again"}


class History:
    """Lines that several clients add."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.operations = 0
        self.unknown = 0
        self.odd = []
        self.altered = []
        self._lines = []
        self._writes = []
        self._lock = threading.Lock()
        self._log = open(self.folder / "operations.jsonl", "w", encoding="utf-8")

    def add(self, client, kind, invoked, completed, outcome, effects):
        """One call of a client, and what it says of which image: (image, input, output) each."""
        status, text = outcome
        with self._lock:
            self.operations += 1
            if any(output is None for _, _, output in effects):
                self.unknown += 1
                # An operation that hangs has no status.
                if status not in CLEAR:
                    self.odd.append(f"client {client}: {kind} ended with {status}: {text[:300]}")
            if kind == "upload stored" or any(output == "removed" for _, _, output in effects):
                self._writes.append(invoked)
            for image, takes, output in effects:
                if output == "altered":
                    self.altered.append(image)
                self._lines.append({"image": image, "client": client, "input": takes,
                                    "output": output, "invoked": invoked, "completed": completed})
            self._log.write(json.dumps(
                {"client": client, "kind": kind, "invoked": invoked, "completed": completed,
                 "status": status, "effects": effects, "text": text}) + "\n")

    def answers_since(self, nanoseconds):
        """How many operations that were begun since then have a definite outcome."""
        with self._lock:
            return len({(line["client"], line["invoked"]) for line in self._lines
                        if line["invoked"] >= nanoseconds and line["output"] is not None})

    def writes_since(self, nanoseconds):
        """How many of those changed something."""
        with self._lock:
            return sum(invoked >= nanoseconds for invoked in self._writes)

    def close(self):
        """Writes the checker's file."""
        with self._lock:
            self._log.close()
            path = self.folder / "history.jsonl"
            path.write_text("".join(json.dumps(line) + "\n" for line in self._lines))
        return path


def check(checker, path):
    """What the checker finds wrong, a line each, and whether calls that took effect twice explain it."""
    def run(*options):
        return subprocess.run([checker, "check", path, *options], capture_output=True, text=True,
                              check=False)

    strict = run()
    if strict.returncode == 0:
        return [], False
    if strict.returncode != 1:
        return [f"the checker ended with {strict.returncode}: {strict.stderr.strip()}"], False
    lines = [line for line in strict.stdout.splitlines() if not line.endswith(": linearizable")]
    return lines, run("--repeats").returncode == 0
