// One connection over libuv, for whoever speaks over it: sockets, HTTP.
#pragma once

#include <cstddef>
#include <rille/module.hpp>
#include <string>
#include <utility>

namespace rille {

// Owns the handle. Reading pushes what arrives to a sink; writes go out in the order in which they
// were started.
class Stream {
 public:
  // Who takes what arrives. Called in callbacks of the loop, so it must not touch Lua. It may close
  // the stream, and has to be there as long as the stream reads.
  class Sink {
   public:
    // `space` is where bytes are put: read_space().
    explicit Sink(char* space) : space_(space) {}
    virtual void received(const char* data, std::size_t size) = 0;
    virtual void ended(int status) = 0;  // UV_EOF or an error; nothing comes after it

   protected:
    ~Sink() = default;

   private:
    friend class Stream;
    char* space_;
  };

  Stream() = default;
  explicit Stream(Handle<uv_tcp_t> handle) : handle_(std::move(handle)) {}

  bool is_open() const { return handle_ != nullptr; }
  uv_tcp_t* tcp() const { return handle_.get(); }

  // Ends everything that is in progress; what was not written by then is lost.
  void close() { handle_.reset(); }
  // The same with a reset, so that the peer sees an error instead of an end.
  void abort();

  // Starts to read, or goes on after `pause`. REQUIRES: open.
  int read(Sink* sink);
  void pause();

  // Writes what can be written without waiting. How many bytes that were, or an error.
  // REQUIRES: open.
  int try_write(const uv_buf_t* buffers, unsigned count);

  // Writes all of it and puts the calling task to sleep until that is done: `return
  // stream.write(L, …);`. Whoever is cancelled meanwhile gives up waiting, not writing.
  // REQUIRES: open.
  int write(lua_State* L, const char* address, std::string data);

  // Writes all of it in its own time; if it fails, reading will say so. REQUIRES: open.
  void send(std::string data);

  // Tells the peer that nothing follows, once everything has been written. REQUIRES: open.
  void shutdown();

 private:
  uv_stream_t* stream() const { return reinterpret_cast<uv_stream_t*>(handle_.get()); }

  Handle<uv_tcp_t> handle_;
};

// Where bytes arrive, for all streams of a runtime: they are taken at once, in the callback.
constexpr std::size_t kReadSize = 65536;
char* read_space(lua_State* L);

// A fresh TCP handle of the runtime that `loop` belongs to.
Handle<uv_tcp_t> make_tcp(uv_loop_t* loop);

// Reads an address of either family: 0 or UV_EINVAL.
int parse_address(const char* ip, int port, sockaddr_storage* out);

std::string ip_of(const sockaddr_storage& address);
int port_of(const sockaddr_storage& address);

// "127.0.0.1:80", "[::1]:80".
std::string address_text(const std::string& ip, int port);

// Binds a handle and listens. 0 or an error, and the name of the call that failed.
int listen_on(uv_tcp_t* handle, const sockaddr_storage& address, int backlog, uv_connection_cb cb,
              const char** syscall);

}  // namespace rille
