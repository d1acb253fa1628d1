// rille.core.stream: the methods of streams that need C++.
#include "stream.h"

#include <algorithm>
#include <cmath>

#include "address.h"
#include "linger.h"

namespace rille {

namespace {

constexpr std::size_t kEnough = 262144;  // bytes kept for a reader that does not come
constexpr std::size_t kMostSpare = 16;
constexpr std::size_t kMostAtOnce = 1 << 20;  // written without giving the turn away
constexpr std::size_t kLeast = 16384;         // buffers up to this are kept for the next bytes
constexpr std::size_t kMaxLine = 1 << 20;     // the default limit of lines
constexpr int kMostBuffers = 8;               // written without being put together first

int push_error(lua_State* L, const char* kind, const std::string& message) {
  rille_push_error(L, kind, nullptr, message.c_str());
  return 1;
}

int push_closed(lua_State* L, const std::string& name) {
  return push_error(L, "InvalidStateError", "the stream " + name + " is closed");
}

// The result of a raw method for a wrong argument; the stream itself is not counted.
int push_bad(lua_State* L, int index, const char* method, const char* what) {
  lua_pushfstring(L, "bad argument #%d to '%s' (%s)", index, method, what);
  return 1;
}

int push_bad_type(lua_State* L, int index, const char* method, const char* wanted, int at) {
  lua_pushfstring(L, "%s expected, got %s", wanted,
                  lua_isnoneornil(L, at) ? "nil" : luaL_typename(L, at));
  return push_bad(L, index, method, lua_tostring(L, -1));
}

}  // namespace

// ---- reading ------------------------------------------------------------------------------------

// Large buffers that are used again: to have one from the system for every piece of a long stream,
// and to give it back, costs more than the reading. They are the runtime's, and go with it.
struct Stream::Spares {
  static constexpr char kName[] = "rille.Stream.Spares";
  std::vector<std::string> list;

  static Spares* of(lua_State* L) {
    lua_getfield(L, LUA_REGISTRYINDEX, kName);
    lua_getfield(L, -1, "spares");
    auto* spares = static_cast<Spares*>(lua_touserdata(L, -1));
    lua_pop(L, 2);
    return spares;
  }

  void take(std::string* buffer) {
    if (list.empty()) return;
    buffer->swap(list.back());
    list.pop_back();
  }

  void give_back(std::string* buffer) {
    if (list.size() < kMostSpare && buffer->capacity() <= 4 * kEnough) {
      list.push_back(std::move(*buffer));
    }
    std::string().swap(*buffer);
  }
};

// What a read wants.
struct Stream::Request {
  Kind kind;
  std::size_t size = 0;  // bytes, at most or exactly; the limit of what is looked for
  std::string separator;
  std::size_t searched = 0;  // of the input, without finding the separator

  // With so many bytes and no separator among them, it is too late for one.
  std::size_t limit() const { return kind == Kind::kLine ? size + separator.size() : size; }
};

// A task that waits for its read. Belongs to its waiter.
struct Stream::Reader {
  Stream* stream;  // null once that is gone
  Request request;
  rille_waiter* waiter = nullptr;  // null once it has been woken

  ~Reader() {
    if (!stream) return;
    auto& all = stream->readers_;
    all.erase(std::find(all.begin(), all.end(), this));
    stream->serve_readers();
  }

  void wake() { rille_complete(std::exchange(waiter, nullptr), push, this); }

