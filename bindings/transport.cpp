#include "transport.h"

#include <sys/socket.h>

namespace rille {

void Failure::push(lua_State* L, const char* syscall, const std::string& address) const {
  if (kind.empty()) {
    rille_push_os_error(L, status, syscall, nullptr, nullptr, address.c_str());
  } else {
    rille_push_error(L, kind.c_str(), code.empty() ? nullptr : code.c_str(), message.c_str());
    lua_pushlstring(L, address.data(), address.size());
    lua_setfield(L, -2, "address");
  }
}

namespace {

// A write or a shutdown that libuv has; it belongs to itself until it ends.
template <class R>
struct Pending {
  R req{};
  std::string data;
  Transport::Writer* writer;

  Pending(std::string bytes, Transport::Writer* w) : data(std::move(bytes)), writer(w) {
    req.data = this;
  }

  static void end(R* req, int status) {
    std::unique_ptr<Pending> self(static_cast<Pending*>(req->data));
    if (self->writer) self->writer->written(failure_of(status));
  }

  // After the attempt to start it.
  static void started(std::unique_ptr<Pending> self, int status) {
    if (status < 0) {
      end(&self.release()->req, status);
    } else {
      static_cast<void>(self.release());  // libuv has it now
    }
  }
};

// A task's. Belongs to the transport until it is written, then to its waiter.
struct WaitingWrite final : Transport::Writer {
  rille_waiter* waiter = nullptr;
  std::string address;
  Failure failure;

  void written(const Failure& f) override {
    failure = f;
    rille_complete(waiter, push, this);
  }

  static int push(lua_State* L, void* data) {
    std::unique_ptr<WaitingWrite> self(static_cast<WaitingWrite*>(data));
    if (!L || !self->failure) return 0;
    self->failure.push(L, "write", self->address);
    return 1;
  }
};

class UvTransport final : public Transport {
 public:
  UvTransport(StreamHandle handle, char* space) : handle_(std::move(handle)), space_(space) {
    handle_->handle.data = this;
    // Whoever waits holds the loop by his waiter; a connection alone can wake nobody.
    uv_unref(&handle_->handle);
  }

  void read(Sink* sink) override {
    sink_ = sink;
    int rc = uv_read_start(stream_of(handle_), provide, arrived);
    if (rc < 0 && rc != UV_EALREADY) sink->ended(failure_of(rc));
  }

  void pause() override { uv_read_stop(stream_of(handle_)); }

  ssize_t try_write(const uv_buf_t* buffers, unsigned count) override {
    int n = uv_try_write(stream_of(handle_), buffers, count);
    return n == UV_EAGAIN ? 0 : n;
  }

  void write(std::string data, Writer* writer) override {
    auto op = std::make_unique<Pending<uv_write_t>>(std::move(data), writer);
    uv_buf_t buffer = buffer_of(op->data);
    int rc = uv_write(&op->req, stream_of(handle_), &buffer, 1, Pending<uv_write_t>::end);
    Pending<uv_write_t>::started(std::move(op), rc);
  }

  void shutdown(Writer* writer) override {
    auto op = std::make_unique<Pending<uv_shutdown_t>>("", writer);
    int rc = uv_shutdown(&op->req, stream_of(handle_), Pending<uv_shutdown_t>::end);
    Pending<uv_shutdown_t>::started(std::move(op), rc);
  }

  std::size_t pending() const override { return handle_->stream.write_queue_size; }

  void abort() override {
    uv_os_fd_t fd;
    linger reset = {1, 0};
    if (uv_fileno(&handle_->handle, &fd) == 0) {
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
  }

  uv_stream_t* handle() override { return stream_of(handle_); }

 private:
  static void provide(uv_handle_t* h, std::size_t, uv_buf_t* buffer) {
    *buffer = uv_buf_init(static_cast<UvTransport*>(h->data)->space_, kReadSize);
  }

  static void arrived(uv_stream_t* s, ssize_t n, const uv_buf_t* buffer) {
    Sink* to = static_cast<UvTransport*>(s->data)->sink_;
    if (n > 0) {
      to->received(buffer->base, static_cast<std::size_t>(n));
    } else if (n < 0) {
      int status = n == UV_EOF ? status_of_end(s) : static_cast<int>(n);
      to->ended(failure_of(status));
    }
  }

  // A reset that comes right behind the last bytes is an end in order to libuv.
  static int status_of_end(uv_stream_t* s) {
    uv_os_fd_t fd;
    int error = 0;
    socklen_t size = sizeof error;
    bool known = s->type == UV_TCP && uv_fileno(reinterpret_cast<uv_handle_t*>(s), &fd) == 0 &&
                 getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0;
    return known && error != 0 ? -error : UV_EOF;
  }

  StreamHandle handle_;
  Sink* sink_ = nullptr;
  char* space_;
};

}  // namespace

StreamHandle make_tcp(uv_loop_t* loop) {
  StreamHandle handle(new uv_any_handle);
  uv_tcp_init(loop, &handle->tcp);  // makes no socket yet, so it cannot fail
  return handle;
}

StreamHandle make_pipe(uv_loop_t* loop) {
  StreamHandle handle(new uv_any_handle);
  uv_pipe_init(loop, &handle->pipe, 0);
  return handle;
}

std::unique_ptr<Transport> make_transport(StreamHandle handle, char* space) {
  return std::make_unique<UvTransport>(std::move(handle), space);
}

int write_and_wait(lua_State* L, Transport* transport, std::string address, std::string data) {
  auto op = std::make_unique<WaitingWrite>();
  op->address = std::move(address);
  rille_waiter* waiter = op->waiter = rille_prepare(L, nullptr, nullptr);
  transport->write(std::move(data), op.release());
  return rille_park(L, waiter);
}

char* read_space(lua_State* L) {
  static const char kKey = 0;
  lua_pushlightuserdata(L, const_cast<char*>(&kKey));
  lua_rawget(L, LUA_REGISTRYINDEX);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_pushlightuserdata(L, const_cast<char*>(&kKey));
    lua_newuserdata(L, kReadSize);
    lua_pushvalue(L, -1);
    lua_insert(L, -3);
    lua_rawset(L, LUA_REGISTRYINDEX);
  }
  auto* space = static_cast<char*>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  return space;
}

}  // namespace rille
