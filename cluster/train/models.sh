#!/usr/bin/env bash
# Trains networks for three sets of pictures and both splits: models.sh DATA OUT [NAME ...], NAME as in tmri-random.
# All lengths of codes of one training become one file in OUT/Models, in half precision where no code changes. DATA has folders tmri, amri
# and kct, each with manifest.csv. Every training takes one core, and as many run at once as there are cores: two of one
# thread get further than two threads on one. Goes on where it was broken off.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
export SFMEDIR_PROGRAM=${SFMEDIR_BIN:-$root/.build/release}/sfmedir
# The second ones begin with the network that tells tumours apart: there are few persons to learn from.
first=(tmri-random amri-random kct-random tmri-group) second=(amri-group kct-group)
names=("${first[@]}" "${second[@]}")

# One training: models.sh --one DATA OUT NAME.
train() {
  local data=$1 out=$2 name=$3
  local set=${name%-*} split=${name#*-} resume=()
  local options=(--seed 1 --threads 1
    --class-codes equidistant --loss central --adversarial-loss central --average-decay 0.999
    --rate 2e-3 --adversarial-rate 1.5e-3)
  local begin=$out/Models/tmri-random-adversarial.safetensors
  local still=(--rotation 0 --shift 0 --zoom 0 --contrast 0 --brightness 0)
  local moved=(--rotation 5 --shift 0.03 --zoom 0.05 --contrast 0.1 --brightness 0.02)
  case $name in
    tmri-random) options+=(--bits 8,16,32,64 --epochs 60 --adversarial-epochs 170 "${moved[@]}") ;;
    tmri-group) options+=(--bits 8,16,32,64 --epochs 60 --adversarial-epochs 110 "${moved[@]}") ;;
    # Slices beside those that are asked for are in the database: what moves pictures hides that.
    amri-random) options+=(--bits 16 --epochs 30 --adversarial-epochs 60 "${still[@]}") ;;
    kct-random) options+=(--bits 16 --no-flip --epochs 10 --adversarial-epochs 30 "${still[@]}") ;;
    # More epochs and smaller changes would learn the few persons by heart.
    amri-group) options+=(--bits 16 --epochs 12 --adversarial-epochs 30 --rate 1e-3 --init "$begin") ;;
    kct-group) options+=(--bits 16 --no-flip --epochs 12 --adversarial-epochs 24 --rate 1e-3 --init "$begin") ;;
  esac
  if [ -e "$out/$name/checkpoint.safetensors" ]; then resume=(--resume); fi
  printf '%s begins\n' "$name" >&2
  OPENBLAS_NUM_THREADS=1 "$SFMEDIR_PROGRAM" model train --data "$data/$set" --split "$split" --out "$out/$name" \
    "${options[@]}" "${resume[@]}" >>"$out/$name.txt" 2>&1
  local stage compact
  for stage in clean adversarial; do
    compact=(model compact "$out/$name/$stage"-*.safetensors --data "$data/$set"
      --out "$out/Models/$name-$stage.safetensors")
    local status=0
    "$SFMEDIR_PROGRAM" "${compact[@]}" >>"$out/$name.txt" 2>&1 || status=$?
    # 1: codes would change.
    if [ "$status" = 1 ]; then
      "$SFMEDIR_PROGRAM" "${compact[@]}" --single >>"$out/$name.txt" 2>&1
    elif [ "$status" != 0 ]; then
      return "$status"
    fi
  done
  printf '%s is trained\n' "$name" >&2
}

if [ "${1:-}" = --one ]; then
  train "$2" "$3" "$4"
  exit
fi
if [ $# -lt 2 ]; then
  printf 'models.sh DATA OUT [NAME ...], NAME one of: %s\n' "${names[*]}" >&2
  exit 64
fi
data=$1 out=$2
shift 2
mkdir -p "$out/Models"
for name in "$@"; do
  if [[ " ${names[*]} " != *" $name "* ]]; then
    printf 'models.sh: there is no %s, only: %s\n' "$name" "${names[*]}" >&2
    exit 64
  fi
done
for wave in "${first[*]}" "${second[*]}"; do
  for name in $wave; do
    if [ $# -eq 0 ] || [[ " $* " == *" $name "* ]]; then printf '%s\n' "$name"; fi
  done | xargs -r -P "$(nproc)" -n 1 "$0" --one "$data" "$out"
done
