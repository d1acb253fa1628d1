// rille.core.http2: HTTP/2 for rille.http.
#include "http2_server.h"
#include "http_answering.h"
#include "stream.h"

namespace rille::http2 {

namespace {

struct ServerBox {
  static constexpr char kName[] = "rille.Http2Server";
  explicit ServerBox(std::shared_ptr<Server> s) : server(std::move(s)) {}
  std::shared_ptr<Server> server;
};

struct ConnectionBox {
  static constexpr char kName[] = "rille.Http2Connection";
  explicit ConnectionBox(std::unique_ptr<Connection> c) : connection(std::move(c)) {}
  std::unique_ptr<Connection> connection;
};

// ---- requests: what rille.core.http1 has for connections
// -----------------------------------------

Request* check_request(lua_State* L) { return Class<RequestBox>::check(L, 1)->request.get(); }

int request_upgrade(lua_State* L) {
  rille_push_error(L, "InvalidStateError", nullptr,
                   "upgrade: HTTP/2 has no other protocols on its connections");
  return 1;
}

int request_cut(lua_State* L) {
  check_request(L)->cut();
  return 0;
}

// request:leave(): whoever answers it has come to his end.
int request_leave(lua_State* L) {
  check_request(L)->leave();
  return 0;
}

const rille_reg kRequestMethods[] = {{"upgrade", request_upgrade, RILLE_WAITS},
                                     {"close", request_cut, 0},
                                     {"leave", request_leave, 0},
                                     {nullptr, nullptr, 0}};

// ---- connections --------------------------------------------------------------------------------

Connection* check_connection(lua_State* L) {
  return Class<ConnectionBox>::check(L, 1)->connection.get();
}

// connection:next() -> request, head; nil when there are no more; false if one has been taken back
int connection_next(lua_State* L) { return check_connection(L)->next_request(L); }

// connection:refusal() -> status, bytes, first line of a request that was refused; or nothing
int connection_refusal(lua_State* L) { return check_connection(L)->refusal(L); }

int connection_peer(lua_State* L) {
  const std::string& peer = check_connection(L)->peer();
  lua_pushlstring(L, peer.data(), peer.size());
  return 1;
}

int connection_drain(lua_State* L) {
  check_connection(L)->stop();
  return 0;
}

int connection_close(lua_State* L) {
  check_connection(L)->close();
  return 0;
}

const rille_reg kConnectionMethods[] = {
    {"next", connection_next, RILLE_WAITS}, {"refusal", connection_refusal, 0},
    {"peer", connection_peer, 0},           {"drain", connection_drain, 0},
    {"close", connection_close, 0},         {nullptr, nullptr, 0}};

// ---- servers ------------------------------------------------------------------------------------

// server:open(stream) -> connection. The stream has no transport any more afterwards.
int server_open(lua_State* L) {
  auto& server = Class<ServerBox>::check(L, 1)->server;
  Stream* stream = check_stream(L, 2, "open");
  auto* box = Class<ConnectionBox>::push(L, nullptr);
  std::string input = stream->take_input();
  std::string name = stream->name();
  box->connection =
      std::make_unique<Connection>(rille_loop(L), server, stream->release(), std::move(name));
  box->connection->begin(input);
  return 1;
}

int server_stop(lua_State* L) {
  Class<ServerBox>::check(L, 1)->server->is_stopped = true;
  return 0;
}

const rille_reg kServerMethods[] = {
    {"open", server_open, 0}, {"stop", server_stop, 0}, {nullptr, nullptr, 0}};

// load() -> nil, or why there is no HTTP/2
int load(lua_State* L) {
  lua_pushstring(L, load_library());
  return 1;
}

// server(options) -> what connections are made with; options as those of rille.core.http1
int make_server(lua_State* L) {
  if (const char* error = load_library()) return luaL_error(L, "%s", error);
  Class<ServerBox>::push(L, std::make_shared<Server>(http1::check_options(L)));
  return 1;
}

const rille_reg kFunctions[] = {
    {"load", load, 0}, {"server", make_server, 0}, {nullptr, nullptr, 0}};

void define(lua_State* L) {
  Class<RequestBox>::define(L, http1::Answering<check_request>::methods(kRequestMethods).data());
  Class<ConnectionBox>::define(L, kConnectionMethods);
  Class<ServerBox>::define(L, kServerMethods);
}

}  // namespace
}  // namespace rille::http2

extern "C" int luaopen_rille_core_http2(lua_State* L) {
  rille::http2::define(L);
  rille_newlib(L, rille::http2::kFunctions);
  return 1;
}
