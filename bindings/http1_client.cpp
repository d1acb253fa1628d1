#include "http1_client.h"

#include <strings.h>

#include <utility>

#include "http_trailers.h"

namespace rille::http1 {

namespace {

constexpr int kMostInterim = 100;          // 1xx responses before the real one
constexpr std::size_t kMostKept = 262144;  // of a body that nobody comes for

template <std::size_t N>
bool is_field(const char* line, const char (&name)[N]) {
  return strncasecmp(line, name, N - 1) == 0;
}

}  // namespace

// ---- the exchange -------------------------------------------------------------------------------

bool ClientConnection::begin(std::string_view request, const Exchange& exchange) {
  if (!transport_ || has_ended_ || fault_) return false;
  limits_.body_bytes = exchange.most_body;
  if (std::exchange(rests_, false)) {
    parser_.limit_body(exchange.most_body);  // it is fresh
  } else {
    parser_.next();
  }
  parser_.expect_no_body(exchange.has_no_body);
  may_upgrade_ = exchange.may_upgrade;
  is_sending_ = exchange.more;
  collects_ = exchange.collects;
  interim_ = 0;
  may_go_on_ = has_begun_ = false;
  in_exchange_ = true;
  uv_buf_t buffer = buffer_of(request);
  ssize_t n = transport_->try_write(&buffer, 1);
  // If it fails, the server has closed; reading says why, and may still find a response.
  if (n < 0) n = static_cast<ssize_t>(request.size());
  request.remove_prefix(static_cast<std::size_t>(n));
  if (!request.empty()) transport_->write(std::string(request), nullptr);
  read();
  return true;
}

int ClientConnection::send(lua_State* L, std::string_view data) {
  uv_buf_t buffer = buffer_of(data);
  ssize_t n = transport_->try_write(&buffer, 1);
  if (n < 0) {
    rille_push_os_error(L, static_cast<int>(n), "write", nullptr, nullptr, name_.c_str());
    return 1;
  }
  data.remove_prefix(static_cast<std::size_t>(n));
  if (data.empty()) return 0;
  return write_and_wait(L, transport_.get(), name_, std::string(data));
}

void ClientConnection::read() {
  if (reading_ || has_ended_) return;
  reading_ = true;
  transport_->read(this);
}

void ClientConnection::pause() {
  if (!std::exchange(reading_, false)) return;
  transport_->pause();
}

void ClientConnection::rest(std::uint64_t ms) {
  in_exchange_ = false;
  rests_ = true;
  trailers_ = parser_.trailers();
  parser_.next();
  read();
  if (ms == 0 || !transport_) return;
  if (!timer_) {
    timer_.reset(new uv_timer_t);
    uv_timer_init(transport_->handle()->loop, timer_.get());
    uv_unref(reinterpret_cast<uv_handle_t*>(timer_.get()));
    timer_->data = this;
  }
  rests_until_ = uv_now(timer_->loop) + ms;
  if (!uv_is_active(reinterpret_cast<uv_handle_t*>(timer_.get()))) expire();
}

// The timer stays set while exchanges come and go, and looks at its end what there is to do.
void ClientConnection::expire() {
  if (!rests_) return;
  std::uint64_t now = uv_now(timer_->loop);
  if (now >= rests_until_) return close();
  auto expired = [](uv_timer_t* t) { static_cast<ClientConnection*>(t->data)->expire(); };
  uv_timer_start(timer_.get(), expired, rests_until_ - now, 0);
}

void ClientConnection::received(const char* data, std::size_t size) {
  if (rests_) return close();
  has_begun_ = true;
  while (size > 0 && in_exchange_ && !parser_.is_complete() && !fault_) {
    std::size_t used = parser_.feed(data, size);
    data += used;
    size -= used;
    if (parser_.has_failed()) {
      fault_ = parser_.fault();
    } else if (parser_.has_head() && parser_.status() == 101) {
      if (!may_upgrade_) fault_ = "the server changed to another protocol";
      break;
    } else if (parser_.is_complete() && parser_.status() < 200) {
      if (parser_.status() == 100) may_go_on_ = true;
      if (++interim_ > kMostInterim) {
        fault_ = "too many interim responses";
      } else {
        parser_.next();
      }
    }
  }
  // What nobody has asked for makes the connection useless, unless it is another protocol's.
  if (size > 0) {
    rest_.append(data, size);
    if (rest_.size() > kMostKept) pause();
  }
  bool collects = collects_ || want_ >= Want::kAll || want_ == Want::kBody;
  if (parser_.body().size() > kMostKept && !collects) pause();
  wake();
}

void ClientConnection::ended(const Failure& failure) {
  if (rests_) return close();
  reading_ = false;
  has_ended_ = true;
  end_ = failure;
  if (in_exchange_ && !parser_.is_complete() && !fault_ && failure.status == UV_EOF) {
    bool begun = parser_.has_begun();
    if (!parser_.finish()) {
      fault_ = begun ? "the connection was closed in the middle of the response"
                     : "the connection was closed before a response came";
    }
  }
  wake();
}

// ---- waiting for the response -------------------------------------------------------------------

bool ClientConnection::is_satisfied() const {
  if (is_over() || parser_.is_complete()) return true;
  switch (want_) {
    case Want::kContinue:
      return may_go_on_ || parser_.has_head();
    case Want::kHead:
      return parser_.has_head();
    case Want::kAll:
    case Want::kBody:
    case Want::kExchange:
      return false;
    case Want::kPiece:
      return !const_cast<Parser&>(parser_).body().empty();
  }
  return true;
}

void ClientConnection::wake() {
  if (point_.is_taken() && is_satisfied()) point_.wake();
}

int ClientConnection::wait(lua_State* L, Want want) {
  if (point_.is_taken()) return luaL_error(L, "another task waits for this response");
  want_ = want;
  if (is_satisfied()) return push(L);
  read();
  return point_.wait(
      L,
      [](lua_State* l, void* self) {
        return l ? static_cast<ClientConnection*>(self)->push(l) : 0;
      },
      this);
}

// Pushes the head, and what of it a client has to look at: see client_head.
void ClientConnection::push_head(lua_State* L, bool is_complete) {
  const std::string& head = parser_.head();
  lua_pushlstring(L, head.data(), head.size());
  int fields = 0;
  for (std::size_t line = head.find('\n'); line != head.npos; line = head.find('\n', line + 1)) {
    const char* name = head.c_str() + line + 1;
    if (is_field(name, "set-cookie:")) fields |= 1;
    if (is_field(name, "content-encoding:")) fields |= 2;
  }
  if (is_complete && !parser_.trailers().empty()) fields |= 4;
  lua_pushinteger(L, fields);
}

// Pushes nil and the result; nil, nil and what is wrong with the response; or an error.
int ClientConnection::push(lua_State* L) {
  bool has_piece = want_ == Want::kPiece && !parser_.body().empty();
  bool is_there = want_ == Want::kHead ? parser_.has_head() : parser_.is_complete();
  if (want_ == Want::kContinue) is_there = may_go_on_ || parser_.has_head();
  if (!has_piece && (fault_ || !is_there)) {
    if (fault_ || (has_ended_ && end_.status == UV_EOF)) {
      lua_pushnil(L);
      lua_pushnil(L);
      lua_pushstring(L, fault_ ? fault_ : "the connection was closed");
      return 3;
    }
    if (!transport_) {
      std::string message = "the connection to " + name_ + " is closed";
      rille_push_error(L, "InvalidStateError", nullptr, message.c_str());
    } else {
      end_.push(L, "read", name_);
    }
    return 1;
  }
  lua_pushnil(L);
  switch (want_) {
    case Want::kContinue:
      lua_pushboolean(L, !parser_.has_head());
      return 2;
    case Want::kHead:
      push_head(L, false);
      return 3;
    case Want::kAll:
      push_head(L, true);
      [[fallthrough]];
    case Want::kBody:
      lua_pushlstring(L, parser_.body().data(), parser_.body().size());
      return want_ == Want::kAll ? 4 : 2;
    case Want::kExchange:
      break;  // has its own
    case Want::kPiece:
      if (!has_piece) {
        lua_pushboolean(L, 0);
        return 2;
      }
      lua_pushlstring(L, parser_.body().data(), parser_.body().size());
      parser_.body().clear();
      if (!parser_.is_complete() && !fault_) read();
      return 2;
  }
  return 1;
}

int ClientConnection::exchange(lua_State* L, std::string_view request, const Exchange& exchange,
                               std::uint64_t rest_ms) {
  if (point_.is_taken()) return luaL_error(L, "another task waits for this response");
  if (!transport_ || has_ended_ || fault_) return 0;
  want_ = Want::kExchange;
  rest_ms_ = rest_ms;
  auto push = [](lua_State* l, void* self) {
    return l ? static_cast<ClientConnection*>(self)->push_exchange(l) : 0;
  };
  point_.prepare(L, push, this);
  begin(request, exchange);
  return point_.park(L);
}

// Pushes nil and the response; or nil, false and what is wrong: a text or an error.
int ClientConnection::push_exchange(lua_State* L) {
  if (!parser_.is_complete() || fault_) {
    lua_pushnil(L);
    lua_pushboolean(L, 0);
    int n = push(L);
    if (n == 1) return 3;
    lua_replace(L, -3);  // of nil, nil and a text
    lua_pop(L, 1);
    return 3;
  }
  bool rests = is_reusable();
  lua_pushnil(L);
  lua_pushinteger(L, parser_.status());
  push_head(L, true);
  lua_pushlstring(L, parser_.body().data(), parser_.body().size());
  lua_pushboolean(L, rests);
  if (rests) rest(rest_ms_);
  return 6;
}

// ---- the end ------------------------------------------------------------------------------------

bool ClientConnection::is_reusable() const {
  return transport_ && !has_ended_ && !fault_ && !is_sending_ && rest_.empty() &&
         parser_.is_complete() && parser_.keep_alive() && transport_->pending() == 0;
}

void ClientConnection::close() {
  reading_ = false;
  timer_.reset();
  transport_.reset();
  point_.wake();
}

std::unique_ptr<Transport> ClientConnection::release(std::string* rest) {
  pause();
  *rest = std::move(rest_);
  return std::move(transport_);
}

// ---- Lua ----------------------------------------------------------------------------------------

namespace {

ClientConnection* check_client(lua_State* L) { return Class<ClientConnection>::check(L, 1); }

// connection:begin(request, has_no_body, most_body, may_upgrade, more, collects) -> whether it
// could. `more`: the request's body will be sent; `collects`: the response's will be read in one
// piece
int client_begin(lua_State* L) {
  std::size_t size;
  const char* request = luaL_checklstring(L, 2, &size);
  ClientConnection::Exchange exchange;
  exchange.has_no_body = lua_toboolean(L, 3) != 0;
  exchange.most_body = static_cast<std::uint64_t>(luaL_optnumber(L, 4, 0));
  exchange.may_upgrade = lua_toboolean(L, 5) != 0;
  exchange.more = lua_toboolean(L, 6) != 0;
  exchange.collects = lua_toboolean(L, 7) != 0;
  lua_pushboolean(L, check_client(L)->begin({request, size}, exchange));
  return 1;
}

// connection:exchange(request, has_no_body, most_body, rest) -> the response's status, head, fields
// as read_all gives them, body, and whether the connection rests now, for that many seconds (0:
// for any time); or false and what is wrong: a text, or an error object that is not raised; or
// nothing if the connection could not be used any more, and nothing was sent
int client_exchange(lua_State* L) {
  std::size_t size;
  const char* request = luaL_checklstring(L, 2, &size);
  ClientConnection::Exchange exchange;
  exchange.has_no_body = lua_toboolean(L, 3) != 0;
  exchange.most_body = static_cast<std::uint64_t>(luaL_checknumber(L, 4));
  auto rest = static_cast<std::uint64_t>(luaL_checknumber(L, 5) * 1e3);
  return check_client(L)->exchange(L, {request, size}, exchange, rest);
}

// connection:send(data)
int client_send(lua_State* L) {
  ClientConnection* c = check_client(L);
  std::size_t size;
  const char* data = luaL_checklstring(L, 2, &size);
  if (c->is_open()) return c->send(L, {data, size});
  std::string message = "the connection to " + c->name() + " is closed";
  rille_push_error(L, "InvalidStateError", nullptr, message.c_str());
  return 1;
}

// connection:end_request(): all of the request's body was sent
int client_end_request(lua_State* L) {
  check_client(L)->end_request();
  return 0;
}

// connection:wait_for_continue() -> true, or false if a response has come instead
int client_continue(lua_State* L) {
  return check_client(L)->wait(L, ClientConnection::Want::kContinue);
}

// connection:read_all() -> head, fields as read_head gives them, and 4 if there are trailers, body;
// or nil, fault
int client_all(lua_State* L) { return check_client(L)->wait(L, ClientConnection::Want::kAll); }

// connection:read_head() -> head, and bits: 1 if it has Set-Cookie, 2 Content-Encoding; or nil,
// fault
int client_head(lua_State* L) { return check_client(L)->wait(L, ClientConnection::Want::kHead); }

// connection:read_body() -> all of the body; or nil, fault
int client_body(lua_State* L) { return check_client(L)->wait(L, ClientConnection::Want::kBody); }

// connection:read_piece() -> what has come of it; false at its end; or nil, fault
int client_piece(lua_State* L) { return check_client(L)->wait(L, ClientConnection::Want::kPiece); }

// connection:trailers() -> { name, value, name, value, ... } of the last response, at its end
int client_trailers(lua_State* L) {
  push_trailers(L, check_client(L)->trailers());
  return 1;
}

template <bool (ClientConnection::*tells)() const>
int client_tells(lua_State* L) {
  lua_pushboolean(L, (check_client(L)->*tells)());
  return 1;
}

// connection:rest(seconds): 0 for any time.
int client_rest(lua_State* L) {
  check_client(L)->rest(static_cast<std::uint64_t>(luaL_checknumber(L, 2) * 1e3));
  return 0;
}

int client_close(lua_State* L) {
  check_client(L)->close();
  return 0;
}

// connection:release() -> stream, and what came behind the response
int client_release(lua_State* L) {
  ClientConnection* c = check_client(L);
  if (!c->is_open()) return luaL_error(L, "the connection is closed");
  std::string rest;
  auto transport = c->release(&rest);
  Class<Stream>::push(L, std::move(transport), c->name());
  lua_pushlstring(L, rest.data(), rest.size());
  return 2;
}

const rille_reg kClientMethods[] = {
    {"begin", client_begin, 0},
    {"exchange", client_exchange, RILLE_WAITS},
    {"send", client_send, RILLE_WAITS},
    {"end_request", client_end_request, 0},
    {"wait_for_continue", client_continue, RILLE_WAITS},
    {"read_all", client_all, RILLE_WAITS},
    {"read_head", client_head, RILLE_WAITS},
    {"read_body", client_body, RILLE_WAITS},
    {"read_piece", client_piece, RILLE_WAITS},
    {"trailers", client_trailers, 0},
    {"is_reusable", client_tells<&ClientConnection::is_reusable>, 0},
    {"wants_more", client_tells<&ClientConnection::wants_more>, 0},
    {"is_untouched", client_tells<&ClientConnection::is_untouched>, 0},
    {"rest", client_rest, 0},
    {"is_open", client_tells<&ClientConnection::is_open>, 0},
    {"close", client_close, 0},
    {"release", client_release, 0},
    {nullptr, nullptr, 0}};

}  // namespace

int make_client(lua_State* L) {
  Stream* stream = check_stream(L, 1, "client");
  std::string name = stream->name();
  Class<ClientConnection>::push(L, stream->release(), std::move(name));
  return 1;
}

void define_client(lua_State* L) { Class<ClientConnection>::define(L, kClientMethods); }

}  // namespace rille::http1
