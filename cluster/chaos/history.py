"""What clients did and saw, for people and for the checker."""
import dataclasses
import json
import math
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
        # A line at a time: it has to be there however the run ends.
        self._log = open(self.folder / "operations.jsonl", "w", buffering=1, encoding="utf-8")

    def add(self, client, kind, invoked, completed, outcome, effects):
        """One call of a client, and what it says of which image: (image, input, output) each."""
        status, text = outcome
        with self._lock:
            if self._log.closed:
                # The run was interrupted, and not all clients have heard of it.
                return
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

    def surely_stored(self):
        """Images with an acknowledged upload after which none can have been removed."""
        uploads, removals = {}, {}
        with self._lock:
            for line in self._lines:
                image, takes, output = line["image"], line["input"], line["output"]
                if takes == "upload" and output == "stored":
                    uploads[image] = max(line["invoked"], uploads.get(image, 0))
                elif takes == "remove" and output in ("removed", None):
                    # Without an answer it may take effect at any time.
                    end = math.inf if output is None else line["completed"]
                    removals[image] = max(end, removals.get(image, 0))
        return {image for image, invoked in uploads.items() if removals.get(image, 0) < invoked}

    def close(self):
        """Writes the checker's file."""
        with self._lock:
            self._log.close()
            path = self.folder / "history.jsonl"
            path.write_text("".join(json.dumps(line) + "\n" for line in self._lines))
        return path


class CheckFailed(Exception):
    """The checker did not say what it had to say."""


@dataclasses.dataclass
class Findings:
    """What the checker says of the images of a history."""
    violated: list
    # Of those: which only calls explain that took effect twice before they were answered.
    doubled: list
    # Given up before there was an answer.
    undecided: list
    # All of it, for people.
    lines: list


def check(checker, path):
    """What the checker finds; CheckFailed where it finds nothing because something is wrong with it, or with the history."""
    images = {json.loads(line)["image"] for line in path.read_text().splitlines()}
    if not images:
        raise CheckFailed("no call is recorded: there is nothing to check")

    def run(*options):
        done = subprocess.run([checker, "check", path, "--json", *options], capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            raise CheckFailed(f"the checker ended with {done.returncode}: {done.stderr.strip()}")
        try:
            findings = {line["image"]: line for line in map(json.loads, done.stdout.splitlines())}
            is_clean = all(line["verdict"] == "linearizable" for line in findings.values())
        except (ValueError, KeyError) as problem:
            raise CheckFailed(f"what the checker says cannot be read: {problem!r}") from None
        if set(findings) != images or is_clean != (done.returncode == 0):
            raise CheckFailed(f"the checker ended with {done.returncode} and judged {len(findings)} of {len(images)} images")
        return findings

    strict = run()
    violated = [image for image, line in strict.items() if line["verdict"] == "violated"]
    undecided = [image for image, line in strict.items() if line["verdict"] == "undecided"]
    lenient = run("--repeats") if violated else {}
    doubled = [image for image in violated if lenient[image]["verdict"] == "linearizable"]
    lines = []
    for image in violated + undecided:
        lines.append(f"{image}: {strict[image]['verdict']}, {strict[image]['operations']} operations, "
                     f"{strict[image]['unknown']} of unknown outcome")
        lines += [f"  client {line['client']}: {line['input']}, {line.get('output', 'no answer')}, "
                  f"{line['invoked']} to {line['completed']}" for line in strict[image]["unplaced"]]
    return Findings(violated, doubled, undecided, lines)
