// rille.core.dns: questions to name servers, on c-ares.
#include <ares.h>
#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <deque>
#include <rille/access.hpp>
#include <rille/module.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "dns_answer.h"
#include "dns_sockets.h"
#include "host_name.h"

namespace rille::dns {
namespace {

// Reads "ip", "ip:port", "[ip]:port"; false if it is none of these.
bool parse_server(std::string_view text, ares_addr_port_node* out) {
  std::string_view ip = text, port;
  bool has_port = false;
  std::size_t colon = text.rfind(':');
  if (!text.empty() && text.front() == '[') {
    std::size_t end = text.find(']');
    if (end == std::string_view::npos) return false;
    ip = text.substr(1, end - 1);
    has_port = end + 1 < text.size();
    if (has_port && text[end + 1] != ':') return false;
    if (has_port) port = text.substr(end + 2);
  } else if (colon != std::string_view::npos && text.find(':') == colon) {
    has_port = true;
    ip = text.substr(0, colon);
    port = text.substr(colon + 1);
  }
  int number = 53;
  if (has_port) {
    const char* end = port.data() + port.size();
    auto [rest, error] = std::from_chars(port.data(), end, number);
    if (error != std::errc() || rest != end || number < 1 || number > 65535) return false;
  }
  *out = {};
  out->udp_port = out->tcp_port = number;
  std::string address(ip);
  if (text.front() != '[' && uv_inet_pton(AF_INET, address.c_str(), &out->addr.addr4) == 0) {
    out->family = AF_INET;
    return true;
  }
  out->family = AF_INET6;
  return uv_inet_pton(AF_INET6, address.c_str(), &out->addr.addr6) == 0;
}

class Channel;

// A question that a task waits for; owns itself from its start until its end.
struct Query {
  Channel* channel;
  std::string name;
  int type;
  rille_waiter* waiter = nullptr;
  bool is_wanted = true;
  int status = ARES_SUCCESS;
  int first_status = ARES_SUCCESS;  // what the first server said, once all are asked
  std::string answer{};             // Lua sees it when the task resumes

  static int push(lua_State* L, void* self);
};

// Name servers, and the questions that they are asked at present. Timers and a handle for each
// socket drive c-ares on the loop.
//
// After an answer that is an error (SERVFAIL, REFUSED, NOTIMP) c-ares goes on to the next server,
// but it forgets which error that was. So a question is asked with such answers let through first,
// and again without, if there are other servers.
class Channel {
 public:
  static constexpr char kName[] = "rille.core.DnsChannel";

  explicit Channel(uv_loop_t* loop);
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel() { close(); }

  // Without servers those of the system are asked. A round of tries takes twice as long as the one
  // before it; all of them end with `timeout_ms`.
  int open(std::vector<ares_addr_port_node> servers, int timeout_ms, int tries);
  bool is_open() const { return first_.channel != nullptr; }
  void ask(std::unique_ptr<Query> query);
  void give_up(Query* query);
  // How many messages have come that answer no question in any way.
  bool asks_system = false;  // and not servers that a script was granted
  unsigned unreadable() const { return first_.sockets.unreadable() + others_.sockets.unreadable(); }
  // Ends all questions.
  void close();

 private:
  struct Asker {
    Channel* owner;
    ares_channel channel = nullptr;
    Sockets sockets{};
  };

  static void on_answer(void* query, int status, int timeouts, unsigned char* bytes, int size);
  static void on_socket(void* asker, ares_socket_t fd, int readable, int writable);
  static void complete(Query* query) { rille_complete(query->waiter, Query::push, query); }
  int open_asker(Asker* asker, ares_options options, int flags,
                 std::vector<ares_addr_port_node>* servers);
  void send(Query* query);
  void send_waiting(int most);
  void drop_waiting(int status);
  void process(Asker* asker, ares_socket_t readable, ares_socket_t writable);
  void after_answers();
  void set_timer();
  void start_timer(uint64_t ms);

  // Of a thousand questions at once a server loses those for which its socket has no room. So not
  // more than some are sent before answers come in, or a pause has gone by.
  static constexpr int kAtOnce = 128;
  static constexpr int kAfterPause = 64;
  static constexpr uint64_t kPauseMs = 10;

