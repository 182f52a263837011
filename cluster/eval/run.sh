#!/usr/bin/env bash
# Measures the models of Models/ on the pictures of DATA, as docs/results.md has them: nothing is trained.
# DATA has folders tmri, amri and kct, or tmri.tar, amri.tar and kct.tar; each with manifest.csv. Tables, curves and figures
# go to OUT (default: eval), in place of earlier ones. It takes some 70 minutes on two cores: every test picture is attacked twice for each
# length of codes. A set whose pictures are not there is skipped, which is said.
# Exits 1 where a set could not be measured, 64 where there is nothing to measure, 130 after Ctrl-C.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
program=${SFMEDIR_BIN:-$root/.build/release}/sfmedir
data=${1:-} out=${2:-eval}

say() { printf 'eval: %s\n' "$*" >&2; }

if [ -z "$data" ] || [ ! -d "$data" ]; then
  say "say where the pictures are: make eval DATA=FOLDER, with tmri, amri and kct in it"
  exit 64
fi
mkdir -p "$out"
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

if ! compgen -G "$root/Models/[tak]*-*.safetensors" >/dev/null; then
  say "Models/ has no models of tmri, amri or kct yet; 'sfmedir model eval FILE --data DIR' measures any other"
  exit 64
fi
found=0 failed=0
for set in tmri amri kct; do
  models=("$root/Models/$set"-*.safetensors)
  [ -e "${models[0]}" ] || continue
  folder=$data/$set
  if [ ! -d "$folder" ] && [ -f "$data/$set.tar" ]; then
    if ! tar -C "$temporary" -xf "$data/$set.tar"; then
      say "$data/$set.tar cannot be unpacked"
      failed=1
      continue
    fi
    folder=$temporary/$set
  fi
  if [ ! -d "$folder" ]; then
    say "SKIPPED: there is no $data/$set, its models were not measured"
    continue
  fi
  found=1
  rm -f "$out/$set".{md,svg,json}
  status=0
  OPENBLAS_NUM_THREADS=1 "$program" model eval "${models[@]}" --data "$folder" \
    --markdown "$out/$set.md" --plot "$out/$set.svg" --figures "$out/$set.json" || status=$?
  if [ "$status" -ge 128 ]; then exit "$status"; fi
  if [ "$status" != 0 ]; then
    say "$set was not measured"
    failed=1
  fi
done
if [ "$found" = 0 ]; then
  say "none of tmri, amri and kct is in $data"
  exit 64
fi
say "tables and curves are in $out"
exit "$failed"
