#!/usr/bin/env bash
# What a federation costs: trains one network on pooled pictures of tumours and one by three clients that hold a third of
# them each, alike in all else, and measures both: federated.sh DATA OUT. DATA is the folder with manifest.csv. Goes on
# where it was broken off; half an hour on two cores.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
program=${SFMEDIR_BIN:-$root/.build/release}/sfmedir
if [ $# -ne 2 ]; then
  printf 'federated.sh DATA OUT\n' >&2
  exit 64
fi
data=$1 out=$2
mkdir -p "$out"

train() {
  local name=$1 resume=()
  shift
  if [ -e "$out/$name/checkpoint.safetensors" ]; then resume=(--resume); fi
  OPENBLAS_NUM_THREADS=1 "$program" model train --data "$data" --split random --bits 16 --out "$out/$name" \
    --seed 1 --threads 1 --epochs 40 --adversarial-epochs 30 \
    --class-codes equidistant --loss central --adversarial-loss central --average-decay 0.999 \
    --rate 2e-3 --adversarial-rate 1.5e-3 \
    --rotation 5 --shift 0.03 --zoom 0.05 --contrast 0.1 --brightness 0.02 \
    "$@" "${resume[@]}" >>"$out/$name.txt" 2>&1
}

train pooled &
pooled=$!
# A background job does not hear Ctrl-C; with SIGTERM a training writes its checkpoint and ends.
trap 'kill "$pooled" 2>/dev/null || true; wait "$pooled" 2>/dev/null || true' EXIT
train clients --clients 3
wait "$pooled"
trap - EXIT
OPENBLAS_NUM_THREADS=1 "$program" model eval "$out"/{pooled,clients}/{clean,adversarial}-16.safetensors \
  --data "$data" --json >"$out/federated.json"
python3 - "$out/federated.json" <<'END'
import json
import sys

rows = [json.loads(line) for line in open(sys.argv[1])]
pooled, clients = rows[:2], rows[2:]
print(f"{'mAP@100':<40}{'pooled':>8}{'3 clients':>11}{'loss':>8}")
for stage, one, three in zip(("clean training", "adversarial training"), pooled, clients):
    for what, key in (("clean", "map_at_100"), ("attacked", "adversarial_map_at_100")):
        name = f"{stage}, {what} queries"
        print(f"{name:<40}{one[key]:>8.3f}{three[key]:>11.3f}{one[key] - three[key]:>8.3f}")
END
