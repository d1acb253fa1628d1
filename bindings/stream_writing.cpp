// Writing to streams: what the system takes at once, and writes that are waited for.
#include <algorithm>
#include <rille/builtin.hpp>
#include <utility>

#include "stream_methods.h"

namespace rille {

namespace {

constexpr std::size_t kMostAtOnce = 1 << 20;  // written without giving the turn away
constexpr int kMostBuffers = 8;               // written without being put together first

}  // namespace

// A write that could not be done at once. Belongs to the transport until it is written, then to its
// waiter.
struct Stream::Write final : Transport::Writer {
  Stream* stream = nullptr;        // null once that is closed
  rille_waiter* waiter = nullptr;  // null once nobody waits for it
  std::string name;
  Failure failure;
  Charge charge;  // for the bytes, which stay when their task has given up

  void written(const Failure& f) override {
    failure = f;
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

void Stream::let_go_of_writes() {
  for (Write* w : std::exchange(writes_, {})) w->let_go();
}

// write(stream, ...)
int StreamMethods::write(lua_State* L) {
  Stream* s = self(L, "write");
  if (!s) return 1;
  if (s->shut_down_) {
    return push_raw_error(L, "InvalidStateError",
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
    if (!join) buffers[count++] = buffer_of({data, size});
  }
  if (total == 0) return 0;
  if (join) {
    joined.reserve(total);
    for (int i = 2; i <= last; ++i) {
      std::size_t size;
      const char* data = lua_tolstring(L, i, &size);
      joined.append(data, size);
    }
    buffers[count++] = buffer_of(joined);
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
  Charge charge(L);
  if (!charge.set(total - skip)) {
    rille_push_os_error(L, UV_ENOMEM, "write", nullptr, nullptr, s->name_.c_str());
    return 1;
  }
  std::string rest;
  rest.reserve(total - skip);
  for (unsigned i = 0; i < count; ++i) {
    std::size_t skipped = std::min(skip, buffers[i].len);
    rest.append(buffers[i].base + skipped, buffers[i].len - skipped);
    skip -= skipped;
  }
  auto op = std::make_unique<Stream::Write>();
  op->name = s->name_;
  op->charge = std::move(charge);
  op->waiter = rille_prepare(L, Stream::Write::give_up, op.get());
  rille_waiter* waiter = op->waiter;
  op->stream = s;
  s->writes_.push_back(op.get());
  s->transport_->write(std::move(rest), op.release());
  return rille_park(L, waiter);
}

}  // namespace rille
