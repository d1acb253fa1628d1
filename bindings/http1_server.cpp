#include "http1_server.h"

#include <algorithm>
#include <cmath>

#include "address.h"

namespace rille::http1 {

namespace {

constexpr std::uint64_t kLingerMs = 2000;
constexpr std::uint64_t kLastLingerMs = 200;  // once the server is closing
constexpr std::uint64_t kTickMs = 20;         // limits are that exact
constexpr std::size_t kMostDrained = 65536;   // of a body that nobody wanted
constexpr std::size_t kMostKept = 65536;      // of what comes before its time
constexpr std::size_t kCopied = 16384;        // bodies up to that go out in one piece

uv_buf_t buffer_of(std::string_view text) {
  return uv_buf_init(const_cast<char*>(text.data()), static_cast<unsigned>(text.size()));
}

// A connection's object in Lua.
struct ConnectionBox {
  static constexpr char kName[] = "rille.HttpConnection";
  explicit ConnectionBox(std::unique_ptr<Connection> c) : connection(std::move(c)) {}
  std::unique_ptr<Connection> connection;
};

// A server's. What has been accepted and not taken goes with it.
struct ServerBox {
  static constexpr char kName[] = "rille.HttpServer";
  explicit ServerBox(std::shared_ptr<Server> s) : server(std::move(s)) {}
  ~ServerBox() { server->abandon(); }
  std::shared_ptr<Server> server;
};

}  // namespace

// ---- server -------------------------------------------------------------------------------------

Server::Server(uv_loop_t* loop, const ServerOptions& options, char* space)
    : options_(options), listener_(make_tcp(loop)), timer_(new uv_timer_t), space_(space) {
  listener_->handle.data = this;
  uv_timer_init(loop, timer_.get());
  timer_->data = this;
  uv_unref(reinterpret_cast<uv_handle_t*>(timer_.get()));
}

Server::~Server() = default;

int Server::listen(const sockaddr_storage& address, int backlog, const char** syscall) {
  auto arrived = [](uv_stream_t* s, int status) {
    if (status == 0) static_cast<Server*>(s->data)->take();
  };
  *syscall = "bind";
  int rc = uv_tcp_bind(&listener_->tcp, reinterpret_cast<const sockaddr*>(&address), 0);
  if (rc < 0) return rc;
  *syscall = "listen";
  rc = uv_listen(stream_of(listener_), backlog, arrived);
  // Without this, libuv sleeps after each connection it accepts, to leave some to other processes.
  if (rc == 0) uv_tcp_simultaneous_accepts(&listener_->tcp, 1);
  return rc;
}

int Server::port() const {
  sockaddr_storage address{};
  int size = sizeof address;
  uv_tcp_getsockname(&listener_->tcp, reinterpret_cast<sockaddr*>(&address), &size);
  return port_of(address);
}

// Until it is taken from libuv, a connection over the limit keeps the rest in the backlog.
void Server::take() {
  if (options_.connections > 0 && open_ >= options_.connections) {
    held_back_ = true;
    return;
  }
  StreamHandle handle = make_tcp(timer_->loop);
  if (uv_accept(stream_of(listener_), stream_of(handle)) != 0) return;
  accepted_.push_back(std::make_unique<Connection>(shared_from_this(), std::move(handle)));
  acceptor_.wake();
}

int Server::accept(lua_State* L) {
  if (!accepted_.empty() || !listener_) return push_connection(L, this);
  return acceptor_.wait(L, push_connection, this);
}

int Server::push_connection(lua_State* L, void* self) {
  if (!L) return 0;
  auto& accepted = static_cast<Server*>(self)->accepted_;
  lua_pushnil(L);
  if (accepted.empty()) {
    lua_pushnil(L);
  } else {
    Class<ConnectionBox>::push(L, std::move(accepted.front()));
    accepted.pop_front();
  }
  return 2;
}

void Server::stop() {
  listener_.reset();
  acceptor_.wake();
}

void Server::abandon() {
  stop();
  accepted_.clear();
}

void Server::join(Connection* c) {
  ++open_;
  c->next_ = first_;
  if (first_) first_->prev_ = c;
  first_ = c;
}

void Server::leave(Connection* c) {
  --open_;
  (c->prev_ ? c->prev_->next_ : first_) = c->next_;
  if (c->next_) c->next_->prev_ = c->prev_;
  if (held_back_ && listener_) {
    held_back_ = false;
    take();
  }
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
  due_ = UINT64_MAX;
  if (again) {
    watch(now + 1);
  } else if (earliest != UINT64_MAX) {
    watch(std::max(earliest, now + kTickMs));
  }
}

// ---- connection: bytes that arrive --------------------------------------------------------------

Connection::Connection(std::shared_ptr<Server> server, StreamHandle handle)
    : server_(std::move(server)), parser_(HTTP_REQUEST, server_->options_.limits) {
  server_->join(this);
  sockaddr_storage address{};
  int size = sizeof address;
  uv_tcp_getpeername(&handle->tcp, reinterpret_cast<sockaddr*>(&address), &size);
  remote_ = ip_of(address);
  uv_tcp_nodelay(&handle->tcp, 1);
  transport_ = make_transport(std::move(handle), server_->space_);
  transport_->read(this);
  set_deadline(server_->options_.header_ms);
}

Connection::~Connection() { close(); }

void Connection::close() {
  if (state_ == kClosed) return;
  state_ = kClosed;
  deadline_ = 0;
  transport_.reset();
  server_->leave(this);
  body_point_.wake();
  request_point_.wake();
}

void Connection::received(const char* data, std::size_t size) {
  std::size_t used = 0;
  switch (state_) {
    case kReading:
      used = parse(data, size);
      break;
    case kReady:
    case kHandling:
      used = take_body(data, size);
      break;
    case kDraining:
      used = drop_body(data, size);
      break;
    case kLingering:
    case kClosed:
      return;
  }
  if (used == size || state_ == kLingering || state_ == kClosed) return;
  // The rest belongs to a later request.
  input_.append(data + used, size - used);
  if (input_.size() > kMostKept) hold_back();
  if (state_ == kDraining) begin_next();
}

// Looks for the head of a request; returns how many bytes belong to it.
std::size_t Connection::parse(const char* data, std::size_t size) {
  bool had_begun = parser_.has_begun();
  std::size_t used = parser_.feed(data, size);
  if (parser_.has_head()) {
    state_ = kReady;
    deadline_ = 0;
    request_point_.wake();
  } else if (parser_.has_failed()) {
    refuse(parser_.refusal(), parser_.fault());
  } else if (!had_begun && parser_.has_begun()) {
    // Not moved by what follows: who sends a byte now and then is late all the same.
    set_deadline(server_->options_.header_ms);
  }
  return used;
}

std::size_t Connection::take_body(const char* data, std::size_t size) {
  if (parser_.has_failed()) return size;
  std::size_t used = parser_.is_complete() ? 0 : parser_.feed(data, size);
  bool enough = parser_.is_complete() || parser_.has_failed() || parser_.body().size() > most_body_;
  if (enough) body_point_.wake();
  bool kept = !body_point_.is_taken() && !parser_.is_complete();
  if (kept && parser_.body().size() > kMostKept) hold_back();
  return used;
}

std::size_t Connection::drop_body(const char* data, std::size_t size) {
  std::size_t used = parser_.feed(data, size);
  parser_.discard_body();
  drained_ += used;
  if (parser_.has_failed() || drained_ > kMostDrained) {
    linger();
  } else if (parser_.is_complete() && used == size) {
    begin_next();
  }
  return used;
}

void Connection::hold_back() {
  if (held_ || ended_) return;
  held_ = true;
  transport_->pause();
}

void Connection::go_on_reading() {
  if (!held_) return;
  held_ = false;
  transport_->read(this);
}

// Begins with the next request, with what has come of it already.
void Connection::begin_next() {
  parser_.next();
  state_ = kReading;
  if (closing_) return linger();
  set_deadline(server_->options_.idle_ms);
  if (!input_.empty()) {
    parsed_ += parse(input_.data() + parsed_, input_.size() - parsed_);
    if (state_ == kLingering || state_ == kClosed) return;
    if (parsed_ == input_.size()) {
      input_.clear();
      parsed_ = 0;
    }
  }
  if (ended_ && state_ == kReading) return close();
  if (input_.empty()) go_on_reading();
}

void Connection::ended(const Failure&) {
  ended_ = true;
  if (state_ == kReady || state_ == kHandling) {
    // Half-closed connections get their answer; with others, writing it fails.
    body_point_.wake();
  } else {
    close();
  }
}

void Connection::set_deadline(std::uint64_t ms) {
  deadline_ = ms == 0 ? 0 : uv_now(server_->timer_->loop) + ms;
  if (deadline_ != 0) server_->watch(deadline_);
}

void Connection::expire() {
  deadline_ = 0;
  if (state_ == kReading && parser_.has_begun()) {
    refuse(408, "the header took too long");
  } else if (state_ != kHandling || writing_) {
    close();
  } else if (body_point_.is_taken()) {
    body_status_ = 408;
    body_fault_ = "the body took too long";
    body_point_.wake();
  }
}

// ---- connection: what the task asks for ---------------------------------------------------------

int Connection::next_request(lua_State* L) {
  if (state_ == kHandling) {
    if (closing_) {
      linger();
    } else if (parser_.is_complete()) {
      begin_next();
    } else {
      state_ = kDraining;
      drained_ = 0;
      parser_.discard_body();
      set_deadline(server_->options_.body_ms);
      go_on_reading();
    }
  }
  if (state_ == kReady || state_ == kClosed) return push_request(L, this);
  return request_point_.wait(L, push_request, this);
}

int Connection::push_request(lua_State* L, void* self) {
  if (!L) return 0;
  auto* c = static_cast<Connection*>(self);
  lua_pushnil(L);
  if (c->state_ != kReady) {
    lua_pushnil(L);
    return 2;
  }
  const std::string& head = c->parser_.head();
  lua_pushlstring(L, head.data(), head.size());
  c->state_ = kHandling;
  c->writing_ = false;
  c->body_status_ = 0;
  c->body_fault_ = nullptr;
  return 2;
}

int Connection::read_body(lua_State* L, std::size_t most) {
  most_body_ = most;
  waiting_ = answered_;
  bool known = parser_.is_complete() || parser_.has_failed() || ended_ || body_status_ != 0 ||
               state_ != kHandling || parser_.content_length() > most ||
               parser_.body().size() > most;
  if (known) return push_body(L);
  if (parser_.expects_continue() && parser_.body_received() == 0) {
    transport_->write("HTTP/1.1 100 Continue\r\n\r\n", nullptr);
  }
  set_deadline(server_->options_.body_ms);
  go_on_reading();
  return body_point_.wait(L, push_body, this);
}

int Connection::push_body(lua_State* L, void* self) {
  return L ? static_cast<Connection*>(self)->push_body(L) : 0;
}

int Connection::push_body(lua_State* L) {
  lua_pushnil(L);
  // Another task may have answered the request after this one was woken.
  if (waiting_ != answered_ || state_ != kHandling) {
    lua_pushnil(L);
    return 2;
  }
  deadline_ = 0;
  int status = body_status_;
  const char* fault = body_fault_;
  if (status == 0 &&
      (parser_.content_length() > most_body_ || parser_.body().size() > most_body_)) {
    status = 413;
    fault = "body too large";
  } else if (status == 0 && parser_.has_failed()) {
    status = parser_.refusal();
    fault = parser_.fault();
  } else if (status == 0 && !parser_.is_complete()) {
    status = 400;
    fault = "the body was cut off";
  }
  if (status == 0) {
    lua_pushlstring(L, parser_.body().data(), parser_.body().size());
    return 2;
  }
  closing_ = true;
  lua_pushnil(L);
  lua_pushinteger(L, status);
  lua_pushstring(L, fault);
  return 4;
}

// Whether the connection ends with this response.
bool Connection::answers_close(int flags) {
  if (closing_ || ended_ || (flags & kClose) || !parser_.keep_alive()) return true;
  if (parser_.is_complete()) return false;
  // A client that was not told to go on may send its body or not. And what is too long to be
  // drained is not begun with.
  return parser_.has_failed() || (parser_.expects_continue() && parser_.body_received() == 0) ||
         parser_.content_length() > parser_.body_received() + kMostDrained;
}

int Connection::respond(lua_State* L, const ResponseHead& given, std::string_view body, int flags) {
  if (state_ != kHandling) return 0;  // it was closed meanwhile
  deadline_ = 0;
  ++answered_;
  body_point_.wake();
  ResponseHead head = given;
  closing_ = answers_close(flags);
  if (closing_) {
    head.connection = "close";
  } else if (parser_.is_http_1_0()) {
    head.connection = "keep-alive";
  }
  if (!(flags & kNoDate)) head.date = server_->date_.text();
  head.length = body.size();
  bool has_body = may_have_body(head.status) && !parser_.is_head_request();
  if (!has_body) body = {};

  std::string& out = server_->out_;
  out.clear();
  append(&out, head);
  if (body.size() <= kCopied) {
    out.append(body);
    body = {};
  }
  uv_buf_t buffers[] = {buffer_of(out), buffer_of(body)};
  ssize_t n = transport_->try_write(buffers, body.empty() ? 1 : 2);
  if (n < 0) {
    close();
    return 0;
  }
  auto written = static_cast<std::size_t>(n);
  if (written == out.size() + body.size()) return 0;

  std::string rest;
  if (written < out.size()) {
    rest.reserve(out.size() + body.size() - written);
    rest.append(out, written).append(body);
  } else {
    rest = body.substr(written - out.size());
  }
  writing_ = true;
  set_deadline(server_->options_.write_ms);
  return write_and_wait(L, transport_.get(), remote(), std::move(rest));
}

// ---- connection: the end ------------------------------------------------------------------------

// Answers what the task shall not hear of, and ends.
void Connection::refuse(int status, const char* fault) {
  std::string body = std::string(reason(status)) + ": " + fault + "\n";
  ResponseHead head;
  head.status = status;
  head.content_type = "text/plain; charset=utf-8";
  head.date = server_->date_.text();
  head.length = body.size();
  head.connection = "close";
  std::string out;
  append(&out, head);
  if (!parser_.is_head_request()) out += body;
  transport_->write(std::move(out), nullptr);
  linger();
}

// Closing while bytes are still to be read would reset the connection, and the peer might lose the
// response. So it is told that nothing follows, and given time to close its end.
void Connection::linger() {
  if (state_ == kClosed) return;
  if (ended_) return close();
  state_ = kLingering;
  input_.clear();
  parsed_ = 0;
  transport_->shutdown(nullptr);
  go_on_reading();
  set_deadline(server_->listener_ ? kLingerMs : kLastLingerMs);
}

void Connection::drain() {
  closing_ = true;
  bool idle = state_ == kReading && !parser_.has_begun();
  if (idle || state_ == kDraining || state_ == kLingering) close();
}

// ---- Lua ----------------------------------------------------------------------------------------

namespace {

Connection* check_connection(lua_State* L) {
  return Class<ConnectionBox>::check(L, 1)->connection.get();
}

std::string_view opt_view(lua_State* L, int index) {
  std::size_t size = 0;
  const char* text = luaL_optlstring(L, index, "", &size);
  return {text, size};
}

// connection:next() -> head, or nil
int connection_next(lua_State* L) { return check_connection(L)->next_request(L); }

// connection:read_body(most) -> body; or nil, status, fault
int connection_read_body(lua_State* L) {
  lua_Number most = luaL_checknumber(L, 2);
  return check_connection(L)->read_body(
      L, most < 9e15 ? static_cast<std::size_t>(most) : std::size_t{SIZE_MAX});
}

// connection:respond(status, body, content_type | nil, fields | nil, flags | nil)
int connection_respond(lua_State* L) {
  Connection* c = check_connection(L);
  ResponseHead head;
  head.status = luaL_checkint(L, 2);
  std::size_t size;
  const char* body = luaL_checklstring(L, 3, &size);
  head.content_type = opt_view(L, 4);
  head.fields = opt_view(L, 5);
  int flags = luaL_optint(L, 6, 0);
  return c->respond(L, head, {body, size}, flags);
}

int connection_drain(lua_State* L) {
  check_connection(L)->drain();
  return 0;
}

int connection_close(lua_State* L) {
  check_connection(L)->close();
  return 0;
}

int connection_remote(lua_State* L) {
  lua_pushstring(L, check_connection(L)->remote().c_str());
  return 1;
}

const rille_reg kConnectionMethods[] = {{"next", connection_next, RILLE_WAITS},
                                        {"read_body", connection_read_body, RILLE_WAITS},
                                        {"respond", connection_respond, RILLE_WAITS},
                                        {"drain", connection_drain, 0},
                                        {"close", connection_close, 0},
                                        {"remote", connection_remote, 0},
                                        {nullptr, nullptr, 0}};

std::uint64_t opt_ms(lua_State* L, const char* name) {
  lua_getfield(L, 3, name);
  double ms = std::ceil(lua_tonumber(L, -1) * 1e3);
  lua_pop(L, 1);
  return ms < 1e15 ? static_cast<std::uint64_t>(std::max(ms, 0.0)) : 0;
}

std::uint64_t opt_size(lua_State* L, const char* name) {
  lua_getfield(L, 3, name);
  double n = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return n < 9e15 ? static_cast<std::uint64_t>(std::max(n, 0.0)) : 0;
}

Server* check_server(lua_State* L) { return Class<ServerBox>::check(L, 1)->server.get(); }

// server:accept() -> connection, or nil once the server has stopped
int server_accept(lua_State* L) { return check_server(L)->accept(L); }

int server_port(lua_State* L) {
  lua_pushinteger(L, check_server(L)->port());
  return 1;
}

int server_stop(lua_State* L) {
  check_server(L)->stop();
  return 0;
}

const rille_reg kServerMethods[] = {{"accept", server_accept, RILLE_WAITS},
                                    {"port", server_port, 0},
                                    {"stop", server_stop, 0},
                                    {nullptr, nullptr, 0}};

}  // namespace

int listen(lua_State* L) {
  const char* ip = luaL_checkstring(L, 1);
  int port = luaL_checkint(L, 2);
  luaL_checktype(L, 3, LUA_TTABLE);
  ServerOptions options;
  options.limits.head_bytes = opt_size(L, "max_header_bytes");
  options.limits.headers = opt_size(L, "max_headers");
  options.limits.target_bytes = opt_size(L, "max_target_bytes");
  options.limits.body_bytes = opt_size(L, "max_body_bytes");
  options.connections = opt_size(L, "max_connections");
  options.header_ms = opt_ms(L, "header_timeout");
  options.body_ms = opt_ms(L, "body_timeout");
  options.idle_ms = opt_ms(L, "idle_timeout");
  options.write_ms = opt_ms(L, "write_timeout");
  sockaddr_storage address;
  if (parse_address(ip, port, &address) != 0) return luaL_argerror(L, 1, "not an IP address");

  auto* box =
      Class<ServerBox>::push(L, std::make_shared<Server>(rille_loop(L), options, read_space(L)));
  const char* syscall;
  int rc = box->server->listen(address, 511, &syscall);
  if (rc == 0) return 1;
  box->server->stop();
  lua_pushstring(L, address_text(ip, port).c_str());
  rille_push_os_error(L, rc, syscall, nullptr, nullptr, lua_tostring(L, -1));
  return lua_error(L);
}

void define_server(lua_State* L) {
  Class<ConnectionBox>::define(L, kConnectionMethods);
  Class<ServerBox>::define(L, kServerMethods);
}

}  // namespace rille::http1
