#!/usr/bin/env bash
# Trains the networks of Models/ for three sets of pictures and both splits: models.sh DATA OUT [NAME ...].
# DATA has folders tmri, amri and kct, each with manifest.csv. Each training has a folder OUT/NAME; all lengths of codes of
# one stage become one file in OUT/Models, in half precision where no code changes. A training takes one core, and as many
# run at once as there are cores: two of one thread get further than one of two. Some begin with the parameters of
# another. Goes on where it was broken off.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
export SFMEDIR_PROGRAM=${SFMEDIR_BIN:-$root/.build/release}/sfmedir
first=(tmri-random-begin tmri-group-clean tmri-random-clean amri-random kct-random)
second=(tmri-group-adversarial tmri-random-adversarial amri-group kct-group)
names=("${first[@]}" "${second[@]}")

# One training: models.sh --one DATA OUT NAME.
train() {
  local data=$1 out=$2 name=$3 stage set split
  IFS=- read -r set split stage <<<"$name"
  # Of an option that comes twice, the last counts.
  local options=(--seed 1 --threads 1 --class-codes equidistant --loss central --adversarial-loss central
    --rate 2e-3 --adversarial-rate 1.5e-3 --average-decay 0.999)
  local begin=$out/tmri-random-begin.safetensors
  local still=(--rotation 0 --shift 0 --zoom 0 --contrast 0 --brightness 0)
  local little=(--rotation 5 --shift 0.03 --zoom 0.05 --contrast 0.1 --brightness 0.02)
  local more=(--rotation 8 --shift 0.05 --zoom 0.08 --contrast 0.15 --brightness 0.03)
  # Wider than the 8/255 within which attacks are measured: what withstands the wider ones withstands those.
  local wide=(--attack-radius 12 --attack-step-size 5)
  local lengths=(--bits '8,16,32,64')
  case $name in
    tmri-random-begin) options+=("${lengths[@]}" "${little[@]}" --epochs 60 --adversarial-epochs 170) ;;
    tmri-random-adversarial)
      options+=("${lengths[@]}" "${little[@]}" "${wide[@]}" --epochs 0 --adversarial-epochs 25
        --adversarial-rate 7e-4 --average-decay 0.998 --init "$begin")
      ;;
    tmri-group-adversarial)
      options+=("${lengths[@]}" "${little[@]}" "${wide[@]}" --epochs 0 --adversarial-epochs 60
        --init "$out/Models/tmri-group-clean.safetensors")
      ;;
    tmri-*-clean) options+=("${lengths[@]}" "${more[@]}" --epochs 80 --adversarial-epochs 0) ;;
    # Slices beside those that are asked for are in the database: what moves pictures hides that.
    amri-random) options+=(--bits 16 --epochs 30 --adversarial-epochs 60 "${still[@]}") ;;
    kct-random) options+=(--bits 16 --no-flip --epochs 10 --adversarial-epochs 30 "${still[@]}") ;;
    # Few persons to learn from: more epochs and smaller changes would learn them by heart.
    amri-group) options+=(--bits 16 --epochs 12 --adversarial-epochs 30 --rate 1e-3 --init "$begin") ;;
    kct-group) options+=(--bits 16 --no-flip --epochs 12 --adversarial-epochs 24 --rate 1e-3 --init "$begin") ;;
  esac
  if [ -e "$out/$name/checkpoint.safetensors" ]; then options+=(--resume); fi
  printf '%s begins\n' "$name" >&2
  OPENBLAS_NUM_THREADS=1 "$SFMEDIR_PROGRAM" model train --data "$data/$set" --split "$split" --out "$out/$name" \
    "${options[@]}" >>"$out/$name.txt" 2>&1
  if [ "$stage" = begin ]; then
    compact "$out/$name.safetensors" "$out/$name"/adversarial-*.safetensors
  else
    for stage in ${stage:-clean adversarial}; do
      compact "$out/Models/$set-$split-$stage.safetensors" "$out/$name/$stage"-*.safetensors
    done
  fi
  printf '%s is trained\n' "$name" >&2
}

# compact TARGET FILE ...: one file of FILEs, smaller if all train pictures keep their codes. Of train's own variables.
compact() {
  local target=$1 status=0
  shift
  local command=(model compact "$@" --data "$data/$set" --out "$target")
  rm -f "$target"
  "$SFMEDIR_PROGRAM" "${command[@]}" >>"$out/$name.txt" 2>&1 || status=$?
  # 1: codes would change.
  if [ "$status" = 1 ]; then
    "$SFMEDIR_PROGRAM" "${command[@]}" --single >>"$out/$name.txt" 2>&1
  elif [ "$status" != 0 ]; then
    return "$status"
  fi
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
