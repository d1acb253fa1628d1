// The bindings that come with Rille: what `require` finds under these names is C++.
#include <rille/builtin.hpp>

extern "C" {
int luaopen_rille_core_cached_file(lua_State* L);
int luaopen_rille_core_child(lua_State* L);
int luaopen_rille_core_compress(lua_State* L);
#ifdef RILLE_HAS_CARES
int luaopen_rille_core_dns(lua_State* L);
#endif
int luaopen_rille_core_file(lua_State* L);
int luaopen_rille_core_fs(lua_State* L);
int luaopen_rille_core_guarded(lua_State* L);
int luaopen_rille_core_http1(lua_State* L);
#ifdef RILLE_HAS_NGHTTP2
int luaopen_rille_core_http2(lua_State* L);
int luaopen_rille_core_http2_client(lua_State* L);
#endif
int luaopen_rille_core_json(lua_State* L);
int luaopen_rille_core_names(lua_State* L);
#ifdef RILLE_HAS_LIBEDIT
int luaopen_rille_core_line_editor(lua_State* L);
#endif
int luaopen_rille_core_process(lua_State* L);
int luaopen_rille_core_signal(lua_State* L);
int luaopen_rille_core_stdio(lua_State* L);
int luaopen_rille_core_stream(lua_State* L);
int luaopen_rille_core_tcp(lua_State* L);
#ifdef RILLE_HAS_OPENSSL
int luaopen_rille_core_tls(lua_State* L);
#endif
int luaopen_rille_core_udp(lua_State* L);
#ifdef RILLE_HAS_WSLAY
int luaopen_rille_core_websocket(lua_State* L);
#endif
int luaopen_rille_core_worker(lua_State* L);
int luaopen_rille_core_worker_socket(lua_State* L);
int luaopen_rille_core_worker_channel(lua_State* L);
}

namespace rille {

const BuiltinModule kBuiltinModules[] = {
    {"rille.core.cached_file", luaopen_rille_core_cached_file},
    {"rille.core.child", luaopen_rille_core_child},
    {"rille.core.compress", luaopen_rille_core_compress},
#ifdef RILLE_HAS_CARES
    {"rille.core.dns", luaopen_rille_core_dns},
#endif
    {"rille.core.file", luaopen_rille_core_file},
    {"rille.core.fs", luaopen_rille_core_fs},
    {"rille.core.guarded", luaopen_rille_core_guarded},
    {"rille.core.http1", luaopen_rille_core_http1},
#ifdef RILLE_HAS_NGHTTP2
    {"rille.core.http2", luaopen_rille_core_http2},
    {"rille.core.http2_client", luaopen_rille_core_http2_client},
#endif
    {"rille.core.json", luaopen_rille_core_json},
    {"rille.core.names", luaopen_rille_core_names},
#ifdef RILLE_HAS_LIBEDIT
    {"rille.core.line_editor", luaopen_rille_core_line_editor},
#endif
    {"rille.core.process", luaopen_rille_core_process},
    {"rille.core.signal", luaopen_rille_core_signal},
    {"rille.core.stdio", luaopen_rille_core_stdio},
    {"rille.core.stream", luaopen_rille_core_stream},
    {"rille.core.tcp", luaopen_rille_core_tcp},
#ifdef RILLE_HAS_OPENSSL
    {"rille.core.tls", luaopen_rille_core_tls},
#endif
    {"rille.core.udp", luaopen_rille_core_udp},
#ifdef RILLE_HAS_WSLAY
    {"rille.core.websocket", luaopen_rille_core_websocket},
#endif
    {"rille.core.worker", luaopen_rille_core_worker},
    {"rille.core.worker_socket", luaopen_rille_core_worker_socket},
    {"rille.core.worker_channel", luaopen_rille_core_worker_channel},
    {nullptr, nullptr},
};

}  // namespace rille
