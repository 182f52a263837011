#!/usr/bin/env bash
# Trains networks for three sets of pictures and both splits: models.sh DATA OUT. Goes on where it was broken off.
# DATA has folders tmri, amri and kct, each with manifest.csv. One argument more trains only what it names: tmri-random.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
program=${SFMEDIR_BIN:-$root/.build/release}/sfmedir
if [ $# -lt 2 ]; then
  printf 'models.sh DATA OUT [NAME]\n' >&2
  exit 64
fi
data=$1 out=$2 only=${3:-}

common=(--seed 1 --threads 2 --epochs 40 --adversarial-epochs 110
  --class-codes equidistant --loss central --adversarial-loss central --average-decay 0.999
  --rate 2e-3 --adversarial-rate 1.5e-3
  --rotation 5 --shift 0.03 --zoom 0.05 --contrast 0.1 --brightness 0.02)

train() {
  local name=$1 set=$2 split=$3 bits=$4
  shift 4
  if [ -n "$only" ] && [ "$only" != "$name" ]; then return; fi
  local resume=()
  if [ -e "$out/$name/checkpoint.safetensors" ]; then resume=(--resume); fi
  printf 'models.sh: %s\n' "$name" >&2
  OPENBLAS_NUM_THREADS=1 "$program" model train --data "$data/$set" --split "$split" --bits "$bits" \
    --out "$out/$name" "${common[@]}" "$@" "${resume[@]}"
}

train tmri-random tmri random 8,16,32,64
train tmri-group tmri group 8,16,32,64
train kct-random kct random 16 --no-flip
train kct-group kct group 16 --no-flip
train amri-random amri random 16
train amri-group amri group 16