  static int push(lua_State* L, void* data) {
    std::unique_ptr<Reader> self(static_cast<Reader*>(data));
    return L ? self->stream->push_result(L, &self->request) : 0;
  }
};

void Stream::received(const char* data, std::size_t size) {
  if (input_.empty() && size > kLeast && spares_) spares_->take(&input_);
  input_.append(data, size);
  serve_readers();
  bool wanted = !readers_.empty() && readers_.front()->waiter;
  if (!wanted && input().size() > kEnough) {
    reading_ = false;
    transport_->pause();
  }
}

void Stream::ended(const Failure& failure) {
  reading_ = false;
  end_ = failure;
  serve_readers();
}

void Stream::take(std::size_t size) {
  taken_ += size;
  if (taken_ == input_.size()) {
    taken_ = 0;
    input_.clear();
    if (input_.capacity() > kLeast && spares_) spares_->give_back(&input_);
  } else if (taken_ > kReadSize && taken_ > input_.size() / 2) {
    input_.erase(0, taken_);
    taken_ = 0;
  }
}

// Wakes the first reader, if there is something to tell it. It takes what it wants when its task
// resumes; until then the others have to wait.
void Stream::serve_readers() {
  if (readers_.empty()) return;
  Reader* first = readers_.front();
  if (first->waiter && is_ready(&first->request)) {
    first->wake();
  } else if (first->waiter && !reading_) {
    reading_ = true;
    transport_->read(this);
  }
}

bool Stream::is_ready(Request* request) const {
  if (!transport_ || end_) return true;
  std::string_view in = input();
  switch (request->kind) {
    case Kind::kSome:
      return !in.empty();
    case Kind::kExactly:
      return in.size() >= request->size;
    case Kind::kUntil:
    case Kind::kLine: {
      const std::string& s = request->separator;
      std::size_t at = in.find(s, request->searched);
      if (at != in.npos) {
        request->searched = at;
        return true;
      }
      // The separator may have begun at the end.
      request->searched = in.size() < s.size() ? 0 : in.size() - s.size() + 1;
      return in.size() >= request->limit();
    }
  }
  return true;
}

// Pushes nil and what the request gets, or its error. REQUIRES: it is ready.
int Stream::push_result(lua_State* L, Request* request) {
  std::string_view in = input();
  std::size_t size = request->size;
  std::size_t skipped = 0;
  switch (request->kind) {
    case Kind::kSome:
      if (in.empty()) return push_end(L, *request);
      size = std::min(size, in.size());
      break;
    case Kind::kExactly:
      if (in.size() < size) return push_end(L, *request);
      break;
    case Kind::kUntil:
    case Kind::kLine: {
      std::size_t at = in.find(request->separator, request->searched);
      bool is_line = request->kind == Kind::kLine;
      bool is_last = is_line && at == in.npos && end_.status == UV_EOF && !in.empty();
      if (at == in.npos && !is_last && in.size() < request->limit()) return push_end(L, *request);
      skipped = is_last || !is_line ? 0 : request->separator.size();
      std::size_t found = is_last         ? in.size()
                          : at == in.npos ? in.npos
                                          : at + (is_line ? 0 : request->separator.size());
      if (found > size) {
        return push_error(L, "LimitOverrunError",
                          std::string(is_line ? "the line" : "what is read") + " is longer than " +
                              std::to_string(size) + " bytes: " + name_);
      }
      size = found;
      break;
    }
  }
  lua_pushnil(L);
  lua_pushlstring(L, in.data(), size);
  take(size + skipped);
  return 2;
}

// There is less than the request wants, and nothing more comes.
int Stream::push_end(lua_State* L, const Request& request) {
  if (!transport_) return push_closed(L, name_);
  if (end_.status != UV_EOF) {
    end_.push(L, "read", name_);
    return 1;
  }
  if (request.kind == Kind::kSome || request.kind == Kind::kLine) {
    lua_pushnil(L);
    lua_pushnil(L);
    return 2;
  }
  std::string_view in = input();
  bool is_count = request.kind == Kind::kExactly;
  std::string wanted = is_count ? std::to_string(request.size) + " bytes" : "the separator";
  push_error(L, "IncompleteReadError",
             "the stream " + name_ + " ended after " + std::to_string(in.size()) +
                 " bytes, before " + wanted);
  lua_pushlstring(L, in.data(), in.size());
  lua_setfield(L, -2, "partial");
  if (is_count) {
    lua_pushnumber(L, static_cast<lua_Number>(request.size));
    lua_setfield(L, -2, "expected");
  }
  take(in.size());
  return 1;
}

int Stream::read(lua_State* L, Request request) {
  if (!spares_) spares_ = Spares::of(L);
  if (readers_.empty() && is_ready(&request)) return push_result(L, &request);
  std::unique_ptr<Reader> reader(new Reader{nullptr, std::move(request)});
  reader->waiter = rille_prepare(
      L,
      [](rille_waiter* w, void* data) {
        static_cast<Reader*>(data)->waiter = nullptr;
        rille_complete(w, Reader::push, data);
      },
      reader.get());
  rille_waiter* waiter = reader->waiter;
  reader->stream = this;
  readers_.push_back(reader.release());
  serve_readers();
  return rille_park(L, waiter);
}

// ---- writing ------------------------------------------------------------------------------------

// A write that could not be done at once. Belongs to the transport until it is written, then to its
// waiter.
struct Stream::Write final : Transport::Writer {
  Stream* stream = nullptr;        // null once that is closed
  rille_waiter* waiter = nullptr;  // null once nobody waits for it
  std::string name;
  Failure failure;
  bool is_written = false;

