#!/usr/bin/env bash
# Trains the networks of Models/ for three sets of pictures and both splits: models.sh DATA OUT [NAME ...].
# DATA has folders tmri, amri and kct, each with manifest.csv. Each training has a folder OUT/NAME and says in OUT/NAME.txt how it
# goes; all lengths of codes of one stage become one file in OUT/Models, in half precision where no code changes, and
# OUT/NAME.safetensors where other trainings only begin with it. A training takes one core, and as many run at once as there are
# cores: two of one thread get further than one of two. Goes on where it was broken off.
# Exits 1 where a training failed, 64 where it was called wrongly.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
program=${SFMEDIR_BIN:-$root/.build/release}/sfmedir
# shellcheck source=cluster/train/running.sh
. "$here/running.sh"

first=(tmri-random-begin tmri-random-first tmri-group-clean amri-random kct-random)
second=(tmri-group-adversarial tmri-random-adversarial tmri-random-clean amri-group kct-group)
names=("${first[@]}" "${second[@]}")

# One training, and what becomes of it.
train() {
  local name=$1 stage set split
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
    tmri-random-clean)
      options+=("${lengths[@]}" "${more[@]}" --epochs 40 --adversarial-epochs 0 --rate 1e-3
        --init "$out/tmri-random-first.safetensors")
      ;;
    tmri-random-first | tmri-group-clean) options+=("${lengths[@]}" "${more[@]}" --epochs 80 --adversarial-epochs 0) ;;
    # Slices beside those that are asked for are in the database: what moves pictures hides that.
    amri-random) options+=(--bits 16 --epochs 30 --adversarial-epochs 60 "${still[@]}") ;;
    kct-random) options+=(--bits 16 --no-flip --epochs 10 --adversarial-epochs 30 "${still[@]}") ;;
    # Few persons to learn from: more epochs and smaller changes would learn them by heart.
    amri-group) options+=(--bits 16 --epochs 12 --adversarial-epochs 12 --rate 1e-3 --init "$begin") ;;
    kct-group) options+=(--bits 16 --no-flip --epochs 12 --adversarial-epochs 12 --rate 1e-3 --init "$begin") ;;
  esac
  if [ -e "$out/$name/checkpoint.safetensors" ]; then options+=(--resume); fi
  printf '%s begins\n' "$name" >&2
  run "$out/$name.txt" "$program" model train --data "$data/$set" --split "$split" --out "$out/$name" "${options[@]}"
  case $stage in
    begin) compact "$out/$name.safetensors" "$out/$name"/adversarial-*.safetensors ;;
    first) compact "$out/$name.safetensors" "$out/$name"/clean-*.safetensors ;;
    *)
      for stage in ${stage:-clean adversarial}; do
        compact "$out/Models/$set-$split-$stage.safetensors" "$out/$name/$stage"-*.safetensors
      done
      ;;
  esac
  printf '%s is trained\n' "$name" >&2
}

# compact TARGET FILE ...: one file of FILEs, and a smaller one if all pictures keep their codes. Of train's own variables.
compact() {
  local target=$1 status=0
  shift
  local command=("$program" model compact "$@" --data "$data/$set" --out "$target")
  run "$out/$name.txt" "${command[@]}" || status=$?
  # 1: codes would change.
  if [ "$status" = 1 ]; then
    run "$out/$name.txt" "${command[@]}" --single
  elif [ "$status" != 0 ]; then
    return "$status"
  fi
}

if [ $# -lt 2 ]; then
  printf 'models.sh DATA OUT [NAME ...], NAME one of: %s\n' "${names[*]}" >&2
  exit 64
fi
data=$1 out=$2
shift 2
for wanted in "$@"; do
  for name in "${names[@]}"; do
    if [ "$name" = "$wanted" ]; then continue 2; fi
  done
  printf 'models.sh: there is no %s, only: %s\n' "$wanted" "${names[*]}" >&2
  exit 64
done
mkdir -p "$out/Models"
export OPENBLAS_NUM_THREADS=1

failed=0 running=0
one_less() {
  wait -n || failed=1
  running=$((running - 1))
}
for wave in "${first[*]}" "${second[*]}"; do
  for name in $wave; do
    if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
    if [ "$running" -ge "$(nproc)" ]; then one_less; fi
    # Not with '||' behind it: a command that fails would no longer end the training then.
    (
      trap '' HUP INT
      trap - TERM
      trap '[ $? = 0 ] || told "$name" "$out/$name.txt"' EXIT
      train "$name"
    ) &
    running=$((running + 1))
  done
  while [ "$running" -gt 0 ]; do one_less; done
  if [ "$failed" = 1 ] && [ "$wave" = "${first[*]}" ]; then
    printf 'models.sh: a training failed: those that may begin with its network were not begun\n' >&2
  fi
  [ "$failed" = 0 ] || exit 1
done
