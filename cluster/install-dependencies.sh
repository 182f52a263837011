#!/usr/bin/env bash
# Sees to it that everything is here that building SFMedIR needs: system libraries from Debian, and Swift.
# Arguments are names of further Debian packages that must be there.
# Does nothing where all is there. Exits 69 where something is missing and cannot be installed.
# SFMEDIR_DEPENDENCIES=skip leaves the check of Debian's packages out, for machines that have the
# libraries from elsewhere.
set -euo pipefail

packages=(
  libprotobuf-c-dev protobuf-c-compiler libssl-dev libopenblas-dev libisal-dev
  libsqlite3-dev libpng-dev libjpeg62-turbo-dev libdcmtk-dev zlib1g-dev
  python3 python3-protobuf protobuf-compiler # the client of Tests/Interop
  openssl # makes lists of revoked certificates for the tests
  "$@"
)
swift_major=6
swift_minor=3

say() { printf 'install-dependencies: %s\n' "$*" >&2; }

fail() {
  say "$@"
  exit 69
}

missing_packages() {
  local package state
  for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || printf '%s\n' "$package"
  done
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    DEBIAN_FRONTEND=noninteractive "$@"
  else
    sudo -n env DEBIAN_FRONTEND=noninteractive "$@"
  fi
}

install_packages() {
  local quiet=(-qq -o Dpkg::Use-Pty=0 --no-install-recommends -y)
  # Package lists may be older than what the mirror still has: then they are fetched and it is tried again.
  if as_root apt-get install "${quiet[@]}" "$@" >/dev/null 2>&1; then return 0; fi
  as_root apt-get update -qq >&2 || true
  as_root apt-get install "${quiet[@]}" "$@" >&2
}

check_packages() {
  [ "${SFMEDIR_DEPENDENCIES:-}" = skip ] && return 0
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    fail "this is not Debian; install what stands for ${packages[*]}, then set SFMEDIR_DEPENDENCIES=skip"
  fi
  local missing
  mapfile -t missing < <(missing_packages)
  [ "${#missing[@]}" -eq 0 ] && return 0
  if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
    fail "missing: ${missing[*]}; run as root: apt-get install --no-install-recommends ${missing[*]}"
  fi
  say "installing ${missing[*]}"
  install_packages "${missing[@]}" || true
  mapfile -t missing < <(missing_packages)
  [ "${#missing[@]}" -eq 0 ] || fail "apt-get could not install: ${missing[*]}"
}

check_swift() {
  local line version major minor
  command -v swift >/dev/null ||
    fail "missing: Swift $swift_major.$swift_minor or later; see https://www.swift.org/install/linux"
  line=$(swift --version 2>/dev/null | grep -o 'Swift version [0-9]*\.[0-9]*' | head -n 1 || true)
  version=${line##* }
  major=${version%%.*}
  minor=${version##*.}
  if ! [[ $version =~ ^[0-9]+\.[0-9]+$ ]] ||
    [ "$major" -lt "$swift_major" ] ||
    { [ "$major" -eq "$swift_major" ] && [ "$minor" -lt "$swift_minor" ]; }; then
    fail "Swift $swift_major.$swift_minor or later is needed, this is '${version:-unknown}'; see https://www.swift.org/install/linux"
  fi
}

check_packages
check_swift
