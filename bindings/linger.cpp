#include "linger.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <list>

namespace rille {

namespace {

constexpr std::uint64_t kTickMs = 20;
constexpr std::uint64_t kMostMs = 10000;
constexpr char kAllKey[] = "rille.lingering";

// The descriptor if it is a TCP socket, else -1.
int socket_of(Transport* transport) {
  uv_stream_t* handle = transport->handle();
  uv_os_fd_t fd;
  if (!handle || handle->type != UV_TCP) return -1;
  return uv_fileno(reinterpret_cast<uv_handle_t*>(handle), &fd) == 0 ? fd : -1;
}

// A close with data unread is a reset, and bytes on their way may be lost by it.
bool has_unread(Transport* transport) {
  int unread = 0;
  int fd = socket_of(transport);
  return fd >= 0 && ioctl(fd, FIONREAD, &unread) == 0 && unread > 0;
}

class Lingering;

// All of a runtime, in a userdata: they end with it.
struct All {
  static constexpr char kName[] = "rille.Lingering";
  std::list<Lingering> list;
};

class Lingering final : Transport::Sink {
 public:
  Lingering(std::unique_ptr<Transport> transport, uv_loop_t* loop, All* all)
      : transport_(std::move(transport)), timer_(new uv_timer_t), all_(all) {
    uv_timer_init(loop, timer_.get());
    timer_->data = this;
    end_ = uv_now(loop) + kMostMs;
  }

  void start(std::list<Lingering>::iterator place, bool is_shut_down) {
    place_ = place;
    auto tick = [](uv_timer_t* t) { static_cast<Lingering*>(t->data)->tick(); };
    uv_timer_start(timer_.get(), tick, kTickMs, kTickMs);
    if (!is_shut_down) transport_->shutdown(nullptr);
    transport_->read(this);
  }

 private:
  void received(const char*, std::size_t) override { dropped_ = true; }
  void ended(const Failure&) override { finish(); }
  void finish() { all_->list.erase(place_); }

  void tick() {
    // The loop may not have come to reading since it began: its clock stands while Lua runs.
    bool sent = transport_->pending() == 0 && !has_unread(transport_.get()) &&
                (!dropped_ || is_acknowledged());
    if (sent || uv_now(timer_->loop) >= end_) finish();
  }

  // True if the peer's system has got everything.
  bool is_acknowledged() {
    int left = 0;
    int fd = socket_of(transport_.get());
    return fd < 0 || ioctl(fd, SIOCOUTQ, &left) != 0 || left == 0;
  }

  std::unique_ptr<Transport> transport_;
  Handle<uv_timer_t> timer_;
  All* all_;
  std::list<Lingering>::iterator place_;
  std::uint64_t end_;
  bool dropped_ = false;
};

All* all_of(lua_State* L) {
  lua_getfield(L, LUA_REGISTRYINDEX, kAllKey);
  auto* all = static_cast<All*>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  return all;
}

}  // namespace

void define_lingering(lua_State* L) {
  const rille_reg none[] = {{nullptr, nullptr, 0}};
  Class<All>::define(L, none);
  Class<All>::push(L);
  lua_setfield(L, LUA_REGISTRYINDEX, kAllKey);
}

void linger(lua_State* L, std::unique_ptr<Transport> transport) {
  bool told = transport->needs_shutdown();
  if (told) transport->shutdown(nullptr);
  bool unread = !transport->is_shared() && has_unread(transport.get());
  if (transport->pending() == 0 && !unread) {
    return;  // the system delivers by itself what it has
  }
  All* all = all_of(L);
  all->list.emplace_back(std::move(transport), rille_loop(L), all);
  all->list.back().start(std::prev(all->list.end()), told);
}

void finish_lingering(lua_State* L) {
  All* all = all_of(L);
  while (!all->list.empty()) uv_run(rille_loop(L), UV_RUN_ONCE);
}

}  // namespace rille
