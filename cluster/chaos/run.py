#!/usr/bin/env python3
"""Real daemons, each in a network namespace of its own, under real faults; what clients saw is checked.

Plays scenarios (texts in scenarios/), one after another. At the end of each, faults are taken back,
all voters have to agree, every acknowledged image is fetched and compared, and the histories of all
images are checked for linearizability. Needs root, iproute2, nftables and util-linux.

JSON: a line {"type":"scenario"} for each with name, operations, unknown (operations of unknown
outcome), elections, linearizability_violations and acknowledged_images_lost (of how many images; those
that a canary has to show are not counted), seconds, problems, remarks, verdict; then one line
{"type":"summary"} with scenarios, passed, failed, failed_scenarios (a list of names), operations,
unknown, elections, linearizability_violations, acknowledged_images_lost, seconds, seed, and skipped
(why nothing was played) where that is so.

Exit status: 0, 1 where something was lost, not linearizable or not as it should be, 2 where this
machine does not let us make namespaces (nothing was played; 0 with --ci), 64 usage, 130 interrupted.
"""
import argparse
import dataclasses
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time

import randomly
import scenario
from cluster import ClusterFailed, Programs, Template
from disks import compile_slow_fsync
from isolation import IMPOSSIBLE, Impossible, run_alone
from network import Network
from play import Play

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# What says most in two minutes.
CI = ["masters-cut-apart", "leader-killed", "one-way-mcs-1-to-mcs-2", "witness-lost-then-a-master", "leader-paused",
      "canary-all-forgotten"]
# There builds are debug builds, and others use the machine as well.
CI_PATIENCE = 4
USAGE = 64
SUMS = ("operations", "unknown", "elections", "linearizability_violations", "acknowledged_images_lost")
TEMPLATE = "template-"


class Parser(argparse.ArgumentParser):
    def error(self, message):
        # Not 2, which says that this machine makes no namespaces.
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"chaos: {message}\n")


def parse_arguments():
    first, _, rest = __doc__.partition("\n\n")
    parser = Parser(description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO",
                        help="names of scenarios or files; default: all in scenarios/")
    parser.add_argument("--list", action="store_true", help="what scenarios there are")
    parser.add_argument("--ci", action="store_true",
                        help=f"a few in about two minutes, with --patience {CI_PATIENCE}: {', '.join(CI)}; ends with 0, "
                             "and says so loudly, where no namespaces can be made")
    parser.add_argument("--random", action="store_true", help="a random mix of faults instead")
    parser.add_argument("--seconds", type=float, default=600, help="of --random; default 600")
    parser.add_argument("--seed", type=int, help="of --random and the clients; printed")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="each scenario N times")
    parser.add_argument("--patience", type=float, metavar="FACTOR",
                        help="what is expected within some time may take so many times longer; default 1")
    parser.add_argument("--allow-repeats", action="store_true",
                        help="a call may take effect twice before it is answered")
    parser.add_argument("--keep", action="store_true", help="keep logs and histories of all runs")
    parser.add_argument("--verbose", action="store_true", help="each sentence when it is played")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    if arguments.ci and (arguments.scenarios or arguments.random):
        parser.error("--ci has its own scenarios")
    if arguments.ci:
        arguments.scenarios = CI
    if arguments.patience is None:
        arguments.patience = CI_PATIENCE if arguments.ci else 1
    if arguments.patience <= 0 or arguments.repeat < 1:
        parser.error("--patience is above 0, and --repeat at least 1")
    return arguments


def find(names):
    """(name, text) of each."""
    files = [HERE / "scenarios" / f"{name}.scenario" for name in names] \
        or sorted(HERE.glob("scenarios/*.scenario"))
    for index, name in enumerate(names):
        if not files[index].exists():
            files[index] = pathlib.Path(name)
    return [(file.stem, file.read_text()) for file in files]


class Stage:
    """What all scenarios of a run share."""

    def __init__(self, programs, folder, arguments):
        self.programs = programs
        self.folder = folder
        self.is_verbose = arguments.verbose
        self.allows_repeats = arguments.allow_repeats
        self.patience = arguments.patience
        self._templates = {}
        self._library = None

    def template(self, slaves):
        if slaves not in self._templates:
            self._templates[slaves] = Template(
                self.programs, self.folder / f"{TEMPLATE}{slaves}", slaves)
        return self._templates[slaves]

    def slow_fsync(self):
        self._library = self._library or compile_slow_fsync(self.folder)
        return self._library

    def trace(self, text):
        if self.is_verbose:
            print(f"    {text}", file=sys.stderr, flush=True)


