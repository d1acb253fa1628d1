// Servers of HTTP/1 and their connections, as Lua has them.
#include "http1_server.h"

#include <algorithm>
#include <cmath>

namespace rille::http1 {

namespace {

constexpr std::uint64_t kTickMs = 20;  // limits are that exact

// A connection's object in Lua.
struct ConnectionBox {
  static constexpr char kName[] = "rille.HttpConnection";
  explicit ConnectionBox(std::unique_ptr<Connection> c) : connection(std::move(c)) {}
  std::unique_ptr<Connection> connection;
};

// A server's.
struct ServerBox {
  static constexpr char kName[] = "rille.HttpServer";
  explicit ServerBox(std::shared_ptr<Server> s) : server(std::move(s)) {}
  std::shared_ptr<Server> server;
};

}  // namespace

// ---- server -------------------------------------------------------------------------------------

Server::Server(uv_loop_t* loop, const ServerOptions& options)
    : options_(options), timer_(new uv_timer_t) {
  uv_timer_init(loop, timer_.get());
  timer_->data = this;
  uv_unref(reinterpret_cast<uv_handle_t*>(timer_.get()));
}

void Server::join(Connection* c) {
  c->next_ = first_;
  if (first_) first_->prev_ = c;
  first_ = c;
}

void Server::leave(Connection* c) {
  (c->prev_ ? c->prev_->next_ : first_) = c->next_;
  if (c->next_) c->next_->prev_ = c->prev_;
}

// One timer serves all connections. A deadline that moves away, which is what they nearly always
// do, costs nothing: the timer finds that out when it fires.
void Server::watch(std::uint64_t deadline) {
  if (deadline >= due_) return;
  due_ = deadline;
  std::uint64_t now = uv_now(timer_->loop);
  uv_timer_start(
      timer_.get(), [](uv_timer_t* t) { static_cast<Server*>(t->data)->tick(); },
      deadline > now ? deadline - now : 0, 0);
}

void Server::tick() {
  std::uint64_t now = uv_now(timer_->loop);
  std::uint64_t earliest = UINT64_MAX;
  bool again = false;
  due_ = UINT64_MAX;
  for (Connection *c = first_, *following; c; c = following) {
    following = c->next_;
    if (c->deadline_ == 0) continue;
    if (c->deadline_ > now) {
      earliest = std::min(earliest, c->deadline_);
    } else if (c->deadline_ <= last_tick_) {
      c->expire();
    } else {
      // If Lua held the loop, what is missing may have come and not been read: it is looked at
      // once more after a poll.
      again = true;
    }
  }
  last_tick_ = now;
  if (again) {
    watch(now + 1);
  } else if (earliest != UINT64_MAX) {
    watch(std::max(earliest, now + kTickMs));
  }
}

// ---- Lua ----------------------------------------------------------------------------------------

namespace {

Connection* check_connection(lua_State* L) {
  return Class<ConnectionBox>::check(L, 1)->connection.get();
}

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

// connection:next() -> head, or nil; nil and true if the peer speaks HTTP/2
int connection_next(lua_State* L) { return check_connection(L)->next_request(L); }

// connection:read_body(most) -> body; or nil, status, fault
int connection_read_body(lua_State* L) {
  lua_Number most = luaL_checknumber(L, 2);
  return check_connection(L)->read_body(
      L, most < 9e15 ? static_cast<std::size_t>(most) : std::size_t{SIZE_MAX});
}

// connection:read_chunk() -> bytes, "" at the end; or nil, status, fault
int connection_read_chunk(lua_State* L) { return check_connection(L)->read_chunk(L); }

// connection:limit_body(bytes) -> whether the body may still be that short
int connection_limit_body(lua_State* L) {
  lua_Number most = luaL_checknumber(L, 2);
  bool fits = check_connection(L)->limit_body(most < 9e15 ? static_cast<std::uint64_t>(most) : 0);
  lua_pushboolean(L, fits);
  return 1;
}

int connection_has_body(lua_State* L) {
  lua_pushboolean(L, check_connection(L)->has_body());
  return 1;
}

// connection:trailers() -> { name, value, name, value, ... }
int connection_trailers(lua_State* L) {
  const auto& all = check_connection(L)->trailers();
  lua_newtable(L);
  int n = 0;
  for (const std::string& text : all) {
    std::string_view part = text;
    std::size_t first = part.find_first_not_of(" \t");
    std::size_t last = part.find_last_not_of(" \t");
    if (first == part.npos) part = {};
    if (!part.empty()) part = part.substr(first, last + 1 - first);
    lua_pushlstring(L, part.data(), part.size());
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

// connection:respond(status, body, content_type | nil, fields | nil, flags | nil) -> false if the
// peer has gone
int connection_respond(lua_State* L) {
  Connection* c = check_connection(L);
  ResponseHead head;
  head.status = luaL_checkint(L, 2);
  std::string_view body = check_view(L, 3);
  head.content_type = opt_view(L, 4);
  head.fields = opt_view(L, 5);
  int flags = luaL_optint(L, 6, 0);
  return c->respond(L, head, body, flags);
}

// connection:start(status, length | nil, content_type | nil, fields | nil, flags | nil)
// -> whether it has a body
int connection_start(lua_State* L) {
  Connection* c = check_connection(L);
  ResponseHead head;
  head.status = luaL_checkint(L, 2);
  head.framing = lua_isnoneornil(L, 3) ? ResponseHead::kChunked : ResponseHead::kLength;
  head.length = static_cast<std::uint64_t>(luaL_optnumber(L, 3, 0));
  head.content_type = opt_view(L, 4);
  head.fields = opt_view(L, 5);
  lua_pushboolean(L, c->start(head, luaL_optint(L, 6, 0)));
  return 1;
}

int connection_take_back(lua_State* L) {
  lua_pushboolean(L, check_connection(L)->take_back());
  return 1;
}

int connection_flush(lua_State* L) {
  check_connection(L)->flush();
  return 0;
}

// connection:send(data) -> true, or false if there is no use in it
int connection_send(lua_State* L) {
  Connection* c = check_connection(L);
  return c->send(L, check_view(L, 2));
}

// connection:send_file(file, at, size) -> how many bytes went out at once; nothing if the peer has
// gone
int connection_send_file(lua_State* L) {
  Connection* c = check_connection(L);
  auto* file = Class<CachedFile>::check(L, 2);
  ssize_t n = c->send_file(*file, static_cast<off_t>(luaL_checknumber(L, 3)),
                           static_cast<std::size_t>(luaL_checknumber(L, 4)));
  if (n < 0) return 0;
  lua_pushnumber(L, static_cast<double>(n));
  return 1;
}

// connection:finish(trailers | nil) -> false if the body is too short
int connection_finish(lua_State* L) {
  Connection* c = check_connection(L);
  lua_pushboolean(L, c->finish(opt_view(L, 2)));
  return 1;
}

int connection_has_ended(lua_State* L) {
  lua_pushboolean(L, check_connection(L)->has_ended());
  return 1;
}

// connection:wait_end() -> true if the peer may still read, false if not, nil once it is closed
int connection_wait_end(lua_State* L) { return check_connection(L)->wait_end(L); }

// connection:upgrade(fields) -> stream
int connection_upgrade(lua_State* L) {
  Connection* c = check_connection(L);
  return c->upgrade(L, check_view(L, 2));
}

// connection:release() -> stream, with all that has come; nil if it is closed
int connection_release(lua_State* L) {
  Connection* c = check_connection(L);
  std::string input;
  std::string name = c->peer();
  std::unique_ptr<Transport> transport = c->release(&input);
  if (!transport) return 0;
  auto* stream = Class<Stream>::push(L, std::move(transport), std::move(name), true);
  stream->put_back(std::move(input));
  return 1;
}

// connection:refusal() -> status, bytes, first line of a request that was refused; or nothing
int connection_refusal(lua_State* L) { return check_connection(L)->refusal(L); }

int connection_drain(lua_State* L) {
  check_connection(L)->drain();
  return 0;
}

int connection_close(lua_State* L) {
  check_connection(L)->close();
  return 0;
}

int connection_cut(lua_State* L) {
  check_connection(L)->cut();
  return 0;
}

// connection:peer() -> its address as text
int connection_peer(lua_State* L) {
  const std::string& peer = check_connection(L)->peer();
  lua_pushlstring(L, peer.data(), peer.size());
  return 1;
}

const rille_reg kConnectionMethods[] = {{"next", connection_next, RILLE_WAITS},
                                        {"read_body", connection_read_body, RILLE_WAITS},
                                        {"read_chunk", connection_read_chunk, RILLE_WAITS},
                                        {"limit_body", connection_limit_body, 0},
                                        {"has_body", connection_has_body, 0},
                                        {"trailers", connection_trailers, 0},
                                        {"respond", connection_respond, RILLE_WAITS},
                                        {"start", connection_start, 0},
                                        {"take_back", connection_take_back, 0},
                                        {"flush", connection_flush, 0},
                                        {"send", connection_send, RILLE_WAITS},
                                        {"send_file", connection_send_file, 0},
                                        {"finish", connection_finish, 0},
                                        {"wait_end", connection_wait_end, RILLE_WAITS},
                                        {"has_ended", connection_has_ended, 0},
                                        {"upgrade", connection_upgrade, RILLE_WAITS},
                                        {"release", connection_release, 0},
                                        {"refusal", connection_refusal, 0},
                                        {"drain", connection_drain, 0},
                                        {"close", connection_close, 0},
                                        {"cut", connection_cut, 0},
                                        {"peer", connection_peer, 0},
                                        {nullptr, nullptr, 0}};

// server:open(stream) -> connection. The stream has no transport any more afterwards.
int server_open(lua_State* L) {
  auto& server = Class<ServerBox>::check(L, 1)->server;
  Stream* stream = check_stream(L, 2, "open");
  // The object first: with it all that follows has an owner.
  auto* box = Class<ConnectionBox>::push(L, nullptr);
  std::string name = stream->name();
  box->connection = std::make_unique<Connection>(server, stream->release(), std::move(name));
  return 1;
}

int server_stop(lua_State* L) {
  Class<ServerBox>::check(L, 1)->server->stop();
  return 0;
}

const rille_reg kServerMethods[] = {
    {"open", server_open, 0}, {"stop", server_stop, 0}, {nullptr, nullptr, 0}};

std::uint64_t opt_ms(lua_State* L, const char* name) {
  lua_getfield(L, 1, name);
  double ms = std::ceil(lua_tonumber(L, -1) * 1e3);
  lua_pop(L, 1);
  return ms < 1e15 ? static_cast<std::uint64_t>(std::max(ms, 0.0)) : 0;
}

std::uint64_t opt_size(lua_State* L, const char* name) {
  lua_getfield(L, 1, name);
  double n = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return n < 9e15 ? static_cast<std::uint64_t>(std::max(n, 0.0)) : 0;
}

}  // namespace

ServerOptions check_options(lua_State* L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  ServerOptions options;
  options.limits.head_bytes = opt_size(L, "max_header_bytes");
  options.limits.headers = opt_size(L, "max_headers");
  options.limits.target_bytes = opt_size(L, "max_target_bytes");
  options.limits.body_bytes = opt_size(L, "max_body_bytes");
  options.requests = opt_size(L, "max_requests");
  options.header_ms = opt_ms(L, "header_timeout");
  options.body_ms = opt_ms(L, "body_timeout");
  options.idle_ms = opt_ms(L, "idle_timeout");
  options.write_ms = opt_ms(L, "write_timeout");
  lua_getfield(L, 1, "access_log");
  options.tells_refusals = lua_toboolean(L, -1);
  lua_pop(L, 1);
  lua_getfield(L, 1, "prior_knowledge");
  options.http2 = lua_toboolean(L, -1) != 0;
  lua_pop(L, 1);
  return options;
}

int make_server(lua_State* L) {
  ServerOptions options = check_options(L);
  Class<ServerBox>::push(L, std::make_shared<Server>(rille_loop(L), options));
  return 1;
}

void define_server(lua_State* L) {
  Class<ConnectionBox>::define(L, kConnectionMethods);
  Class<ServerBox>::define(L, kServerMethods);
}

}  // namespace rille::http1
