#!/usr/bin/env bash
# Installs etcd from Debian's package and builds the load on it for `make bench-metadata`.
# Exits 69 where a package cannot be had, 1 where the load cannot be built.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
source=$here/etcd_load.cc program=$here/.build-etcd-load/etcd-load

"$here/../../install-dependencies.sh" g++ pkg-config libgrpc++-dev etcd-server python3
[ "$program" -nt "$source" ] && exit 0
# What an older source gave must not be measured as this one.
rm -f "$program"
printf 'bench-metadata: building etcd-load\n' >&2
mkdir -p "$(dirname "$program")"
read -ra flags < <(pkg-config --cflags --libs grpc++)
g++ -std=c++17 -O2 -Wall -Wextra -o "$program" "$source" "${flags[@]}"
