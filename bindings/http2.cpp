// rille.core.http2: HTTP/2 for rille.http.
#include "http2_server.h"
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

std::string_view check_view(lua_State* L, int index) {
  std::size_t size;
  const char* text = luaL_checklstring(L, index, &size);
  return {text, size};
}

std::string_view opt_view(lua_State* L, int index) {
  std::size_t size = 0;
  const char* text = luaL_optlstring(L, index, "", &size);
  return {text, size};
}

// ---- requests: what rille.core.http1 has for connections
// -----------------------------------------

Request* check_request(lua_State* L) { return Class<RequestBox>::check(L, 1)->request.get(); }

int request_read_body(lua_State* L) {
  lua_Number most = luaL_checknumber(L, 2);
  return check_request(L)->read_body(
      L, most < 9e15 ? static_cast<std::size_t>(most) : std::size_t{SIZE_MAX});
}

int request_read_chunk(lua_State* L) { return check_request(L)->read_chunk(L); }

int request_limit_body(lua_State* L) {
  lua_Number most = luaL_checknumber(L, 2);
  bool fits = check_request(L)->limit_body(most < 9e15 ? static_cast<std::uint64_t>(most) : 0);
  lua_pushboolean(L, fits);
  return 1;
}

int request_has_body(lua_State* L) {
  lua_pushboolean(L, check_request(L)->has_body());
  return 1;
}

int request_trailers(lua_State* L) {
  lua_newtable(L);
  int n = 0;
  for (const std::string& text : check_request(L)->trailers()) {
    lua_pushlstring(L, text.data(), text.size());
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

int request_respond(lua_State* L) {
  Request* r = check_request(L);
  http1::ResponseHead head;
  head.status = luaL_checkint(L, 2);
  std::string_view body = check_view(L, 3);
  head.content_type = opt_view(L, 4);
  head.fields = opt_view(L, 5);
  return r->respond(L, head, body, luaL_optint(L, 6, 0));
}

int request_start(lua_State* L) {
  Request* r = check_request(L);
  http1::ResponseHead head;
  head.status = luaL_checkint(L, 2);
  head.framing = lua_isnoneornil(L, 3) ? http1::ResponseHead::kToEnd : http1::ResponseHead::kLength;
  head.length = static_cast<std::uint64_t>(luaL_optnumber(L, 3, 0));
  head.content_type = opt_view(L, 4);
  head.fields = opt_view(L, 5);
  lua_pushboolean(L, r->start(head, luaL_optint(L, 6, 0)));
  return 1;
}

int request_take_back(lua_State* L) {
  lua_pushboolean(L, check_request(L)->take_back());
  return 1;
}

int request_flush(lua_State* L) {
  check_request(L)->flush();
  return 0;
}

int request_send(lua_State* L) {
  Request* r = check_request(L);
  return r->send(L, check_view(L, 2));
}

int request_finish(lua_State* L) {
  Request* r = check_request(L);
  lua_pushboolean(L, r->finish(opt_view(L, 2)));
  return 1;
}

int request_has_ended(lua_State* L) {
  lua_pushboolean(L, check_request(L)->has_ended());
  return 1;
}

int request_wait_end(lua_State* L) { return check_request(L)->wait_end(L); }

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

int request_peer(lua_State* L) {
  const std::string& peer = check_request(L)->peer();
  lua_pushlstring(L, peer.data(), peer.size());
  return 1;
}

const rille_reg kRequestMethods[] = {{"read_body", request_read_body, RILLE_WAITS},
                                     {"read_chunk", request_read_chunk, RILLE_WAITS},
                                     {"limit_body", request_limit_body, 0},
                                     {"has_body", request_has_body, 0},
                                     {"trailers", request_trailers, 0},
                                     {"respond", request_respond, RILLE_WAITS},
                                     {"start", request_start, 0},
                                     {"take_back", request_take_back, 0},
                                     {"flush", request_flush, 0},
                                     {"send", request_send, RILLE_WAITS},
                                     {"finish", request_finish, 0},
                                     {"wait_end", request_wait_end, RILLE_WAITS},
                                     {"has_ended", request_has_ended, 0},
                                     {"upgrade", request_upgrade, RILLE_WAITS},
                                     {"close", request_cut, 0},
                                     {"cut", request_cut, 0},
                                     {"leave", request_leave, 0},
                                     {"peer", request_peer, 0},
                                     {nullptr, nullptr, 0}};

// ---- connections --------------------------------------------------------------------------------

Connection* check_connection(lua_State* L) {
  return Class<ConnectionBox>::check(L, 1)->connection.get();
}

// connection:next() -> request, head; nil when there are no more; false if one has been taken back
int connection_next(lua_State* L) { return check_connection(L)->next_request(L); }

int connection_drain(lua_State* L) {
  check_connection(L)->stop();
  return 0;
}

int connection_close(lua_State* L) {
  check_connection(L)->close();
  return 0;
}

const rille_reg kConnectionMethods[] = {{"next", connection_next, RILLE_WAITS},
                                        {"drain", connection_drain, 0},
                                        {"close", connection_close, 0},
                                        {nullptr, nullptr, 0}};

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

}  // namespace
}  // namespace rille::http2

extern "C" int luaopen_rille_core_http2(lua_State* L) {
  rille::Class<rille::http2::RequestBox>::define(L, rille::http2::kRequestMethods);
  rille::Class<rille::http2::ConnectionBox>::define(L, rille::http2::kConnectionMethods);
  rille::Class<rille::http2::ServerBox>::define(L, rille::http2::kServerMethods);
  rille_newlib(L, rille::http2::kFunctions);
  return 1;
}