  void written(const Failure& f) override {
    failure = f;
    is_written = true;
    if (stream) std::erase(stream->writes_, this);
    stream = nullptr;
    if (waiter) {
      rille_complete(std::exchange(waiter, nullptr), push, this);
    } else {
      delete this;
    }
  }

  // The stream is closed; what is written is delivered all the same.
  void let_go() {
    stream = nullptr;
    if (!waiter) return;
    auto tell = [](lua_State* L, void* data) {
      std::unique_ptr<std::string> n(static_cast<std::string*>(data));
      return L ? push_closed(L, *n) : 0;
    };
    auto owned = std::make_unique<std::string>(name);
    rille_complete(std::exchange(waiter, nullptr), tell, owned.release());
  }

  static int push(lua_State* L, void* data) {
    std::unique_ptr<Write> self(static_cast<Write*>(data));
    if (!L) return 0;
    if (!self->failure) return 0;
    self->failure.push(L, "write", self->name);
    return 1;
  }

  static void give_up(rille_waiter* w, void* data) {
    static_cast<Write*>(data)->waiter = nullptr;
    rille_complete(
        w, [](lua_State*, void*) { return 0; }, nullptr);
  }
};

// ---- the end ------------------------------------------------------------------------------------

Stream::~Stream() {
  detach();
  for (Reader* r : readers_) r->stream = nullptr;
}

std::unique_ptr<Transport> Stream::release() {
  if (reading_) transport_->pause();
  reading_ = false;
  return std::move(transport_);
}

std::unique_ptr<Transport> Stream::detach() {
  std::unique_ptr<Transport> transport;
  if (transport_) transport = release();
  if (transport) transport->stream_closed();
  for (Write* w : std::exchange(writes_, {})) w->let_go();
  // Those who were given their bytes still get them.
  for (Reader* r : readers_) {
    if (r->waiter) r->wake();
  }
  return transport;
}

Stream* push_stream(lua_State* L, StreamHandle handle, std::string name, bool accepted) {
  return Class<Stream>::push(L, make_transport(std::move(handle), read_space(L)), std::move(name),
                             accepted);
}

Stream* check_stream(lua_State* L, int index, const char* method) {
  Stream* s = Class<Stream>::check(L, index);
  if (s->is_open()) return s;
  rille_error(L, "InvalidStateError", nullptr, "%s: the stream %s is closed", method,
              s->name().c_str());
  return nullptr;
}

// ---- methods ------------------------------------------------------------------------------------

// Those that wait are raw: they give their errors, texts for wrong arguments too, and the Lua code
// around them raises these.
struct StreamMethods {
  using Kind = Stream::Kind;

  // Makes the runtime's buffers, which belong to their class.
  static void define_spares(lua_State* L) {
    using Spares = Stream::Spares;
    const rille_reg none[] = {{nullptr, nullptr, 0}};
    Class<Spares>::define(L, none);
    luaL_getmetatable(L, Spares::kName);
    Class<Spares>::push(L);
    lua_setfield(L, -2, "spares");
    lua_pop(L, 1);
  }

