#!/usr/bin/env python3
"""Our replicated masters beside etcd, in alternating rounds of one run: writes and linearizable reads a second.

The last line of standard output is one JSON object; cluster/bench/masters/README.md says what its keys mean.
Exits 1 where a side could not be measured: its figures are null then."""
import argparse
import subprocess
import sys

import etcd
import measuring
from measuring import median, rounded, shown

LOAD = measuring.HERE / ".build-etcd-load/etcd-load"
CALLERS = [1, 16, 64]
KINDS = {"puts": "put", "reads": "range"}
FIGURES = ["calls_per_s", "p50_us", "p99_us"]
GOALS = {"vs_etcd_puts_1": 1.2, "vs_etcd_puts_16": 2.0, "vs_etcd_puts_64": 2.5}
ROWS = {"ours": "ours", "leader": "etcd, at the leader", "spread": "etcd, spread"}


def our_round(options, folder, failures):
    """{(kind, callers): figures}; what could not be measured is missing."""
    cells = {}
    try:
        measured = measuring.ours(
            options.program, ["bench", "metadata", "--json", "--callers", ",".join(map(str, CALLERS)),
                              "--seconds", f"{options.seconds:g}"], folder, 300 + 20 * options.seconds)
        for kind in KINDS:
            for cell in measured[kind]:
                if cell["errors"] or not cell["calls_per_s"]:
                    failures.append(f"ours: {kind} by {cell['callers']}: {cell['errors']} errors")
                else:
                    cells[kind, cell["callers"]] = {figure: cell[figure] for figure in FIGURES}
    except measuring.ProgramFailed as problem:
        failures.append(f"ours: {problem}")
    except (KeyError, TypeError) as problem:
        failures.append(f"ours: the last line is not as agreed: {problem!r}")
    for kind in KINDS:
        failures += [f"ours: no {kind} by {count}" for count in CALLERS if cells and (kind, count) not in cells]
    return cells


def load(options, kind, ports, callers, connections):
    """One run of the load on etcd; returns its figures."""
    done = subprocess.run(
        [LOAD, KINDS[kind], "--ports", ",".join(map(str, ports)), "--callers", str(callers),
         "--connections", str(connections), "--seconds", str(options.seconds), "--warmup", str(options.warmup),
         "--key-bytes", str(options.key_bytes), "--value-bytes", str(options.value_bytes)],
        capture_output=True, text=True, timeout=60 + options.seconds + options.warmup)
    figures = measuring.last_object(done.stdout, "etcd-load") if done.returncode == 0 else None
    if figures is None or figures["errors"] or not figures["calls"]:
        why = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise measuring.ProgramFailed(f"{kind} by {callers}: {why[0]}")
    return {figure: figures[figure] for figure in FIGURES}


def etcd_round(options, folder, failures):
    """{(side, kind, callers): figures}, on a cluster of its own, so that each round finds an empty store."""
    cells = {}
    try:
        with etcd.Cluster(folder) as cluster:
            for kind in KINDS:
                for callers in CALLERS:
                    leader = cluster.wait_until_healthy()
                    cells["leader", kind, callers] = load(options, kind, [cluster.ports[leader]], callers, min(callers, 4))
                    if cluster.leader() != leader:
                        failures.append(f"etcd: another member led after {kind} by {callers}")
                    cells["spread", kind, callers] = load(options, kind, cluster.ports, callers, etcd.MEMBERS)
    except (etcd.EtcdFailed, measuring.ProgramFailed, OSError, subprocess.TimeoutExpired) as problem:
        failures.append(f"etcd: {problem}")
    return cells


def one_round(options, folder, number, failures):
    """Who is second finds the machine as the first has left it: they take turns at that."""
    cells = {}
    for side in ["ours", "etcd"] if number % 2 == 0 else ["etcd", "ours"]:
        print(f"bench-metadata: round {number + 1} of {options.rounds}, {side}", file=sys.stderr)
        if side == "etcd":
            cells |= etcd_round(options, folder, failures)
        else:
            cells |= {("ours", *key): figures for key, figures in our_round(options, folder, failures).items()}
    for kind in KINDS:
        for callers in CALLERS:
            both = [cells[side, kind, callers] for side in ["leader", "spread"] if (side, kind, callers) in cells]
            # Only with both of them is the better one known.
            if len(both) == 2:
                cells["best", kind, callers] = max(both, key=lambda figures: figures["calls_per_s"])
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measuring.add_options(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="for each figure; default 3")
    parser.add_argument("--warmup", type=float, default=1, help="before each of etcd's; default 1 s")
    parser.add_argument("--key-bytes", type=int, default=16, help="of etcd's keys; default 16")
    parser.add_argument("--value-bytes", type=int, default=64, help="of etcd's values; default 64, what our write carries")
    options = parser.parse_args()
    failures = []
    with measuring.folder_on_disk(options) as folder:
        surroundings = measuring.Surroundings(folder)
        rounds = [one_round(options, folder, number, failures) for number in range(options.rounds)]
        record = surroundings.record()

    def medians(side, kind, callers):
        found = [cells[side, kind, callers] for cells in rounds if (side, kind, callers) in cells]
        return {figure: rounded(median([one[figure] for one in found])) for figure in FIGURES}

    line, ratios, table = {}, {}, []
    print(f"{'':<20} {'':<5} {'callers':>7} {'calls/s':>9} {'p50 us':>9} {'p99 us':>9} {'ours/best':>10}   medians of {options.rounds} rounds")
    for kind in KINDS:
        for callers in CALLERS:
            pairs = [(cells.get(("ours", kind, callers)), cells.get(("best", kind, callers))) for cells in rounds]
            ratios[f"{kind}_{callers}"] = [rounded(a["calls_per_s"] / b["calls_per_s"]) for a, b in pairs if a and b]
            ratio = line[f"vs_etcd_{kind}_{callers}"] = rounded(median(ratios[f"{kind}_{callers}"]))
            for side, name in ROWS.items():
                row = medians(side, kind, callers)
                table.append({"side": side, "kind": kind, "callers": callers, **row})
                numbers = " ".join(shown(row[figure], 9) for figure in FIGURES)
                print(f"{name:<20} {kind:<5} {callers:>7} {numbers}" + (f" {shown(ratio, 10, 2)}" if side == "ours" else ""))
            for prefix, side in [("our", "ours"), ("etcd", "best")]:
                row = medians(side, kind, callers)
                line |= {f"{prefix}_{kind}_{'per_s' if figure == 'calls_per_s' else figure}_{callers}": row[figure] for figure in FIGURES}
    line["goals"] = {key: {"goal": goal, "met": line[key] is not None and line[key] >= goal} for key, goal in GOALS.items()}
    line |= {"rounds": options.rounds, "seconds": options.seconds, "key_bytes": options.key_bytes,
             "value_bytes": options.value_bytes, "ratios": ratios, "cells": table, "failures": failures, **record}
    return measuring.report("bench-metadata", line, failures)


if __name__ == "__main__":
    measuring.run(main)
