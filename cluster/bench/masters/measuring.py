"""What metadata.py, failover.py and restart.py share: our program, the disk, the machine, medians, how they end."""
import contextlib
import datetime
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import etcd

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import machine  # noqa: E402

# What our program gets to stop its masters and to remove its files.
_END_SECONDS = 30


class ProgramFailed(Exception):
    """Our program, or the load on etcd, gave no figures."""


def add_options(parser):
    parser.add_argument("--program", default=str(HERE.parents[2] / ".build/release/sfmedir"), help="the sfmedir to measure")
    parser.add_argument("--dir", default=".", help="a folder on the disk to measure, for both sides; default: the current one")


@contextlib.contextmanager
def folder_on_disk(options):
    """A folder for the data of both sides, removed however the measurement ends."""
    # A kill ends what was started too: `with` statements see it as they see Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="bench-masters-", dir=os.path.abspath(options.dir)) as folder:
        yield pathlib.Path(folder)


def ours(program, arguments, folder, seconds):
    """Runs our program on the disk that `folder` is on; returns the object that is its last line."""
    name = " ".join(arguments[:2])
    output, errors = folder / "ours.out", folder / "ours.err"
    with open(output, "wb") as out, open(errors, "wb") as err:
        try:
            # A group of its own, so that none of its daemons outlives it.
            process = subprocess.Popen([program, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                       process_group=0, env={**os.environ, "TMPDIR": str(folder)})
        except OSError as problem:
            raise ProgramFailed(f"{name}: {problem}") from problem
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired as problem:
        raise ProgramFailed(f"{name} did not end within {seconds:g} s") from problem
    finally:
        _end(process)
    said = errors.read_text(errors="replace").strip().splitlines()
    if status != 0:
        raise ProgramFailed(f"{name} ended with status {status}: {said[-1] if said else 'it gave no reason'}")
    return last_object(output.read_text(errors="replace"), name)


def _end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_object(text, name):
    lines = text.splitlines()
    try:
        found = json.loads(lines[-1])
    except (IndexError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ProgramFailed(f"the last line of {name} is no JSON object")
    return found


class Surroundings:
    """The machine, its disk, and what others took of it meanwhile."""

    def __init__(self, folder):
        self._cores = machine.use_cores(os.cpu_count())
        self._facts = machine.facts(self._cores)
        self._facts |= {"etcd": machine.first_line([etcd.PROGRAM, "--version"]), "fdatasync_us": rounded(_fdatasync_microseconds(folder))}
        self._busy, self._own, self._began = machine.busy_seconds(self._cores), machine.own_seconds(), time.monotonic()

    def record(self):
        """Once everything that was started has ended: its time is among this process's children's then."""
        capacity = len(self._cores) * (time.monotonic() - self._began)
        others = machine.busy_seconds(self._cores) - self._busy - (machine.own_seconds() - self._own)
        return {"others_cpu_percent": round(100 * max(0.0, others) / capacity, 1), "machine": self._facts,
                "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds")}


def _fdatasync_microseconds(folder):
    """The median of a small append and its fdatasync: the floor of a write that is kept."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(100):
            start = time.perf_counter()
            os.write(file.fileno(), bytes(256))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def median(values):
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def rounded(value):
    return None if value is None else float(f"{value:.4g}")


def shown(value, width, places=0):
    return f"{'-' if value is None else format(value, f',.{places}f'):>{width}}"


def report(name, line, failures):
    """The last line of standard output; what went wrong, and the exit status that says so."""
    for failure in failures:
        print(f"{name}: {failure}", file=sys.stderr)
    print(json.dumps(line))
    return 1 if failures else 0


def run(main):
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