  // The open stream of a raw method, or null and the error pushed. Its metatable is the function's
  // upvalue: to look it up by its name took longer than the rest of a write.
  static Stream* self(lua_State* L, const char* method) {
    void* memory = lua_touserdata(L, 1);
    if (!memory || !lua_getmetatable(L, 1) || !lua_rawequal(L, -1, lua_upvalueindex(1))) {
      lua_pushfstring(L, "calling '%s' on bad self (Stream expected, got %s)", method,
                      lua_isnoneornil(L, 1) ? "nil" : luaL_typename(L, 1));
      return nullptr;
    }
    lua_pop(L, 1);
    auto* s = static_cast<Stream*>(memory);
    if (s->is_open()) return s;
    push_error(L, "InvalidStateError",
               std::string(method) + ": the stream " + s->name() + " is closed");
    return nullptr;
  }

  // Reads a size at the given index; false, and the error pushed, if it is none.
  static bool size_argument(lua_State* L, int index, const char* method, lua_Number least,
                            std::size_t* size) {
    if (lua_isnoneornil(L, index) && *size > 0) return true;
    if (!lua_isnumber(L, index)) {
      push_bad_type(L, index - 1, method, "number", index);
      return false;
    }
    lua_Number n = lua_tonumber(L, index);
    if (!(n >= least && n <= 0x7fffff00) || n != std::floor(n)) {
      push_bad(L, index - 1, method,
               least > 0 ? "a whole number of bytes from 1 to 2 GiB expected"
                         : "a whole number of bytes from 0 to 2 GiB expected");
      return false;
    }
    *size = static_cast<std::size_t>(n);
    return true;
  }

  // read(stream [, max=65536]) -> bytes, or nil at the end
  static int read(lua_State* L) {
    Stream* s = self(L, "read");
    std::size_t max = kReadSize;
    if (!s || !size_argument(L, 2, "read", 1, &max)) return 1;
    return s->read(L, {Kind::kSome, max, {}});
  }

  // read_exactly(stream, n) -> bytes
  static int read_exactly(lua_State* L) {
    Stream* s = self(L, "read_exactly");
    std::size_t n = 0;
    if (!s || !size_argument(L, 2, "read_exactly", 0, &n)) return 1;
    return s->read(L, {Kind::kExactly, n, {}});
  }

  // read_until(stream, separator [, max]) -> bytes
  static int read_until(lua_State* L) {
    Stream* s = self(L, "read_until");
    if (!s) return 1;
    if (!lua_isstring(L, 2)) return push_bad_type(L, 1, "read_until", "string", 2);
    std::size_t size;
    const char* separator = lua_tolstring(L, 2, &size);
    if (size == 0) return push_bad(L, 1, "read_until", "the separator is empty");
    std::size_t max = kMaxLine;
    if (!size_argument(L, 3, "read_until", 1, &max)) return 1;
    return s->read(L, {Kind::kUntil, max, std::string(separator, size)});
  }

  // read_line(stream [, max]) -> the line without its end, or nil at the end
  static int read_line(lua_State* L) {
    Stream* s = self(L, "read_line");
    std::size_t max = kMaxLine;
    if (!s || !size_argument(L, 2, "read_line", 1, &max)) return 1;
    return s->read(L, {Kind::kLine, max, "\n"});
  }

  // write(stream, ...)
  static int write(lua_State* L) {
    Stream* s = self(L, "write");
    if (!s) return 1;
    if (s->shut_down_) {
      return push_error(L, "InvalidStateError",
                        "write: the stream " + s->name_ + " has been shut down");
    }
    int last = lua_gettop(L);
    uv_buf_t buffers[kMostBuffers];
    std::string joined;
    std::size_t total = 0;
    unsigned count = 0;
    bool join = last - 1 > kMostBuffers;
    for (int i = 2; i <= last; ++i) {
      if (!lua_isstring(L, i)) return push_bad_type(L, i - 1, "write", "string", i);
      std::size_t size;
      const char* data = lua_tolstring(L, i, &size);
      total += size;
      if (!join) buffers[count++] = buffer_of(data, size);
    }
    if (total == 0) return 0;
    if (join) {
      joined.reserve(total);
      for (int i = 2; i <= last; ++i) {
        std::size_t size;
        const char* data = lua_tolstring(L, i, &size);
        joined.append(data, size);
      }
      buffers[count++] = buffer_of(joined.data(), joined.size());
    }
    ssize_t taken = s->transport_->try_write(buffers, count);
    if (taken < 0) {
      rille_push_os_error(L, static_cast<int>(taken), "write", nullptr, nullptr, s->name_.c_str());
      return 1;
    }
    auto skip = static_cast<std::size_t>(taken);
    if (skip == total) {
      s->at_once_ += total;
      if (s->at_once_ < kMostAtOnce) return 0;
      s->at_once_ = 0;
      lua_pushnil(L);
      lua_pushboolean(L, 1);
      return 2;
    }
    s->at_once_ = 0;
    std::string rest;
    rest.reserve(total - skip);
    for (unsigned i = 0; i < count; ++i) {
      std::size_t skipped = std::min(skip, buffers[i].len);
      rest.append(buffers[i].base + skipped, buffers[i].len - skipped);
      skip -= skipped;
    }
    auto op = std::make_unique<Stream::Write>();
    op->name = s->name_;
    op->waiter = rille_prepare(L, Stream::Write::give_up, op.get());
    rille_waiter* waiter = op->waiter;
    op->stream = s;
    s->writes_.push_back(op.get());
    s->transport_->write(std::move(rest), op.release());
    return rille_park(L, waiter);
  }

