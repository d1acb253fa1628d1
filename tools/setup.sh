#!/usr/bin/env bash
# Installs the Debian packages that are missing, and does nothing where none is.
# Usage: tools/setup.sh [build] [test] [lint] [tidy] [valgrind] [fuzz]
set -euo pipefail

# package, or package/command where a command of that name will do, wherever it comes from. One that
# ends with a question mark is left out where it cannot be installed: the tests that want it say so.
declare -A sets=(
  [build]="g++/g++ cmake/cmake ninja-build/ninja pkg-config/pkg-config luajit/luajit
           libluajit-5.1-dev libuv1-dev libcxxopts-dev node-llhttp libsimdjson-dev
           libssl-dev libc-ares-dev libedit-dev zlib1g-dev libbrotli-dev libzstd-dev
           libnghttp2-dev libwslay-dev catch2"
  [test]="python3/python3 curl/curl netcat-openbsd/nc openssl/openssl socat/socat
          python3-websockets python3-aiohttp? python3-h2? python3-httpbin? python3-httpx?
          nghttp2-client/h2load? nghttp2-server/nghttpd? nginx/nginx? chromium/chromium?"
  [lint]="clang-format/clang-format lua-check/luacheck"
  [tidy]="clang-tidy/clang-tidy"
  [valgrind]="valgrind/valgrind"
  [fuzz]="clang-14/clang-14 libclang-rt-14-dev"
)

is_there() {  # package command
  [[ -n $2 ]] && command -v "$2" >/dev/null && return
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

PATH=$PATH:/usr/sbin:/sbin
needed=()
wanted=()
for set in "${@:-build}"; do
  for entry in ${sets[$set]:?"no such set of packages"}; do
    name=${entry%\?} package=${name%%/*}
    command=${name#"$package"}
    if is_there "$package" "${command#/}"; then
      continue
    elif [[ $name == "$entry" ]]; then
      needed+=("$package")
    else
      wanted+=("$package")
    fi
  done
done
missing=("${needed[@]}" "${wanted[@]}")
[[ ${#missing[@]} -gt 0 ]] || exit 0

if [[ $(id -u) == 0 ]]; then
  as_root=()
elif command -v sudo >/dev/null; then
  as_root=(sudo)
else
  echo "Missing packages, and neither root nor sudo to install them with. As root:" >&2
  echo "  apt-get install ${missing[*]}" >&2
  [[ ${#needed[@]} == 0 ]] && exit 0
  exit 1
fi

# A server is installed as a program for the tests: it is neither started now nor at the next boot.
policy=/usr/sbin/policy-rc.d
if [[ " ${missing[*]} " == *" nginx "* ]]; then
  if [[ ! -e $policy ]]; then
    trap '"${as_root[@]}" rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
    "${as_root[@]}" chmod +x $policy
  fi
  tame() { "${as_root[@]}" update-rc.d nginx disable >/dev/null 2>&1 || true; }
else
  tame() { :; }
fi

install() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@"
}

echo "Installing ${missing[*]}" >&2
# The first try fails where the package lists are missing or old.
if install "${missing[@]}" >/dev/null 2>&1 ||
   { "${as_root[@]}" apt-get update -qq && install "${missing[@]}"; } >&2; then
  tame
  exit 0
fi
[[ ${#needed[@]} == 0 ]] || install "${needed[@]}" >&2
for package in "${wanted[@]}"; do
  install "$package" >/dev/null 2>&1 || echo "Not installed: $package" >&2
done
tame
