// A native module in C++ over a library that brings descriptors of its own: c-ares asks name
// servers, and Rille's loop tells it when it may read or write.
//
//   local resolver = require("resolver").open("127.0.0.1:5353")
//   print(resolver:lookup("example.test"))
#include <ares.h>
#include <arpa/inet.h>
#include <netdb.h>

#include <map>
#include <rille/module.hpp>
#include <string>
#include <vector>

namespace {

struct Resolver {
  static constexpr char kName[] = "example.Resolver";

  Resolver(uv_loop_t* loop, const char* servers) : loop_(loop), timer_(new uv_timer_t) {
    uv_timer_init(loop, timer_.get());
    timer_->data = this;
    ares_options options{};
    options.timeout = 1000;
    options.tries = 2;
    options.sock_state_cb = [](void* self, ares_socket_t fd, int readable, int writable) {
      static_cast<Resolver*>(self)->watch(fd, readable, writable);
    };
    options.sock_state_cb_data = this;
    status = ares_init_options(&channel_, &options,
                               ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES);
    if (status == ARES_SUCCESS) status = ares_set_servers_ports_csv(channel_, servers);
  }
  ~Resolver() { close(); }

  // Ends every lookup that is under way: their callbacks are called in here.
  void close() {
    if (ares_channel channel = std::exchange(channel_, nullptr)) ares_destroy(channel);
    polls_.clear();
    timer_.reset();
  }

  ares_channel channel() const { return channel_; }

  // Has the library look at its timeouts in a while, for as long as it has sockets.
  void arm() {
    uv_timer_start(
        timer_.get(),
        [](uv_timer_t* t) {
          auto* self = static_cast<Resolver*>(t->data);
          ares_process_fd(self->channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
          if (!self->polls_.empty()) self->arm();
        },
        100, 0);
  }

  int status = ARES_SUCCESS;

 private:
  void watch(ares_socket_t fd, int readable, int writable) {
    if (!readable && !writable) {
      polls_.erase(fd);
      if (polls_.empty() && timer_) uv_timer_stop(timer_.get());
      return;
    }
    rille::Handle<uv_poll_t>& poll = polls_[fd];
    if (!poll) {
      poll.reset(new uv_poll_t);
      uv_poll_init(loop_, poll.get(), fd);
      poll->data = this;
    }
    int events = (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0);
    uv_poll_start(poll.get(), events, [](uv_poll_t* p, int, int ready) {
      uv_os_fd_t fd;
      uv_fileno(reinterpret_cast<uv_handle_t*>(p), &fd);
      auto* self = static_cast<Resolver*>(p->data);
      ares_process_fd(self->channel_, ready & UV_READABLE ? fd : ARES_SOCKET_BAD,
                      ready & UV_WRITABLE ? fd : ARES_SOCKET_BAD);
    });
  }

  uv_loop_t* loop_;
  ares_channel channel_ = nullptr;
  rille::Handle<uv_timer_t> timer_;
  std::map<ares_socket_t, rille::Handle<uv_poll_t>> polls_;
};

// One lookup. It belongs to c-ares until its callback, which comes in any case.
struct Lookup : rille::Waiting {
  using Waiting::Waiting;
  std::vector<std::string> addresses;
  int result = ARES_SUCCESS;

  int push(lua_State* L) override {
    if (result != ARES_SUCCESS)
      return rille_error(L, "LookupError", nullptr, "%s", ares_strerror(result));
    for (const std::string& address : addresses) lua_pushstring(L, address.c_str());
    return static_cast<int>(addresses.size());
  }

  static void done(void* data, int status, int, hostent* host) {
    std::unique_ptr<Lookup> self(static_cast<Lookup*>(data));
    self->result = status;
    for (char** a = host ? host->h_addr_list : nullptr; a && *a; ++a) {
      char text[INET6_ADDRSTRLEN];
      inet_ntop(host->h_addrtype, *a, text, sizeof text);
      self->addresses.emplace_back(text);
    }
    Waiting::complete(std::move(self), 0);
  }
};

// resolver:lookup(name) -> address...
int lookup(lua_State* L) {
  auto* resolver = rille::Class<Resolver>::check(L, 1);
  const char* name = luaL_checkstring(L, 2);
  if (!resolver->channel()) {
    return rille_error(L, "InvalidStateError", nullptr, "lookup: the resolver is closed");
  }
  auto operation = std::make_unique<Lookup>(rille::Operation{"lookup", {}, {}, {}});
  operation->prepare(L);
  Lookup* started = operation.get();
  resolver->arm();
  // The callback may come in here already: the operation is its own from now on.
  return rille::start(L, std::move(operation), [&] {
    ares_gethostbyname(resolver->channel(), name, AF_INET, Lookup::done, started);
  });
}

// resolver:close(), and what async.with calls
int close(lua_State* L) {
  rille::Class<Resolver>::check(L, 1)->close();
  return 0;
}

// open(servers) -> resolver
int open(lua_State* L) {
  const char* servers = luaL_checkstring(L, 1);
  auto* resolver = rille::Class<Resolver>::push(L, rille_loop(L), servers);
  if (resolver->status == ARES_SUCCESS) return 1;
  return rille_error(L, "LookupError", nullptr, "%s", ares_strerror(resolver->status));
}

const rille_reg kMethods[] = {
    {"lookup", lookup, RILLE_WAITS}, {"close", close, 0}, {nullptr, nullptr, 0}};
const rille_reg kFunctions[] = {{"open", open, 0}, {nullptr, nullptr, 0}};

}  // namespace

extern "C" RILLE_API int luaopen_resolver(lua_State* L) {
  ares_library_init(ARES_LIB_INIT_ALL);
  rille::Class<Resolver>::define(L, kMethods);
  rille_newlib(L, kFunctions);
  return 1;
}
