// Servers of HTTP/1 and their connections, as Lua has them.
#include "http1_server.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "http_answering.h"

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
    : options_(options), timer_(new uv_timer_t), flusher_(new uv_prepare_t) {
  uv_timer_init(loop, timer_.get());
  timer_->data = this;
  uv_unref(reinterpret_cast<uv_handle_t*>(timer_.get()));
  uv_prepare_init(loop, flusher_.get());
  flusher_->data = this;
  uv_unref(reinterpret_cast<uv_handle_t*>(flusher_.get()));
}

void Server::join(Connection* c) {
  c->next_ = first_;
  if (first_) first_->prev_ = c;
  first_ = c;
}

void Server::leave(Connection* c) {
  if (c->flushes_) unsent_.erase(std::find(unsent_.begin(), unsent_.end(), c));
  c->flushes_ = false;
  (c->prev_ ? c->prev_->next_ : first_) = c->next_;
  if (c->next_) c->next_->prev_ = c->prev_;
}

void Server::flush_later(Connection* c) {
  if (std::exchange(c->flushes_, true)) return;
  if (unsent_.empty()) {
    uv_prepare_start(flusher_.get(),
                     [](uv_prepare_t* p) { static_cast<Server*>(p->data)->flush_all(); });
  }
  unsent_.push_back(c);
}

void Server::flush_all() {
  while (!unsent_.empty()) {
    Connection* c = unsent_.back();
    unsent_.pop_back();
    c->flushes_ = false;
    c->flush_begun();
  }
  uv_prepare_stop(flusher_.get());
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

// connection:next() -> head, or nil; nil and true if the peer speaks HTTP/2
int connection_next(lua_State* L) { return check_connection(L)->next_request(L); }

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

const rille_reg kConnectionMethods[] = {{"next", connection_next, RILLE_WAITS},
                                        {"send_file", connection_send_file, 0},
                                        {"upgrade", connection_upgrade, RILLE_WAITS},
                                        {"release", connection_release, 0},
                                        {"refusal", connection_refusal, 0},
                                        {"drain", connection_drain, 0},
                                        {"close", connection_close, 0},
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
  Class<ConnectionBox>::define(L, Answering<check_connection>::methods(kConnectionMethods).data());
  Class<ServerBox>::define(L, kServerMethods);
}

}  // namespace rille::http1