  uv_loop_t* loop_;
  Handle<uv_timer_t> timer_{new uv_timer_t};
  Handle<uv_timer_t> pause_{new uv_timer_t};
  std::unordered_map<ares_socket_t, Handle<uv_poll_t>> sockets_;
  Asker first_{this}, others_{this};
  std::deque<Query*> waiting_;  // not sent yet
  uint64_t first_try_ms_ = 0;
  int sent_ = 0;    // questions without an answer
  int wanted_ = 0;  // questions, sent or not, that somebody waits for
};

Channel::Channel(uv_loop_t* loop) : loop_(loop) {
  for (uv_timer_t* timer : {timer_.get(), pause_.get()}) {
    uv_timer_init(loop, timer);
    timer->data = this;
  }
}

int count_system_servers() {
  ares_channel channel;
  if (ares_init(&channel) != ARES_SUCCESS) return 1;
  ares_addr_node* list = nullptr;
  ares_get_servers(channel, &list);
  int n = 0;
  for (ares_addr_node* s = list; s; s = s->next) ++n;
  ares_free_data(list);
  ares_destroy(channel);
  return std::max(n, 1);
}

int Channel::open_asker(Asker* asker, ares_options options, int flags,
                        std::vector<ares_addr_port_node>* servers) {
  options.flags = flags;
  options.sock_state_cb = on_socket;
  options.sock_state_cb_data = asker;
  int mask = ARES_OPT_FLAGS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS;
  int status = ares_init_options(&asker->channel, &options, mask);
  if (status != ARES_SUCCESS) return status;
  asker->sockets.serve(asker->channel);
  if (servers->empty()) return status;
  return ares_set_servers_ports(asker->channel, servers->data());
}

int Channel::open(std::vector<ares_addr_port_node> servers, int timeout_ms, int tries) {
  static const int kLibrary = ares_library_init(ARES_LIB_INIT_ALL);
  if (kLibrary != ARES_SUCCESS) return kLibrary;
  for (std::size_t i = 0; i + 1 < servers.size(); ++i) servers[i].next = &servers[i + 1];
  int count = servers.empty() ? count_system_servers() : static_cast<int>(servers.size());
  int shares = ((1 << tries) - 1) * count;
  ares_options options{};
  options.tries = tries;
  options.timeout = std::max(1, timeout_ms / shares);
  first_try_ms_ = static_cast<uint64_t>(options.timeout);
  int status = open_asker(&first_, options, ARES_FLAG_NOCHECKRESP, &servers);
  if (status != ARES_SUCCESS || count == 1) return status;
  return open_asker(&others_, options, 0, &servers);
}

void Channel::close() {
  // Destroying them ends every question, and tells of every socket that is closed.
  for (Asker* asker : {&first_, &others_}) {
    if (asker->channel) ares_destroy(std::exchange(asker->channel, nullptr));
  }
  drop_waiting(ARES_EDESTRUCTION);
  timer_.reset();
  pause_.reset();
}

void Channel::ask(std::unique_ptr<Query> query) {
  ++wanted_;
  if (sent_ < kAtOnce) return send(query.release());
  waiting_.push_back(query.release());
  if (uv_is_active(reinterpret_cast<uv_handle_t*>(pause_.get()))) return;
  auto paused = [](uv_timer_t* timer) {
    static_cast<Channel*>(timer->data)->send_waiting(kAfterPause);
  };
  uv_timer_start(pause_.get(), paused, kPauseMs, kPauseMs);
}

void Channel::send(Query* query) {
  ++sent_;
  ares_query(first_.channel, query->name.c_str(), 1, query->type, on_answer, query);
  if (sent_ == 0) return;  // it was answered at once
  // A first try may end before a later one of a question that was asked earlier.
  bool is_set = uv_is_active(reinterpret_cast<uv_handle_t*>(timer_.get()));
  if (!is_set || uv_timer_get_due_in(timer_.get()) > first_try_ms_) start_timer(first_try_ms_);
}

void Channel::send_waiting(int most) {
  for (; most > 0 && !waiting_.empty(); --most) {
    Query* query = waiting_.front();
    waiting_.pop_front();
    send(query);
  }
  if (waiting_.empty() && pause_) uv_timer_stop(pause_.get());
}

void Channel::drop_waiting(int status) {
  for (Query* query : std::exchange(waiting_, {})) {
    query->status = status;
    if (query->is_wanted) --wanted_;
    complete(query);
  }
}

// A question that was sent cannot be taken back; but if nobody waits for any, all can.
void Channel::give_up(Query* query) {
  query->is_wanted = false;
  --wanted_;
  if (wanted_ > 0) return;
  drop_waiting(ARES_ECANCELLED);
  for (Asker* asker : {&first_, &others_}) {
    if (asker->channel) ares_cancel(asker->channel);
  }
  after_answers();
}

void Channel::on_answer(void* arg, int status, int /*timeouts*/, unsigned char* bytes, int size) {
  auto* q = static_cast<Query*>(arg);
  Channel* self = q->channel;
  bool is_error = status == ARES_ESERVFAIL || status == ARES_EREFUSED || status == ARES_ENOTIMP;
  if (is_error && self->others_.channel && q->is_wanted && q->first_status == ARES_SUCCESS) {
    q->first_status = status;
    ares_query(self->others_.channel, q->name.c_str(), 1, q->type, on_answer, q);
    return;
  }
  q->status = status;
  if (status == ARES_ECONNREFUSED && q->first_status != ARES_SUCCESS) q->status = q->first_status;
  if (bytes && q->is_wanted) {
    q->answer.assign(reinterpret_cast<char*>(bytes), static_cast<std::size_t>(size));
  }
  --self->sent_;
  if (q->is_wanted) --self->wanted_;
  complete(q);
}

void Channel::on_socket(void* arg, ares_socket_t fd, int readable, int writable) {
  auto* asker = static_cast<Asker*>(arg);
  auto& sockets = asker->owner->sockets_;
  if (!readable && !writable) {
    sockets.erase(fd);
    return;
  }
  Handle<uv_poll_t>& handle = sockets[fd];
  if (!handle) {
    auto fresh = std::make_unique<uv_poll_t>();
    if (uv_poll_init(asker->owner->loop_, fresh.get(), fd) != 0) return;  // it will time out
    handle.reset(fresh.release());
    handle->data = asker;
  }
  int events = (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0);
  uv_poll_start(handle.get(), events, [](uv_poll_t* poll, int status, int happened) {
    auto* self = static_cast<Asker*>(poll->data);
    uv_os_fd_t socket;
    if (uv_fileno(reinterpret_cast<uv_handle_t*>(poll), &socket) != 0) return;
    bool can_read = status < 0 || (happened & UV_READABLE), can_write = happened & UV_WRITABLE;
    self->owner->process(self, can_read ? socket : ARES_SOCKET_BAD,
                         can_write ? socket : ARES_SOCKET_BAD);
  });
}

void Channel::process(Asker* asker, ares_socket_t readable, ares_socket_t writable) {
  ares_process_fd(asker->channel, readable, writable);
  after_answers();
}

void Channel::after_answers() {
  if (!is_open()) return;
  send_waiting(kAtOnce - sent_);
  if (sent_ > 0) return;
  uv_timer_stop(timer_.get());
  first_.sockets.forget();
  others_.sockets.forget();
}

// Looking for the next deadline goes through all questions, so it is done when the timer has fired
// and not with each question.
void Channel::set_timer() {
  uint64_t ms = UINT64_MAX;
  for (Asker* asker : {&first_, &others_}) {
    timeval time{};
    if (!asker->channel || !ares_timeout(asker->channel, nullptr, &time)) continue;
    ms = std::min(ms, static_cast<uint64_t>(time.tv_sec) * 1000 +
                          static_cast<uint64_t>(time.tv_usec) / 1000 + 1);
  }
  if (sent_ > 0 && ms != UINT64_MAX) start_timer(ms);
}

void Channel::start_timer(uint64_t ms) {
  auto fired = [](uv_timer_t* timer) {
    auto* self = static_cast<Channel*>(timer->data);
    for (Asker* asker : {&self->first_, &self->others_}) {
      if (asker->channel) self->process(asker, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    }
    self->set_timer();
  };
  uv_timer_start(timer_.get(), fired, ms, 0);
}

// ---- results -----------------------------------------------------------------------------------

const char* code_of(int status) {
  static const char* const kCodes[] = {
      nullptr,    "ENODATA",   "EFORMERR", "ESERVFAIL",  "ENOTFOUND",   "ENOTIMP",
      "EREFUSED", "EBADQUERY", "EBADNAME", "EBADFAMILY", "EBADRESP",    "ECONNREFUSED",
      "ETIMEOUT", "EOF",       "EFILE",    "ENOMEM",     "EDESTRUCTION"};
  if (status == ARES_ECANCELLED) return "EDESTRUCTION";
  if (status > 0 && status < static_cast<int>(std::size(kCodes))) return kCodes[status];
  return "EBADRESP";
}

int push_failure(lua_State* L, int status) {
  lua_pushnil(L);
  lua_pushnil(L);
  lua_pushstring(L, code_of(status));
  lua_pushinteger(L, status);
  return 4;
}

int Query::push(lua_State* L, void* self) {
  std::unique_ptr<Query> q(static_cast<Query*>(self));
  if (!L) return 0;
  if (q->status != ARES_SUCCESS) return push_failure(L, q->status);
  lua_pushnil(L);
  int n = push_answer(L, q->answer, q->type);
  if (n > 0) return 2;
  return push_failure(L, n == 0 ? ARES_ENODATA : ARES_EBADRESP);
}

// ---- functions ---------------------------------------------------------------------------------

Channel* check_channel(lua_State* L) { return Class<Channel>::check(L, 1); }

// channel:query(name, type) -> list, or nil, code, number. Without a list the code tells why;
// "EDESTRUCTION" is the channel's end.
int query(lua_State* L) {
  Channel* channel = check_channel(L);
  std::size_t size;
  const char* text = luaL_checklstring(L, 2, &size);
  int type = luaL_checkint(L, 3);
  if (!channel->is_open()) return push_failure(L, ARES_EDESTRUCTION);
  bool is_root = std::string_view(text, size) == ".";
  std::optional<std::string> name = is_root ? std::string(".") : host_name({text, size});
  if (!name) return push_failure(L, ARES_EBADNAME);

  Refusal refusal;
  Access* access = Access::of(L);
  if (access && channel->asks_system && !access->may_look_up(*name, &refusal)) {
    return push_refusal(L, refusal);
  }
  auto q = std::make_unique<Query>(Query{channel, std::move(*name), type});
  auto give_up = [](rille_waiter*, void* data) {
    auto* self = static_cast<Query*>(data);
    self->channel->give_up(self);
  };
  q->waiter = rille_prepare(L, give_up, q.get());
  rille_waiter* waiter = q->waiter;
  channel->ask(std::move(q));
  return rille_park(L, waiter);
}

// channel:unreadable() -> how many messages have come that answer no question in any way
int unreadable(lua_State* L) {
  lua_pushinteger(L, static_cast<lua_Integer>(check_channel(L)->unreadable()));
  return 1;
}

int close_channel(lua_State* L) {
  check_channel(L)->close();
  return 0;
}

bool may_ask(const Access& access, const ares_addr_port_node& server, Refusal* refusal) {
  char ip[INET6_ADDRSTRLEN] = "";
  inet_ntop(server.family, &server.addr, ip, sizeof ip);
  constexpr int kPort = 53;
  auto allows = [&](int port) { return access.may_reach(ip, port > 0 ? port : kPort, refusal); };
  return allows(server.udp_port) && allows(server.tcp_port);
}

// channel(servers, timeout_ms, tries) -> channel, or nil and an error; `servers` is a list of texts
// that is_server takes, empty for those of the system.
int new_channel(lua_State* L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  int timeout_ms = luaL_checkint(L, 2), tries = luaL_checkint(L, 3);
  std::vector<ares_addr_port_node> servers(lua_objlen(L, 1));
  Access* access = Access::of(L);
  Refusal refusal;
  bool granted = true;
  for (std::size_t i = 0; i < servers.size() && granted; ++i) {
    lua_rawgeti(L, 1, static_cast<int>(i) + 1);
    parse_server(lua_tostring(L, -1), &servers[i]);
    lua_pop(L, 1);
    granted = !access || may_ask(*access, servers[i], &refusal);
  }
  if (!granted) {
    lua_pushnil(L);
    refusal.push(L);
    return 2;
  }
  Channel* channel = Class<Channel>::push(L, rille_loop(L));
  channel->asks_system = servers.empty();
  int status = channel->open(std::move(servers), timeout_ms, tries);
  if (status == ARES_SUCCESS) return 1;
  return luaL_error(L, "c-ares cannot be set up: %s", ares_strerror(status));
}

// is_server(text) -> whether it is an address that `channel` takes
int is_server(lua_State* L) {
  std::size_t size;
  const char* text = luaL_checklstring(L, 1, &size);
  ares_addr_port_node ignored;
  lua_pushboolean(L, size > 0 && std::strlen(text) == size && parse_server({text, size}, &ignored));
  return 1;
}

// arpa(ip) -> the name under which the names of an address stand, or nil if it is none
int arpa(lua_State* L) {
  static const char kDigits[] = "0123456789abcdef";
  const char* text = luaL_checkstring(L, 1);
  unsigned char bytes[16];
  std::string name;
  if (uv_inet_pton(AF_INET, text, bytes) == 0) {
    for (int i = 3; i >= 0; --i) name += std::to_string(bytes[i]) + ".";
    name += "in-addr.arpa";
  } else if (uv_inet_pton(AF_INET6, text, bytes) == 0) {
    for (int i = 15; i >= 0; --i) {
      name.append({kDigits[bytes[i] & 15], '.', kDigits[bytes[i] >> 4], '.'});
    }
    name += "ip6.arpa";
  } else {
    return 0;
  }
  lua_pushlstring(L, name.data(), name.size());
  return 1;
}

const rille_reg kMethods[] = {{"query", query, RILLE_WAITS},
                              {"unreadable", unreadable, 0},
                              {"close", close_channel, 0},
                              {nullptr, nullptr, 0}};

const rille_reg kFunctions[] = {{"channel", new_channel, 0},
                                {"is_server", is_server, 0},
                                {"arpa", arpa, 0},
                                {nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille::dns

extern "C" int luaopen_rille_core_dns(lua_State* L) {
  rille::Class<rille::dns::Channel>::define(L, rille::dns::kMethods);
  rille_newlib(L, rille::dns::kFunctions);
  return 1;
}
