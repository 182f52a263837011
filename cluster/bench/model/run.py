#!/usr/bin/env python3
"""The network that makes hash codes beside PyTorch and ONNX Runtime: in turns, on the same cores, in one run.

The last line of standard output is one JSON object; cluster/bench/model/README.md says what its keys mean.
Exits 1 where a side could not be measured."""
import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import machine  # noqa: E402

# Ours over theirs; latencies the other way round.
RATIOS = {"vs_torch_latency_1": ("torch_latency_1_ms", "latency_1_ms", 2.0),
          "vs_ort_latency_1": ("ort_latency_1_ms", "latency_1_ms", 1.0),
          "vs_torch_infer_32": ("infer_images_per_s", "torch_infer_images_per_s", 1.5),
          "vs_ort_infer_32": ("infer_images_per_s", "ort_infer_images_per_s", None),
          "vs_torch_train_32": ("train_images_per_s", "torch_train_images_per_s", 1.3)}
FRACTION_GOAL = 0.5
# A run of either side, which measures four things.
TIMEOUT_SECONDS = 600


def measured(command, environment):
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, env={**os.environ, **environment})
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise RuntimeError(f"{pathlib.Path(command[0]).name} ended with {done.returncode}: {lines[-1] if lines else 'no reason given'}")
    return json.loads(done.stdout.splitlines()[-1])


def rounded(value):
    return float(f"{value:.4g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(HERE.parents[2] / ".build/release/sfmedir"), help="the sfmedir to measure")
    parser.add_argument("--net", default="atto40", choices=["atto40", "small32"])
    parser.add_argument("--size", type=int, default=128, help="of the pictures; default 128")
    parser.add_argument("--threads", type=int, default=1, help="of every side; default 1")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="at least so long for each figure")
    options = parser.parse_args()
    cores = machine.use_cores(max(1, options.threads))
    facts = machine.facts(cores)
    busy, own, began = machine.busy_seconds(cores), machine.own_seconds(), time.monotonic()
    shape = ["--net", options.net, "--size", str(options.size), "--threads", str(options.threads), "--seconds", str(options.seconds)]
    sides = [
        ("ours", [options.program, "bench", "model", "--json", *shape], {"OPENBLAS_NUM_THREADS": "1"}),
        ("PyTorch and ONNX Runtime", [str(HERE / ".build-python/bin/python3"), str(HERE / "peers.py"), *shape], {}),
    ]
    rounds = []
    for number in range(options.rounds):
        figures = {}
        # Neither side is always the one that finds the processor warm.
        for name, command, environment in sides if number % 2 == 0 else reversed(sides):
            print(f"bench-model: round {number + 1} of {options.rounds}, {name}", file=sys.stderr)
            figures |= measured(command, environment)
        rounds.append(figures)
    capacity = len(cores) * (time.monotonic() - began)
    others = machine.busy_seconds(cores) - busy - (machine.own_seconds() - own)

    def median(key):
        return statistics.median(figures[key] for figures in rounds)

    keys = ["latency_1_ms", "infer_images_per_s", "train_images_per_s", "attack_ms", "train_gflops", "sgemm_gflops",
            "torch_latency_1_ms", "torch_infer_images_per_s", "torch_train_images_per_s", "ort_latency_1_ms", "ort_infer_images_per_s"]
    # Of each round: what slows the machine down slows both sides of one.
    line = {ratio: rounded(statistics.median(figures[over] / figures[under] for figures in rounds))
            for ratio, (over, under, _) in RATIOS.items()}
    line["gflops_fraction"] = rounded(median("gflops_fraction"))
    line |= {key: rounded(median(key)) for key in keys}
    line |= {"net": options.net, "size": options.size, "batch": 32, "threads": options.threads, "rounds": options.rounds,
             "torch": rounds[0]["torch"], "onnxruntime": rounds[0]["onnxruntime"],
             "others_cpu_percent": round(100 * max(0.0, others) / capacity, 1), "machine": facts,
             "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds")}

    print(f"{options.net}, {options.size} x {options.size}, {options.threads} thread(s), medians of {options.rounds} rounds")
    print(f"{'':24}{'ours':>10}{'PyTorch':>10}{'ONNX RT':>10}")
    for name, our, torch_key, ort_key in [
            ("one picture, ms", "latency_1_ms", "torch_latency_1_ms", "ort_latency_1_ms"),
            ("batch of 32, pictures/s", "infer_images_per_s", "torch_infer_images_per_s", "ort_infer_images_per_s"),
            ("training, pictures/s", "train_images_per_s", "torch_train_images_per_s", None)]:
        cells = [format(line[key], ".1f") if key else "-" for key in (our, torch_key, ort_key)]
        print(f"{name:24}" + "".join(f"{cell:>10}" for cell in cells))
    print()
    for name, goal in [(ratio, goal) for ratio, (_, _, goal) in RATIOS.items()] + [("gflops_fraction", FRACTION_GOAL)]:
        print(f"{name:24}{line[name]:>10.2f}" + (f"   goal {goal}" if goal else ""))
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, subprocess.TimeoutExpired, ValueError, KeyError) as problem:
        print(f"bench-model: {problem}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
