#!/usr/bin/env bash
# What a federation costs: trains one network on pooled pictures of tumours and one by three clients that hold a third of
# them each, alike in all else, and measures both: federated.sh DATA OUT. DATA is the folder with manifest.csv. OUT gets a
# folder for each training, OUT/pooled.txt and OUT/clients.txt that say how they go, and federated.json with the figures. Goes
# on where it was broken off; some 80 minutes on two cores. Batches are small, as a client takes a third of the steps only.
# Exits 1 where a training or the measurement failed, 64 where it was called wrongly.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
program=${SFMEDIR_BIN:-$root/.build/release}/sfmedir
# shellcheck source=cluster/train/running.sh
. "$here/running.sh"

if [ $# -ne 2 ]; then
  printf 'federated.sh DATA OUT\n' >&2
  exit 64
fi
data=$1 out=$2
mkdir -p "$out"
export OPENBLAS_NUM_THREADS=1

train() {
  local name=$1 resume=()
  shift
  if [ -e "$out/$name/checkpoint.safetensors" ]; then resume=(--resume); fi
  run "$out/$name.txt" "$program" model train --data "$data" --split random --bits 16 --out "$out/$name" \
    --seed 1 --threads 1 --batch 16 --epochs 60 --adversarial-epochs 80 \
    --class-codes equidistant --loss central --adversarial-loss central --average-decay 0.999 \
    --rate 2e-3 --adversarial-rate 1.5e-3 \
    --rotation 5 --shift 0.03 --zoom 0.05 --contrast 0.1 --brightness 0.02 \
    "$@" "${resume[@]}"
}

for name in pooled clients; do
  more=()
  if [ "$name" = clients ]; then more=(--clients 3); fi
  (
    trap '' HUP INT
    trap - TERM
    trap '[ $? = 0 ] || told "$name" "$out/$name.txt"' EXIT
    train "$name" "${more[@]}"
  ) &
done
# The first that fails ends the other one.
wait -n || exit 1
wait -n || exit 1
run "$out/eval.txt" "$program" model eval "$out"/{pooled,clients}/{clean,adversarial}-16.safetensors \
  --data "$data" --figures "$out/federated.json" || {
  told "the measurement" "$out/eval.txt"
  exit 1
}
python3 - "$out/federated.json" <<'END'
import json
import sys

rows = [json.loads(line) for line in open(sys.argv[1])]
for remark in sorted({remark for row in rows for remark in row["remarks"]}):
    print(f"note: {remark}", file=sys.stderr)
pooled, clients = rows[:2], rows[2:]
print(f"{'mAP@100':<40}{'pooled':>8}{'3 clients':>11}{'loss':>8}")
for stage, one, three in zip(("clean training", "adversarial training"), pooled, clients):
    for what, key in (("clean", "map_at_100"), ("attacked", "adversarial_map_at_100")):
        name = f"{stage}, {what} queries"
        print(f"{name:<40}{one[key]:>8.3f}{three[key]:>11.3f}{one[key] - three[key]:>8.3f}")
END
