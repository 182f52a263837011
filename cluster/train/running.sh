# shellcheck shell=bash
# Sourced: programs beside the shell, so that a signal which ends the script ends them in order.

# run LOG COMMAND ...: its output goes to LOG. A shell that waits for a program in front of it hears no signal till that ends.
run() {
  local log=$1 status=0
  shift
  "$@" >>"$log" 2>&1 &
  local child=$!
  # shellcheck disable=SC2064
  trap "kill -TERM $child 2>/dev/null || true" TERM
  wait "$child" || status=$?
  # A signal ends the waiting only: a training has its checkpoint to write.
  if kill -0 "$child" 2>/dev/null; then
    status=0
    wait "$child" || status=$?
  fi
  trap - TERM
  return "$status"
}

# told NAME LOG: says why something failed.
told() {
  printf '%s failed, the end of %s:\n' "$1" "$2" >&2
  tail -n 3 "$2" | sed 's/^/  /' >&2
}

# Ends what was begun with '&', and waits for it.
stop() {
  trap - EXIT HUP INT TERM
  local begun
  begun=$(jobs -p)
  # shellcheck disable=SC2086
  [ -z "$begun" ] || kill -TERM $begun 2>/dev/null || true
  wait || true
}
trap stop EXIT
trap 'stop; exit 129' HUP
trap 'stop; exit 130' INT
trap 'stop; exit 143' TERM
