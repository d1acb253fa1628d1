#!/bin/sh
# nginx + ngx_http_lua_module (OpenResty's engine), one worker, no master process.
# usage: serve.sh http_server PORT | http_static PORT | http_file PORT | tcp_echo PORT | WORKLOAD N PORT   (the last runs the workload in a request and leaves)
# The module conflicts in Debian with libluajit-5.1-dev, so setup.sh unpacks it under build/ and this script loads it there.
here=$(cd "$(dirname "$0")" && pwd); b=$here/../../build/nginx-lua; r=$b/root
# A server is replaced by nginx and cannot tidy up after itself.
find "$b" -maxdepth 1 -name "run.*" -mmin +10 -exec rm -rf {} +
m=/usr/lib/nginx/modules; run=$(mktemp -d "$b/run.XXXXXX")
export LD_LIBRARY_PATH=$r/usr/lib/x86_64-linux-gnu
case $1 in http_server|http_static|http_file) port=$2 ;; *) port=$3 ;; esac
cat > "$run/nginx.conf" <<CONF
load_module $r$m/ndk_http_module.so;
load_module $r$m/ngx_http_lua_module.so;
daemon off; master_process off; worker_processes 1;
pid $run/pid; error_log stderr error;
thread_pool default threads=4;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 100000000; keepalive_timeout 300s;
  lua_package_path "$r/usr/share/lua/5.1/?.lua;$here/?.lua;;";
  client_body_temp_path $run/a; proxy_temp_path $run/b; fastcgi_temp_path $run/c; uwsgi_temp_path $run/d; scgi_temp_path $run/e;
  lua_max_running_timers 4000000; lua_max_pending_timers 4000000;
  server {
    listen 127.0.0.1:$port backlog=1024;
    location = /static { default_type text/plain; return 200 "Hello, World!"; }
    location = / { default_type text/plain; content_by_lua_block { ngx.header.content_length = 13 ngx.print "Hello, World!" } }
    location ~ [.]bin\$ { root $BENCH_WEB; sendfile on; }
    location = /bench { content_by_lua_block { require("bench")(ngx.var.arg_w, tonumber(ngx.var.arg_n)) } }
  }
}
CONF
case $1 in
  http_server|http_static|http_file) exec /usr/sbin/nginx -p "$run" -c "$run/nginx.conf" -e stderr ;;
  *) /usr/sbin/nginx -p "$run" -c "$run/nginx.conf" -e stderr & p=$!
     curl -s --retry 50 --retry-connrefused --retry-delay 0 -m 300 "http://127.0.0.1:$port/bench?w=$1&n=$2"; kill $p; wait $p 2>/dev/null; rm -rf "$run" ;;
esac
