// rille.core.http2_client: connections of HTTP/2 for the client.
#include "http2_client.h"

#include <utility>

#include "http_trailers.h"
#include "stream.h"

namespace rille::http2 {

namespace {

ClientStream* check_client_stream(lua_State* L) { return Class<ClientStream>::check(L, 1); }
ClientExchange* check_exchange(lua_State* L) { return check_client_stream(L)->exchange.get(); }

ClientSession* check_session(lua_State* L) {
  return Class<ClientConnection>::check(L, 1)->session.get();
}

// stream:begin(request, has_no_body, most_body, _, more, collects) -> whether it could. `request`
// is the head of HTTP/1 with all of its body; `more`: the body will be sent; `collects`: the
// response's body will be read in one piece
int stream_begin(lua_State* L) {
  ClientStream* s = check_client_stream(L);
  std::size_t size;
  const char* request = luaL_checklstring(L, 2, &size);
  ClientExchange::Options options;
  options.has_no_body = lua_toboolean(L, 3) != 0;
  options.most_body = static_cast<std::uint64_t>(luaL_optnumber(L, 4, 0));
  options.more = lua_toboolean(L, 6) != 0;
  options.collects = lua_toboolean(L, 7) != 0;
  bool begun = false;
  if (std::exchange(s->has_place, false)) {
    s->session->use_place();
    begun = s->exchange->begin(s->session.get(), {request, size}, options);
  }
  lua_pushboolean(L, begun);
  return 1;
}

// stream:send(data)
int stream_send(lua_State* L) {
  ClientExchange* e = check_exchange(L);
  std::size_t size;
  const char* data = luaL_checklstring(L, 2, &size);
  return e->send(L, {data, size});
}

// stream:finish(): the body was sent
int stream_finish(lua_State* L) {
  check_exchange(L)->finish();
  return 0;
}

// The waits are those of rille.core.http1's client.
template <ClientExchange::Want want>
int stream_wait(lua_State* L) {
  return check_exchange(L)->wait(L, want);
}

int stream_trailers(lua_State* L) {
  http1::push_trailers(L, check_exchange(L)->trailers());
  return 1;
}

template <bool (ClientExchange::*tells)() const>
int stream_tells(lua_State* L) {
  lua_pushboolean(L, (check_exchange(L)->*tells)());
  return 1;
}

// stream:is_reusable() -> false: every request has a stream of its own
int stream_is_reusable(lua_State* L) {
  lua_pushboolean(L, 0);
  return 1;
}

// stream:is_open() -> whether its connection is
int stream_is_open(lua_State* L) {
  lua_pushboolean(L, check_client_stream(L)->session->is_open());
  return 1;
}

int stream_close(lua_State* L) {
  check_client_stream(L)->close();
  return 0;
}

using Want = ClientExchange::Want;

const rille_reg kStreamMethods[] = {
    {"begin", stream_begin, 0},
    {"send", stream_send, RILLE_WAITS},
    {"finish", stream_finish, 0},
    {"wait_for_continue", stream_wait<Want::kContinue>, RILLE_WAITS},
    {"read_all", stream_wait<Want::kAll>, RILLE_WAITS},
    {"read_head", stream_wait<Want::kHead>, RILLE_WAITS},
    {"read_body", stream_wait<Want::kBody>, RILLE_WAITS},
    {"read_piece", stream_wait<Want::kPiece>, RILLE_WAITS},
    {"trailers", stream_trailers, 0},
    {"is_reusable", stream_is_reusable, 0},
    {"wants_more", stream_tells<&ClientExchange::wants_more>, 0},
    {"is_untouched", stream_tells<&ClientExchange::is_untouched>, 0},
    {"was_refused", stream_tells<&ClientExchange::was_refused>, 0},
    {"is_open", stream_is_open, 0},
    {"close", stream_close, 0},
    {nullptr, nullptr, 0}};

// connection:open_stream(ticket) -> a stream for one request, as soon as the server allows one
// more; or nothing if the connection takes no more of them. The lowest ticket comes first.
int connection_open_stream(lua_State* L) {
  return check_session(L)->open_stream(L, luaL_checknumber(L, 2));
}

template <auto tells>
int connection_tells(lua_State* L) {
  lua_pushboolean(L, (check_session(L)->*tells)());
  return 1;
}

int connection_close(lua_State* L) {
  check_session(L)->shut();
  return 0;
}

const rille_reg kConnectionMethods[] = {
    {"open_stream", connection_open_stream, RILLE_WAITS},
    {"is_usable", connection_tells<&ClientSession::is_usable>, 0},
    {"is_open", connection_tells<&ClientSession::is_open>, 0},
    {"is_idle", connection_tells<&ClientSession::is_idle>, 0},
    {"close", connection_close, 0},
    {nullptr, nullptr, 0}};

// available() -> whether the library is there; or false and why not
int available(lua_State* L) {
  const char* error = load_library();
  lua_pushboolean(L, error == nullptr);
  lua_pushstring(L, error);
  return 2;
}

// client(stream, scheme, idle_timeout) -> connection. REQUIRES: available()
int make_client(lua_State* L) {
  Stream* stream = check_stream(L, 1, "client");
  const char* scheme = luaL_checkstring(L, 2);
  auto idle = static_cast<std::uint64_t>(luaL_checknumber(L, 3) * 1e3);
  std::string name = stream->name();
  std::string input = stream->take_input();
  auto session = std::make_shared<ClientSession>(rille_loop(L), stream->release(), std::move(name),
                                                 scheme, idle);
  Class<ClientConnection>::push(L, session);
  session->begin(input);
  return 1;
}

const rille_reg kFunctions[] = {
    {"available", available, 0}, {"client", make_client, 0}, {nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille::http2

extern "C" int luaopen_rille_core_http2_client(lua_State* L) {
  using namespace rille::http2;
  rille::Class<ClientStream>::define(L, kStreamMethods);
  rille::Class<ClientConnection>::define(L, kConnectionMethods);
  rille_newlib(L, kFunctions);
  return 1;
}
