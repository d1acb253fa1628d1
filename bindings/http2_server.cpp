// Connections of HTTP/2 servers.
#include "http2_server.h"

#include <algorithm>
#include <utility>

namespace rille::http2 {

namespace {

constexpr std::uint64_t kTickMs = 20;         // limits are that exact
constexpr std::size_t kLeastWritten = 65536;  // within the limit for writing, by a slow peer
constexpr std::uint64_t kLastLingerMs = 200;  // once the server is closing
// Resets, pings, settings and the like: so many at once, and so many a second.
constexpr double kAllowance = 400;
constexpr double kAllowedPerSecond = 100;
// While no task takes them: requests that may have been taken back, and refusals to be told.
constexpr std::size_t kMostReady = 256;
constexpr std::size_t kMostRefusals = 256;

Session::Options session_options(const http1::ServerOptions& options) {
  Session::Options o;
  o.is_server = true;
  o.head_bytes =
      static_cast<std::uint32_t>(std::min<std::size_t>(options.limits.head_bytes, UINT32_MAX));
  return o;
}

}  // namespace

Connection::Connection(uv_loop_t* loop, std::shared_ptr<Server> server,
                       std::unique_ptr<Transport> transport, std::string peer)
    : Session(loop, std::move(transport), session_options(server->options)),
      server_(std::move(server)),
      peer_(std::make_shared<const std::string>(std::move(peer))),
      allowance_time_(now()),
      allowance_(kAllowance) {
  if (server_->options.header_ms > 0) {
    idle_deadline_ = now() + server_->options.header_ms;
    watch(idle_deadline_);
  }
}

std::shared_ptr<Exchange> Connection::opened() {
  auto request = std::make_shared<Request>(server_, peer_);
  if (std::uint64_t ms = server_->options.header_ms; ms > 0) {
    request->head_deadline_ = now() + ms;
    watch(request->head_deadline_);
  }
  return request;
}

void Connection::ready(Request* r) {
  ++requests_;
  if (ready_.size() >= kMostReady) {
    std::erase_if(ready_, [](const auto& request) { return request->session() == nullptr; });
  }
  ready_.push_back(std::static_pointer_cast<Request>(r->keeper()));
  if (server_->options.requests > 0 && requests_ >= server_->options.requests) drain();
  point_.wake();
}

void Connection::refused(Refusal refusal) {
  if (refusals_.size() >= kMostRefusals) return terminate(NGHTTP2_ENHANCE_YOUR_CALM);
  refusals_.push_back(std::move(refusal));
  point_.wake();
}

int Connection::next_request(lua_State* L) {
  while (!ready_.empty() && ready_.front()->session() == nullptr) ready_.pop_front();
  if (!ready_.empty() || !refusals_.empty() || !is_open()) return push_request(L, this);
  return point_.wait(L, push_request, this);
}

int Connection::push_request(lua_State* L, void* self) {
  if (!L) return 0;
  auto* c = static_cast<Connection*>(self);
  while (!c->ready_.empty() && c->ready_.front()->session() == nullptr) c->ready_.pop_front();
  lua_pushnil(L);
  if (c->ready_.empty()) {
    // The peer may have taken back what woke the task, or there is a refusal.
    if (c->is_open()) {
      lua_pushboolean(L, 0);
    } else {
      lua_pushnil(L);
    }
    return 2;
  }
  auto* box = Class<RequestBox>::push(L, c->ready_.front());
  c->ready_.pop_front();
  box->request->taken_ = true;
  const std::string& head = box->request->head();
  lua_pushlstring(L, head.data(), head.size());
  return 3;
}

int Connection::refusal(lua_State* L) {
  if (refusals_.empty()) return 0;
  const Refusal& r = refusals_.front();
  lua_pushinteger(L, r.status);
  lua_pushinteger(L, static_cast<lua_Integer>(r.bytes));
  lua_pushlstring(L, r.line.data(), r.line.size());
  refusals_.pop_front();
  return 3;
}

void Connection::stop() {
  if (server_->is_stopped) linger_ms = kLastLingerMs;
  drain();
}

void Connection::input_ended(const Failure&) {
  for (Exchange* e = first(); e; e = next(e)) {
    auto* r = static_cast<Request*>(e);
    r->peer_ended_ = true;
    r->body_point_.wake();
    r->end_point_.wake();
  }
}

void Connection::over() {
  ready_.clear();
  point_.wake();
}

// Sees to the deadlines that hold for the connection as a whole.
void Connection::changed() {
  if (exchanges() > 0) {
    idle_deadline_ = 0;
  } else if (idle_deadline_ == 0 && server_->options.idle_ms > 0) {
    idle_deadline_ = now() + server_->options.idle_ms;
    watch(idle_deadline_);
  }
  if (!is_blocked()) {
    block_deadline_ = 0;
  } else if (block_deadline_ == 0 && server_->options.write_ms > 0) {
    block_deadline_ = now() + server_->options.write_ms;
    taken_mark_ = taken();
    watch(block_deadline_);
  }
}

// Bytes that the system has taken for the peer.
std::uint64_t Connection::taken() {
  return bytes_written() - std::min<std::uint64_t>(transport()->pending(), bytes_written());
}

void Connection::tick(std::uint64_t time) {
  if (block_deadline_ != 0 && block_deadline_ <= time) {
    // Much more may have been written meanwhile, so what is pending says nothing.
    std::uint64_t before = std::exchange(taken_mark_, taken());
    if (taken_mark_ < before + kLeastWritten) return close();
    block_deadline_ = now() + server_->options.write_ms;
  }
  if (idle_deadline_ != 0 && idle_deadline_ <= time) {
    idle_deadline_ = 0;
    terminate(NGHTTP2_NO_ERROR);
  }
  std::uint64_t earliest = UINT64_MAX;
  for (Exchange *e = first(), *following; e; e = following) {
    following = next(e);
    earliest = std::min(earliest, static_cast<Request*>(e)->check_deadlines(time));
  }
  if (idle_deadline_ != 0) earliest = std::min(earliest, idle_deadline_);
  if (block_deadline_ != 0) earliest = std::min(earliest, block_deadline_);
  if (earliest == UINT64_MAX) return;
  watch(earliest <= now() ? now() + 1 : std::max(earliest, now() + kTickMs));
}

bool Connection::allow_frame() {
  std::uint64_t passed = now() - std::exchange(allowance_time_, now());
  allowance_ += static_cast<double>(passed) * kAllowedPerSecond / 1e3;
  allowance_ = std::min(allowance_, kAllowance) - 1;
  return allowance_ >= 0;
}

}  // namespace rille::http2
