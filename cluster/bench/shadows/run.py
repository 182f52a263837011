#!/usr/bin/env python3
"""Both shadow schemes beside zfec, ISA-L and the paper's algorithms in numpy: in turns, on one core, in one run.

The last line of standard output is one JSON object; cluster/bench/shadows/README.md says what its keys mean.
Exits 1 where a peer could not be measured: its figures are null then."""
import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import machine  # noqa: E402

SHARINGS = [(3, 5), (6, 10)]
SIZES = [512 << 10, 64 << 20]
SCHEMES = ["bai", "krawczyk"]
PEERS = ["zfec", "isal", "numpy"]
GOALS = {"bai_split_mbps": 250, "bai_join_mbps": 300, "krawczyk_split_mbps": 600,
         "krawczyk_split_without_digests_mbps": 1500}


def ours(program, scheme, cell, seconds):
    (threshold, shadows), byte_count = cell
    line = subprocess.run(
        [program, "bench", "shadows", "--json", "--scheme", scheme, "-r", str(threshold), "-s", str(shadows),
         "--bytes", str(byte_count), "--seconds", str(seconds)],
        check=True, capture_output=True, text=True, timeout=600).stdout.splitlines()[-1]
    measured = json.loads(line)["cells"][0]
    return {key.removesuffix("_mbps"): value for key, value in measured.items() if key.endswith("_mbps")}


def theirs(peer, cell, seconds, failures):
    (threshold, shadows), byte_count = cell
    code = f"import json, peers; print(json.dumps(peers.measure({peer!r}, {byte_count}, {threshold}, {shadows}, {seconds})))"
    # Debian's own: the libraries come from its packages.
    done = subprocess.run(["/usr/bin/python3", "-c", code], cwd=HERE, capture_output=True, text=True, timeout=600,
                          env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})
    if done.returncode == 0:
        return json.loads(done.stdout)
    why = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
    failures[peer] = why[0]
    return None


def median(values):
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def rounded(value):
    return None if value is None else float(f"{value:.4g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(HERE.parents[2] / ".build/release/sfmedir"), help="the sfmedir to measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="at least so long for each figure")
    options = parser.parse_args()
    core = machine.use_cores(1)
    facts = machine.facts(core)
    busy, own, began = machine.busy_seconds(core), machine.own_seconds(), datetime.datetime.now()
    failures, rounds = {}, {}
    for number in range(options.rounds):
        for sharing in SHARINGS:
            for size in SIZES:
                cell = (sharing, size)
                print(f"bench-shadows: round {number + 1} of {options.rounds}, {sharing}, {size >> 10} KiB", file=sys.stderr)
                for scheme in SCHEMES:
                    rounds.setdefault((cell, scheme), []).append(ours(options.program, scheme, cell, options.seconds))
                for peer in PEERS:
                    rounds.setdefault((cell, peer), []).append(theirs(peer, cell, options.seconds, failures))
    elapsed = (datetime.datetime.now() - began).total_seconds()
    others = max(0.0, machine.busy_seconds(core) - busy - (machine.own_seconds() - own)) / elapsed

    def figures(cell, name, what):
        return [one and one.get(what) for one in rounds[(cell, name)]]

    def ratio(cell, left, right, what):
        pairs = zip(figures(cell, left, what), figures(cell, right, what))
        return median([a / b for a, b in pairs if a and b])

    cells = [(sharing, size) for sharing in SHARINGS for size in SIZES]
    columns = ["split", "split_without_digests", "split_in_pieces", "join", "repair"]
    print(f"{'':<10} {'r, s':>6} {'size':>9} {'split':>8} {'no digest':>10} {'in pieces':>10} {'join':>8} {'repair':>8}   MB/s of secret, medians")
    table = []
    for cell in cells:
        for name in SCHEMES + PEERS:
            row = {what: rounded(median(figures(cell, name, what))) for what in columns}
            table.append({"name": name, "threshold": cell[0][0], "shadows": cell[0][1], "bytes": cell[1], **row})
            text = [f"{'-' if row[what] is None else format(row[what], ',.0f'):>{width}}"
                    for what, width in zip(columns, [8, 10, 10, 8, 8])]
            print(f"{name:<10} {cell[0][0]:>2}, {cell[0][1]:>2} {cell[1] >> 10:>5} KiB {' '.join(text)}")
    line = {}
    for scheme in SCHEMES:
        for what in ["split", "join", "repair"] + (["split_without_digests"] if scheme == "krawczyk" else []):
            line[f"{scheme}_{what}_mbps"] = rounded(min(median(figures(cell, scheme, what)) for cell in cells))
    for key, left, right in [("vs_zfec_split", "krawczyk", "zfec"), ("vs_numpy_split", "bai", "numpy")]:
        ratios = [ratio(cell, left, right, "split") for cell in cells]
        line[key] = None if None in ratios else rounded(min(ratios))
    line["goals"] = {key: {"goal": goal, "met": line[key] >= goal} for key, goal in GOALS.items()}
    line |= {"rounds": options.rounds, "cells": table, "failures": failures, "others_cpu_percent": round(100 * others, 1),
             "machine": facts,
             "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds")}
    print(json.dumps(line))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