  static uv_buf_t buffer_of(const char* data, std::size_t size) {
    uv_buf_t buffer;
    buffer.base = const_cast<char*>(data);
    buffer.len = size;
    return buffer;
  }

  // stream:shutdown(): tells the peer that nothing follows, once all is written.
  static int shutdown(lua_State* L) {
    Stream* s = check_stream(L, 1, "shutdown");
    if (!std::exchange(s->shut_down_, true)) s->transport_->shutdown(nullptr);
    lua_settop(L, 1);
    return 1;
  }

  static int close(lua_State* L) {
    Stream* s = Class<Stream>::check(L, 1);
    if (s->is_open()) linger(L, s->detach());
    return 0;
  }

  static int abort(lua_State* L) {
    Stream* s = Class<Stream>::check(L, 1);
    if (!s->is_open()) return 0;
    s->transport_->abort();
    s->detach();
    return 0;
  }

  static int is_closed(lua_State* L) {
    lua_pushboolean(L, !Class<Stream>::check(L, 1)->is_open());
    return 1;
  }

  // __gc: what was written goes out even if nobody holds the stream any more.
  static int collect(lua_State* L) {
    auto* s = static_cast<Stream*>(lua_touserdata(L, 1));
    Class<Stream>::retire(L);
    if (s->is_open() && s->transport_->pending() > 0) linger(L, s->detach());
    s->~Stream();
    return 0;
  }

  // stream:name() -> what errors call it
  static int name(lua_State* L) {
    Stream* s = Class<Stream>::check(L, 1);
    lua_pushlstring(L, s->name().data(), s->name().size());
    return 1;
  }

  static int was_accepted(lua_State* L) {
    lua_pushboolean(L, Class<Stream>::check(L, 1)->was_accepted());
    return 1;
  }

