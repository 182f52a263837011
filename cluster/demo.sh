#!/usr/bin/env bash
# The whole of SFMedIR once, on this machine: a cluster of real daemons, images stored while a slave and the leading
# master die, similar images found, every original fetched and compared, one image deleted. Leaves nothing running.
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
  # An upload that still runs in the background.
  local job
  for job in $(jobs -p); do kill "$job" 2>/dev/null || true; done
  wait
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
    sfmedir=$(cd "$SFMEDIR_BIN" && pwd)/sfmedir
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
  step "Starting a cluster: key control entity, two masters and their witness, $slaves slaves, owner, user"
  up=yes
  "$sfmedir" dev up --dir "$work/cluster" --slaves "$slaves"
  export SFMEDIR_CONFIG=$work/cluster/cli.toml
}

# What the daemons say of themselves; that something is wrong with one of them, which 'status' ends with 1 for, is the point here.
state() { "$sfmedir" status --json 2>/dev/null || true; }

# The master that leads, as the masters themselves say; nothing where none does.
leader() { state | { grep '"leads":true' || true; } | text node; }

# The files of the upload that are stored. One whose answer was lost with the master that was killed was found there
# when it was sent again.
there() { grep -E '"status":"(already_)?stored"' upload.json || true; }

# Returns once so many hundredths of the images are stored, or the upload has ended.
await_stored() {
  local stored
  while kill -0 "$upload" 2>/dev/null; do
    stored=$(there | wc -l)
    [ $((stored * 100)) -ge $((total * $1)) ] && break
    sleep 0.02
  done
  if kill -0 "$upload" 2>/dev/null; then moment='during the upload'; else moment='after the upload'; fi
}

# A slave dies as soon as a quarter of the images is stored and the leading master at half of them, in the middle of the upload.
store_and_kill() {
  step "Storing the images, and killing slave $victim and the leading master in the middle of it"
  local log=upload.json total stored status=0
  : >"$log"
  master=$(leader)
  [ -n "$master" ] || fail 'no master leads'
  total=$(find -L "$images" -type f ! -path '*/.*' | wc -l)
  "$sfmedir" upload "$images" --recursive --json >"$log" 2>upload.errors &
  local upload=$!
  await_stored 25
  "$sfmedir" dev kill --dir "$work/cluster" "$victim"
  victim_moment=$moment
  await_stored 50
  "$sfmedir" dev kill --dir "$work/cluster" "$master"
  master_moment=$moment
  wait "$upload" || status=$?
  cat upload.errors >&2
  grep '"status":"failed"' "$log" | text error >&2 || true
  # What is no image is refused, and a person's folder may hold such files.
  local refused failed again
  refused=$(grep -c '"reason":"UndecodableImage"' "$log" || true)
  failed=$(grep -c '"status":"failed"' "$log" || true)
  [ "$failed" -eq "$refused" ] || fail "not every image was stored (exit code $status)"
  [ "$status" -eq 0 ] || [ "$refused" -gt 0 ] || fail "the upload did not end (exit code $status)"
  stored_count=$(there | wc -l)
  [ "$stored_count" -gt 0 ] || fail 'no image was stored'
  printf '%s images stored; %s was killed %s, %s, which led, %s\n' \
    "$stored_count" "$victim" "$victim_moment" "$master" "$master_moment"
  # Once more: whatever was acknowledged is known, and nothing is sent again.
  again=$("$sfmedir" upload "$images" --recursive --json 2>/dev/null | grep '"type":"summary"' || true)
  [ "$(number stored <<<"$again")" = 0 ] || fail "images were stored twice: $again"
  [ "$(number already_stored <<<"$again")" = "$stored_count" ] || fail "images are missing: $again"
  printf 'the same upload again: nothing to send\n'
}

query_some() {
  step 'Finding the most similar images, with the slave and the master still dead'
  local query index stride
  answered=0
  mapfile -t files < <(there | text path | sort)
  # Not a multiple of the four classes in which synthetic pictures take turns.
  stride=$((${#files[@]} / queries))
  [ "$stride" -gt 1 ] && [ $((stride % 2)) -eq 0 ] && stride=$((stride - 1))
  [ "$stride" -gt 0 ] || stride=1
  for ((index = 0; index < ${#files[@]} && answered < queries; index += stride)); do
    query=${files[index]}
    answered=$((answered + 1))
    printf '\n%s\n' "${query##*/}"
    "$sfmedir" query "$query" -k 5 --out "results/$answered" --montage "montage-$answered.png"
    [ -s "montage-$answered.png" ] || fail 'there is no montage'
  done
}

# Every original, fetched and compared with the file that was stored.
get_all() {
  step 'Fetching every original'
  local line id path
  identical=0
  mkdir originals
  while IFS= read -r line; do
    id=$(text image_id <<<"$line")
    path=$(text path <<<"$line")
    "$sfmedir" get "$id" -o "originals/$id" >/dev/null
    [ "$(sha256sum <"$path")" = "$(sha256sum <"originals/$id")" ] || fail "$path came back different"
    identical=$((identical + 1))
  done < <(there)
  [ "$identical" = "$stored_count" ] || fail "$identical of $stored_count originals came back"
  printf '%s originals, all identical\n' "$identical"
}

# The dead master comes back and learns what it missed.
bring_back() {
  step 'Bringing the master back'
  local tries commit applied=
  "$sfmedir" dev restart --dir "$work/cluster" "$master"
  commit=$(state | { grep '"leads":true' || true; } | number commit_index)
  [ -n "$commit" ] || fail 'no master leads'
  for ((tries = 0; tries < 100; tries++)); do
    applied=$(state | { grep '"role":"mcs".*"node":"'"$master"'"' || true; } | number applied_index)
    [ "${applied:-0}" -ge "$commit" ] && break
    sleep 0.1
  done
  [ "${applied:-0}" -ge "$commit" ] || fail "$master has applied ${applied:-nothing} of $commit entries"
  printf '%s has all %s entries of the log again; %s leads\n' "$master" "$commit" "$(leader)"
}

remove_one() {
  step 'Deleting one image'
  local id status=0
  id=$(there | head -n 1 | text image_id)
  "$sfmedir" rm "$id"
  "$sfmedir" get "$id" -o deleted || status=$?
  [ "$status" -eq 66 ] || fail "the deleted image is not reported as gone (exit code $status)"
  if "$sfmedir" ls --json | grep -q "$id"; then fail 'the deleted image is still listed'; fi
  printf 'it is gone\n'
}

victim=scs-3
build
work=$(mktemp -d "$PWD/demo-XXXXXX")
collect_images
cd "$work"
start_cluster
store_and_kill
query_some
get_all
bring_back
remove_one
step 'The cluster at the end'
# Something is wrong with it, as it should say: a slave is dead.
"$sfmedir" status || true
step 'Stopping the cluster'
"$sfmedir" dev down --dir "$work/cluster" --wipe
up=no

step 'Done'
printf '%s images were stored\n' "$stored_count"
printf 'slave %s was killed %s\n' "$victim" "$victim_moment"
printf 'master %s, which led, was killed %s; the other went on\n' "$master" "$master_moment"
printf '%s queries were answered\n' "$answered"
printf 'all %s originals came back identical (sha256)\n' "$identical"
printf 'one image was deleted and is gone\n'
printf 'montage: %s\n' "$work/montage-1.png"
