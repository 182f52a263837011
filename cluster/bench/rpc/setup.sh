#!/usr/bin/env bash
# Builds the peers of `make bench-rpc`: gRPC C++ from Debian's package, gRPC Swift 2 and SwiftNIO from
# their repositories (some ten minutes the first time on two cores). A peer that cannot be built is
# left out, loudly, and run.py leaves its figures null. Exits 69 where Python or openssl is missing.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
dependencies=$here/../../install-dependencies.sh

say() { printf 'bench-rpc: %s\n' "$*" >&2; }

build_cpp() {
  local source=$here/grpc-cpp/echo.cc program=$here/.build-grpc-cpp/grpc-cpp-echo flags
  [ "$program" -nt "$source" ] && return 0
  # What an older source gave must not be measured as this one.
  rm -f "$program"
  "$dependencies" g++ pkg-config libgrpc++-dev || return 1
  say 'building grpc-cpp'
  mkdir -p "$(dirname "$program")"
  read -ra flags < <(pkg-config --cflags --libs grpc++) || return 1
  g++ -std=c++17 -O2 -Wall -Wextra -o "$program" "$source" "${flags[@]}"
}

build_swift() {
  local package=$here/grpc-swift
  say 'building grpc-swift and nio'
  if ! swift build --package-path "$package" -c release; then
    rm -f "$package/.build/release/grpc-swift-echo" "$package/.build/release/nio-echo"
    return 1
  fi
}

"$dependencies" python3 openssl
build_cpp || say 'grpc-cpp is LEFT OUT: it cannot be built here'
build_swift || say 'grpc-swift and nio are LEFT OUT: they cannot be built here'
