#include "stream.h"

#include <cstring>

namespace rille {

namespace {

struct Write final : Request<uv_write_t> {
  using Request::Request;
  std::string data;
};

struct Send {
  uv_write_t req{};
  std::string data;
};

void close_and_free(uv_handle_t* handle) {
  uv_close(handle, [](uv_handle_t* h) { delete reinterpret_cast<uv_tcp_t*>(h); });
}

}  // namespace

void Stream::abort() {
  uv_tcp_t* tcp = handle_.release();
  if (!tcp) return;
  auto free_it = [](uv_handle_t* h) { delete reinterpret_cast<uv_tcp_t*>(h); };
  // libuv refuses a reset while a shutdown is in progress.
  if (uv_tcp_close_reset(tcp, free_it) != 0) close_and_free(reinterpret_cast<uv_handle_t*>(tcp));
}

int Stream::read(Sink* sink) {
  handle_->data = sink;
  return uv_read_start(
      stream(),
      [](uv_handle_t* h, std::size_t, uv_buf_t* buffer) {
        *buffer = uv_buf_init(static_cast<Sink*>(h->data)->space_, kReadSize);
      },
      [](uv_stream_t* s, ssize_t n, const uv_buf_t* buffer) {
        auto* to = static_cast<Sink*>(s->data);
        if (n > 0) {
          to->received(buffer->base, static_cast<std::size_t>(n));
        } else if (n < 0) {
          to->ended(static_cast<int>(n));
        }
      });
}

void Stream::pause() { uv_read_stop(stream()); }

int Stream::try_write(const uv_buf_t* buffers, unsigned count) {
  int n = uv_try_write(stream(), buffers, count);
  return n == UV_EAGAIN ? 0 : n;
}

int Stream::write(lua_State* L, const char* address, std::string data) {
  auto op = std::make_unique<Write>(Operation{"write", {}, {}, address});
  op->data = std::move(data);
  uv_buf_t buffer = uv_buf_init(op->data.data(), static_cast<unsigned>(op->data.size()));
  return Write::run(L, std::move(op), [&](uv_write_t* req) {
    return uv_write(req, stream(), &buffer, 1,
                    [](uv_write_t* r, int status) { Waiting::complete(reclaim(r), status); });
  });
}

void Stream::send(std::string data) {
  uv_buf_t buffer = uv_buf_init(data.data(), static_cast<unsigned>(data.size()));
  int n = try_write(&buffer, 1);
  if (n < 0 || static_cast<std::size_t>(n) == data.size()) return;
  auto op = std::make_unique<Send>();
  op->data = data.substr(static_cast<std::size_t>(n));
  op->req.data = op.get();
  buffer = uv_buf_init(op->data.data(), static_cast<unsigned>(op->data.size()));
  int rc = uv_write(&op->req, stream(), &buffer, 1,
                    [](uv_write_t* r, int) { std::unique_ptr<Send>(static_cast<Send*>(r->data)); });
  if (rc == 0) static_cast<void>(op.release());  // libuv has it now
}

void Stream::shutdown() {
  auto req = std::make_unique<uv_shutdown_t>();
  int rc = uv_shutdown(req.get(), stream(),
                       [](uv_shutdown_t* r, int) { std::unique_ptr<uv_shutdown_t>{r}; });
  if (rc == 0) static_cast<void>(req.release());
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

Handle<uv_tcp_t> make_tcp(uv_loop_t* loop) {
  auto* tcp = new uv_tcp_t;
  uv_tcp_init(loop, tcp);  // makes no socket yet, so it cannot fail
  return Handle<uv_tcp_t>(tcp);
}

int parse_address(const char* ip, int port, sockaddr_storage* out) {
  std::memset(out, 0, sizeof *out);
  if (uv_ip4_addr(ip, port, reinterpret_cast<sockaddr_in*>(out)) == 0) return 0;
  return uv_ip6_addr(ip, port, reinterpret_cast<sockaddr_in6*>(out));
}

std::string ip_of(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET6) {
    uv_ip6_name(reinterpret_cast<const sockaddr_in6*>(&address), text, sizeof text);
  } else {
    uv_ip4_name(reinterpret_cast<const sockaddr_in*>(&address), text, sizeof text);
  }
  return text;
}

int port_of(const sockaddr_storage& address) {
  // The port stands at the same place for both families.
  return ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

std::string address_text(const std::string& ip, int port) {
  std::string host = ip.find(':') == std::string::npos ? ip : "[" + ip + "]";
  return host + ":" + std::to_string(port);
}

int listen_on(uv_tcp_t* handle, const sockaddr_storage& address, int backlog, uv_connection_cb cb,
              const char** syscall) {
  *syscall = "bind";
  int rc = uv_tcp_bind(handle, reinterpret_cast<const sockaddr*>(&address), 0);
  if (rc < 0) return rc;
  *syscall = "listen";
  rc = uv_listen(reinterpret_cast<uv_stream_t*>(handle), backlog, cb);
  // Without this, libuv sleeps after each connection it accepts, to leave some to other processes.
  if (rc == 0) uv_tcp_simultaneous_accepts(handle, 1);
  return rc;
}

}  // namespace rille