class Run:
    def __init__(self, arguments, programs):
        self.arguments = arguments
        self.programs = programs
        # Where a person looks for what is left of a failure.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="chaos-", dir=os.getcwd()))
        self.results = []
        self.is_broken_off = False
        self._began = time.monotonic()

    def play(self, name, text, seed):
        folder = self.folder / f"{len(self.results) + 1:02}-{name}"
        folder.mkdir()
        (folder / "scenario").write_text(text)
        result = Play(name, scenario.parse(text), self.stage, folder, seed).run()
        self.results.append(result)
        # Only here, by what is known to have passed: whatever else becomes of it, its logs and its history stay.
        if not result.problems and not self.arguments.keep:
            shutil.rmtree(folder)
        self.report(result, folder)

    def report(self, result, folder):
        if self.arguments.json:
            print(json.dumps({"type": "scenario", **dataclasses.asdict(result),
                              "seconds": round(result.seconds, 1), "verdict": result.verdict}),
                  flush=True)
            return
        print(f"{result.name:34} {result.operations:5} {result.unknown:7} {result.elections:9} "
              f"{result.seconds:7.1f}  {result.verdict}", flush=True)
        for problem in result.problems[:20]:
            print(f"    {problem}", flush=True)
        if result.problems:
            print(f"    logs and history: {folder}", flush=True)
        for remark in result.remarks if self.arguments.verbose else []:
            print(f"    ({remark})", flush=True)

    def body(self):
        """In namespaces of its own. Impossible where nothing could begin, and only there."""
        self.probe()
        try:
            self.stage = Stage(self.programs, self.folder, self.arguments)
            if not self.arguments.json:
                print(f"{'scenario':34} {'calls':>5} unknown elections seconds  verdict")
            if self.arguments.random:
                self.play_random()
            else:
                for name, text in find(self.arguments.scenarios):
                    for again in range(self.arguments.repeat):
                        self.play(name, text, self.arguments.seed + again)
        except (ClusterFailed, Impossible) as problem:
            print(f"chaos: {problem}", file=sys.stderr)
            self.is_broken_off = True
        return self.summary()

    @staticmethod
    def probe():
        probe = Network(["probe-1", "probe-2"])
        probe.lose(50, [("probe-1", "probe-2")])
        probe.remove()

    def play_random(self):
        began = time.monotonic()
        number = 0
        while time.monotonic() - began < self.arguments.seconds:
            number += 1
            seed = f"{self.arguments.seed}/{number}"
            self.play(f"random-{self.arguments.seed}-{number}", randomly.scenario(seed),
                      self.arguments.seed + number)

    def summary(self, skipped=None):
        failed = [result.name for result in self.results if result.problems]
        sums = {key: sum(getattr(result, key) for result in self.results) for key in SUMS}
        seconds = time.monotonic() - self._began
        if self.arguments.json:
            print(json.dumps({"type": "summary", "scenarios": len(self.results), "passed": len(self.results) - len(failed),
                              "failed": len(failed), "failed_scenarios": failed, **sums, "seconds": round(seconds, 1),
                              "seed": self.arguments.seed, **({"skipped": skipped} if skipped else {})}), flush=True)
        elif not skipped:
            print(f"total: {len(self.results)} scenarios, {len(failed)} failed; {sums['operations']} calls, "
                  f"{sums['unknown']} of unknown outcome, {sums['elections']} elections, "
                  f"{sums['linearizability_violations']} histories not linearizable, "
                  f"{sums['acknowledged_images_lost']} acknowledged images lost, "
                  f"{seconds:.0f} s, seed {self.arguments.seed}", flush=True)
        return 1 if failed or self.is_broken_off else 0


def main():
    arguments = parse_arguments()
    try:
        scenarios = find(arguments.scenarios)
        for name, text in scenarios:
            try:
                scenario.parse(text)
            except scenario.ScenarioError as problem:
                raise ValueError(f"{name}: {problem}") from None
    except (OSError, ValueError) as problem:
        print(f"chaos: {problem}", file=sys.stderr)
        return USAGE
    if arguments.list:
        for name, text in scenarios:
            print(f"{name:34} {scenario.description(text)}")
        return 0
    if arguments.seed is None:
        arguments.seed = random.randrange(1 << 31) if arguments.random else 7
    folder = pathlib.Path(os.environ.get("SFMEDIR_BIN") or ROOT / ".build/release").resolve()
    checker = folder / "sfmedir-simulate"
    if not checker.exists():
        checker = ROOT / ".build-simulator/release/sfmedir-simulate"
    try:
        programs = Programs(folder, checker, os.environ.get("SFMEDIR_MODEL") or ROOT / "Models/default.safetensors")
    except ClusterFailed as problem:
        print(f"chaos: {problem}", file=sys.stderr)
        return USAGE
    run = Run(arguments, programs)
    try:
        status = run_alone(run.body)
    except Impossible as problem:
        print(f"chaos: {problem}", file=sys.stderr)
        status = IMPOSSIBLE
    tidy(run.folder)
    if status == IMPOSSIBLE:
        print("chaos: SKIPPED: NOTHING WAS PLAYED, this machine makes no network namespaces",
              file=sys.stderr)
        run.summary("no network namespaces")
        return 0 if arguments.ci else status
    if status not in (0, 1):
        print(f"chaos: broken off; logs and histories: {run.folder}", file=sys.stderr)
    return status


def tidy(folder):
    """What scenarios left stays; what they began from goes."""
    for template in folder.glob(f"{TEMPLATE}*"):
        shutil.rmtree(template)
    (folder / "slow_fsync.so").unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


if __name__ == "__main__":
    sys.exit(main())
