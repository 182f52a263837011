#!/usr/bin/env bash
# Five minutes (or SECONDS given) of random calls against a server in the same process; exit status 1 where a call
# did not end once or something was left. Options go to 'sfmedir-rpc-bench soak', for instance --seed 7.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 python3 -c 'import certificates, sys; certificates.make(sys.argv[1])' "$folder"
"$root/.build/release/sfmedir-rpc-bench" soak --certs "$folder" "$@"
