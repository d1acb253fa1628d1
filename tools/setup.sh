#!/usr/bin/env bash
# Installs the Debian packages that are missing, and does nothing where none is.
# Usage: tools/setup.sh [build] [test] [lint] [tidy] [valgrind]
set -euo pipefail

# package, or package/command where a command of that name will do, wherever it comes from.
declare -A sets=(
  [build]="g++/g++ cmake/cmake ninja-build/ninja pkg-config/pkg-config luajit/luajit
           libluajit-5.1-dev libuv1-dev libcxxopts-dev node-llhttp libsimdjson-dev
           libssl-dev libc-ares-dev libedit-dev zlib1g-dev libbrotli-dev libzstd-dev
           libwslay-dev"
  [test]="catch2 python3/python3 curl/curl netcat-openbsd/nc openssl/openssl
          socat/socat python3-websockets"
  [lint]="clang-format/clang-format lua-check/luacheck"
  [tidy]="clang-tidy/clang-tidy"
  [valgrind]="valgrind/valgrind"
)

is_there() {  # package command
  [[ -n $2 ]] && command -v "$2" >/dev/null && return
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

missing=()
for set in "${@:-build}"; do
  for entry in ${sets[$set]:?"no such set of packages"}; do
    package=${entry%%/*} command=${entry#"$package"}
    is_there "$package" "${command#/}" || missing+=("$package")
  done
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

if [[ $(id -u) == 0 ]]; then
  as_root=()
elif command -v sudo >/dev/null; then
  as_root=(sudo)
else
  echo "Missing packages, and neither root nor sudo to install them with. As root:" >&2
  echo "  apt-get install ${missing[*]}" >&2
  exit 1
fi

echo "Installing ${missing[*]}" >&2
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive
         apt-get install -y -qq --no-install-recommends "${missing[@]}")
# The first try fails where the package lists are missing or old.
"${install[@]}" >/dev/null 2>&1 || { "${as_root[@]}" apt-get update -qq && "${install[@]}"; } >&2
