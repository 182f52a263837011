#!/usr/bin/env bash
# The whole of SFMedIR once, on this machine: a cluster of real daemons, images stored while a slave dies,
# similar images found, every original fetched and compared, one image deleted. Leaves nothing running.
#
# Usage: cluster/demo.sh            synthetic pictures
#        IMAGES=DIR cluster/demo.sh the images in DIR
# SFMEDIR_BIN: folder with built programs; else a release build is made.
# The demo's results stay in a folder demo-... in the current folder.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
slaves=5
phantoms=24
queries=4
work=
up=no

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' plain=$'\e[0m'
else
  bold='' plain=''
fi

step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }

fail() {
  printf 'demo: %s\n' "$*" >&2
  exit 1
}

cleanup() {
  local status=$?
  trap - EXIT INT TERM
  if [ "$up" = yes ]; then
    "$sfmedir" dev down --dir "$work/cluster" >&2 || status=1
  fi
  if [ -n "$work" ] && [ "$status" -ne 0 ]; then
    printf '\ndemo: failed; the logs are in %s/cluster/logs\n' "$work" >&2
  fi
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The value of a key in lines of --json output: a text without quotes and backslashes, a whole number.
text() { sed -n 's/.*"'"$1"'":"\([^"\\]*\)".*/\1/p'; }
number() { sed -n 's/.*"'"$1"'":\([0-9]*\)[,}].*/\1/p'; }

build() {
  if [ -n "${SFMEDIR_BIN:-}" ]; then
    sfmedir=$SFMEDIR_BIN/sfmedir
  else
    step 'Building (release)'
    local product
    for product in sfmedir sfmedir-kce sfmedir-mcs sfmedir-scs sfmedir-mo sfmedir-mu; do
      swift build --package-path "$root" -c release --product "$product"
    done
    sfmedir=$(swift build --package-path "$root" -c release --show-bin-path)/sfmedir
  fi
  [ -x "$sfmedir" ] || fail "$sfmedir cannot be run"
}

collect_images() {
  if [ -n "${IMAGES:-}" ]; then
    [ -d "$IMAGES" ] || fail "IMAGES=$IMAGES is not a folder"
    images=$(cd "$IMAGES" && pwd)
    printf 'images of %s\n' "$images"
  else
    images=$work/images
    "$sfmedir" phantom --out "$images" --count "$phantoms" --seed 7
  fi
}

start_cluster() {
  step "Starting a cluster: key control entity, master, $slaves slaves, owner, user"
  up=yes
  "$sfmedir" dev up --dir "$work/cluster" --slaves "$slaves"
  export SFMEDIR_CONFIG=$work/cluster/cli.toml
}

# The slave dies as soon as a third of the images is stored, in the middle of the upload.
store_and_kill() {
  step "Storing the images, and killing slave $victim in the middle of it"
  local log=$work/upload.json total stored status=0
  : >"$log"
  "$sfmedir" upload "$images" --recursive --json >"$log" 2>"$work/upload.errors" &
  local upload=$!
  total=$(find -L "$images" -type f ! -path '*/.*' | wc -l)
  while kill -0 "$upload" 2>/dev/null; do
    stored=$(grep -c '"status":"stored"' "$log" || true)
    [ $((stored * 3)) -ge "$total" ] && break
    sleep 0.05
  done
  if kill -0 "$upload" 2>/dev/null; then moment='during the upload'; else moment='after the upload'; fi
  "$sfmedir" dev kill --dir "$work/cluster" "$victim"
  wait "$upload" || status=$?
  cat "$work/upload.errors" >&2
  grep '"status":"failed"' "$log" | text error >&2 || true
  # What is no image is refused, and a person's folder may hold such files.
  refused=$(grep -c '"reason":"UndecodableImage"' "$log" || true)
  failed=$(grep -c '"status":"failed"' "$log" || true)
  [ "$failed" -eq "$refused" ] || fail "not every image was stored (exit code $status)"
  stored_count=$(grep '"type":"summary"' "$log" | number stored)
  printf '%s stored; %s was killed %s\n' "$stored_count images" "$victim" "$moment"
  "$sfmedir" upload "$images" --recursive
}

query_some() {
  step 'Finding the most similar images, with the slave still dead'
  local query
  answered=0
  mapfile -t files < <(grep '"status":"stored"' "$work/upload.json" | text path)
  [ "${#files[@]}" -gt 0 ] || fail 'no image was stored'
  local stride=$(((${#files[@]} + queries - 1) / queries)) index
  for ((index = 0; index < ${#files[@]}; index += stride)); do
    query=${files[index]}
    answered=$((answered + 1))
    printf '\n%s\n' "${query##*/}"
    "$sfmedir" query "$query" -k 5 --out "$work/results/$answered" --montage "$work/montage-$answered.png"
    [ -s "$work/montage-$answered.png" ] || fail 'there is no montage'
  done
}

# Every original, fetched and compared with the file that was stored.
get_all() {
  step 'Fetching every original'
  local line id path
  identical=0
  mkdir "$work/originals"
  while IFS= read -r line; do
    id=$(text image_id <<<"$line")
    path=$(text path <<<"$line")
    "$sfmedir" get "$id" -o "$work/originals/$id" >/dev/null
    [ "$(sha256sum <"$path")" = "$(sha256sum <"$work/originals/$id")" ] || fail "$path came back different"
    identical=$((identical + 1))
  done < <(grep '"status":"stored"' "$work/upload.json")
  [ "$identical" = "$stored_count" ] || fail "$identical of $stored_count originals came back"
  printf '%s originals, all identical\n' "$identical"
}

remove_one() {
  step 'Deleting one image'
  local id status=0
  id=$(grep -m 1 '"status":"stored"' "$work/upload.json" | text image_id)
  "$sfmedir" rm "$id"
  "$sfmedir" get "$id" -o "$work/deleted" || status=$?
  [ "$status" -eq 66 ] || fail "the deleted image is not reported as gone (exit code $status)"
  if "$sfmedir" ls --json | grep -q "$id"; then fail 'the deleted image is still listed'; fi
  printf 'it is gone\n'
}

work=$(mktemp -d "$PWD/demo-XXXXXX")
victim=scs-3
build
collect_images
start_cluster
store_and_kill
query_some
get_all
remove_one
step 'The cluster at the end'
# Something is wrong with it, as it should say: a slave is dead.
"$sfmedir" status || true
step 'Stopping the cluster'
"$sfmedir" dev down --dir "$work/cluster" --wipe
up=no

step 'Done'
printf '%s images were stored\n' "$stored_count"
printf 'slave %s was killed %s\n' "$victim" "$moment"
printf '%s queries were answered\n' "$answered"
printf 'all %s originals came back identical (sha256)\n' "$identical"
printf 'one image was deleted and is gone\n'
printf 'montage: %s\n' "$work/montage-1.png"