  // Pushes family, host, port; or "unix", path; or nothing, if it is no socket.
  static int push_address(lua_State* L, Stream* s, int (*get)(int, sockaddr*, socklen_t*)) {
    uv_stream_t* handle = s->transport_->handle();
    uv_os_fd_t fd;
    if (!handle || uv_fileno(reinterpret_cast<uv_handle_t*>(handle), &fd) != 0) return 0;
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (get(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
    if (address.ss_family == AF_UNIX) {
      lua_pushliteral(L, "unix");
      lua_pushstring(L, address_text(address, size).c_str());
      return 2;
    }
    if (address.ss_family != AF_INET && address.ss_family != AF_INET6) return 0;
    lua_pushstring(L, address.ss_family == AF_INET ? "inet" : "inet6");
    lua_pushstring(L, ip_of(address).c_str());
    lua_pushinteger(L, port_of(address));
    return 3;
  }

  static int socket_address(lua_State* L) {
    Stream* s = check_stream(L, 1, "address");
    return push_address(L, s,
                        [](int fd, sockaddr* a, socklen_t* n) { return getsockname(fd, a, n); });
  }

  static int peer_address(lua_State* L) {
    Stream* s = check_stream(L, 1, "peer");
    return push_address(L, s,
                        [](int fd, sockaddr* a, socklen_t* n) { return getpeername(fd, a, n); });
  }

  // The options of TCP; other streams have no use for them, and take them.
  static int set_tcp_option(lua_State* L, Stream* s, const char* syscall,
                            int (*set)(uv_tcp_t*, unsigned), unsigned value) {
    uv_stream_t* handle = s->transport_->handle();
    if (handle && handle->type == UV_TCP) {
      int rc = set(reinterpret_cast<uv_tcp_t*>(handle), value);
      if (rc < 0) {
        rille_push_os_error(L, rc, syscall, nullptr, nullptr, s->name_.c_str());
        return lua_error(L);
      }
    }
    lua_settop(L, 1);
    return 1;
  }

  // stream:set_nodelay([on=true]) -> stream
  static int set_nodelay(lua_State* L) {
    Stream* s = check_stream(L, 1, "set_nodelay");
    bool on = lua_isnoneornil(L, 2) || lua_toboolean(L, 2);
    return set_tcp_option(
        L, s, "setsockopt", [](uv_tcp_t* t, unsigned v) { return uv_tcp_nodelay(t, v != 0); }, on);
  }

  // stream:set_keepalive([on=true | seconds]) -> stream
  static int set_keepalive(lua_State* L) {
    constexpr unsigned kStandard = 60;
    Stream* s = check_stream(L, 1, "set_keepalive");
    unsigned seconds = kStandard;
    if (lua_type(L, 2) == LUA_TNUMBER) {
      lua_Number n = lua_tonumber(L, 2);
      if (!(n >= 1 && n <= 32767)) return luaL_argerror(L, 2, "1 to 32767 seconds expected");
      seconds = static_cast<unsigned>(n);
    } else if (!lua_isnoneornil(L, 2)) {
      luaL_checktype(L, 2, LUA_TBOOLEAN);
      if (!lua_toboolean(L, 2)) seconds = 0;
    }
    return set_tcp_option(
        L, s, "setsockopt",
        [](uv_tcp_t* t, unsigned v) { return uv_tcp_keepalive(t, v != 0, v == 0 ? 1 : v); },
        seconds);
  }
};

namespace {

int finish(lua_State* L) {
  finish_lingering(L);
  return 0;
}

const luaL_Reg kRaw[] = {{"read", StreamMethods::read},
                         {"read_exactly", StreamMethods::read_exactly},
                         {"read_until", StreamMethods::read_until},
                         {"read_line", StreamMethods::read_line},
                         {"write", StreamMethods::write}};

const rille_reg kMethods[] = {{"shutdown", StreamMethods::shutdown, 0},
                              {"close", StreamMethods::close, 0},
                              {"abort", StreamMethods::abort, 0},
                              {"is_closed", StreamMethods::is_closed, 0},
                              {"name", StreamMethods::name, 0},
                              {"was_accepted", StreamMethods::was_accepted, 0},
                              {"socket_address", StreamMethods::socket_address, 0},
                              {"peer_address", StreamMethods::peer_address, 0},
                              {"set_nodelay", StreamMethods::set_nodelay, 0},
                              {"set_keepalive", StreamMethods::set_keepalive, 0},
                              {nullptr, nullptr, 0}};

const rille_reg kFunctions[] = {{"finish_lingering", finish, 0}, {nullptr, nullptr, 0}};

}  // namespace

}  // namespace rille

extern "C" int luaopen_rille_core_stream(lua_State* L) {
  rille::define_lingering(L);
  rille::Class<rille::Stream>::define(L, rille::kMethods);
  rille::StreamMethods::define_spares(L);
  rille_newlib(L, rille::kFunctions);
  luaL_getmetatable(L, rille::Stream::kName);
  for (const luaL_Reg& r : rille::kRaw) {
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, r.func, 1);
    lua_setfield(L, -3, r.name);
  }
  lua_pushcfunction(L, rille::StreamMethods::collect);
  lua_setfield(L, -2, "__gc");
  lua_getfield(L, -1, "__index");
  lua_setfield(L, -3, "Stream");
  lua_setfield(L, -2, "metatable");
  return 1;
}
