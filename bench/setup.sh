#!/usr/bin/env bash
# Installs the peers, from Debian 12 and npm, as root. What is not a system package goes into
# bench/build/, which git ignores.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$here/build

# --no-remove: libnginx-mod-http-lua depends on a LuaJIT that conflicts with libluajit-5.1-dev, which
# Rille is built with. So that module and its LuaJIT are only unpacked below, never installed.
apt-get install -y --no-remove --no-install-recommends \
  gcc pkg-config python3 time util-linux curl wrk nghttp2-client nghttp2-server \
  libssl-dev openssl libuv1-dev libhttp-parser-dev libluajit-5.1-dev luajit lua5.1 lua5.3 \
  python3-uvloop python3-aiohttp python3-websockets \
  golang-go golang-github-gorilla-websocket-dev \
  tarantool lua-cqueues lua-copas lua-socket lua-luv lua-cjson nginx
command -v node >/dev/null || apt-get install -y --no-remove --no-install-recommends nodejs npm

unpacked=$build/nginx-lua
if [[ ! -f $unpacked/root/usr/lib/nginx/modules/ngx_http_lua_module.so ]]; then
  mkdir -p "$unpacked"
  cd "$unpacked"
  apt-get download libnginx-mod-http-lua libnginx-mod-http-ndk libluajit2-5.1-2 \
    libluajit2-5.1-common lua-resty-core lua-resty-lrucache
  for package in *.deb; do dpkg -x "$package" root; done
fi

mkdir -p "$build/node"
cd "$build/node"
[[ -f package.json ]] || npm init -y >/dev/null
[[ -d node_modules/ws && -d node_modules/undici ]] || npm install ws@8 undici@6
