// What bytes travel over: a TCP or Unix socket, a pipe, a terminal, TLS over one of these.
#pragma once

#include <cstddef>
#include <memory>
#include <rille/module.hpp>
#include <string>
#include <string_view>

namespace rille {

// Why nothing more arrives, or why a write has failed.
struct Failure {
  int status = 0;    // libuv's; 0: none; UV_EOF: the peer has ended in order
  std::string kind;  // of an error that is not the system's: "TLSError"
  std::string code;  // and its code and message
  std::string message;

  explicit operator bool() const { return status != 0; }

  // Pushes the error object. `syscall` and `address` are those of an OSError.
  void push(lua_State* L, const char* syscall, const std::string& address) const;
};

inline Failure failure_of(int status) {
  Failure f;
  f.status = status;
  return f;
}

// For libuv, which does not write to them. (uv_buf_init takes the length as an unsigned int.)
inline uv_buf_t buffer_of(std::string_view bytes) {
  uv_buf_t buffer;
  buffer.base = const_cast<char*>(bytes.data());
  buffer.len = bytes.size();
  return buffer;
}

// One connection without its buffers: nothing here knows Lua's tasks. Closed by its destructor,
// at once, whatever was not written by then is lost.
class Transport {
 public:
  // Who takes what arrives. Called in callbacks of the loop, so it must not touch Lua. It may
  // destroy the transport, and has to be there as long as the transport reads.
  class Sink {
   public:
    virtual void received(const char* data, std::size_t size) = 0;
    virtual void ended(const Failure& failure) = 0;  // nothing comes after it

   protected:
    ~Sink() = default;
  };

  // Who is told of the end of a write or a shutdown: exactly once, on the loop's thread, perhaps
  // within the call that starts it, and also after the transport is gone (with UV_ECANCELED).
  class Writer {
   public:
    virtual void written(const Failure& failure) = 0;

   protected:
    ~Writer() = default;
  };

  Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  virtual ~Transport() = default;

  // Starts to read, or goes on after `pause`. `sink` may be another one than before.
  virtual void read(Sink* sink) = 0;
  virtual void pause() = 0;

  // Takes what can be written without waiting: how many bytes that was (0 while others' are
  // queued), or an error of libuv's.
  virtual ssize_t try_write(const uv_buf_t* buffers, unsigned count) = 0;

  // Writes all of it, after what was written before. `writer` may be null: then nobody is told, and
  // if it fails, reading will say so.
  virtual void write(std::string data, Writer* writer) = 0;

  // Tells the peer that nothing follows, once everything has been written.
  virtual void shutdown(Writer* writer) = 0;

  // Bytes that were taken and not yet given to the system.
  virtual std::size_t pending() const = 0;

  // Makes the close, which has to follow at once, a reset: the peer sees an error, not an end.
  virtual void abort() = 0;

  // Its stream is closed: all that is left to do is to deliver what was written.
  virtual void stream_closed() {}

  // True if the peer takes a close without a `shutdown` for an attack, as in TLS.
  virtual bool needs_shutdown() const { return false; }

  // The handle at the bottom, for addresses and options; null if there is none.
  virtual uv_stream_t* handle() = 0;

  // Another process has its socket as well: what comes is that one's to read, and so is the end.
  void share() { shared_ = true; }
  bool is_shared() const { return shared_; }

 private:
  bool shared_ = false;
};

// A handle of libuv's: TCP, pipe or terminal.
using StreamHandle = Handle<uv_any_handle>;

// Fresh handles of the runtime that `loop` belongs to.
StreamHandle make_tcp(uv_loop_t* loop);
StreamHandle make_pipe(uv_loop_t* loop);

inline uv_stream_t* stream_of(const StreamHandle& handle) { return &handle->stream; }

// The plain transport over it. `space` is where bytes are put when they arrive: read_space().
std::unique_ptr<Transport> make_transport(StreamHandle handle, char* space);

// Writes all of it and puts the calling task to sleep until that is done: `return
// write_and_wait(L, …);`. Whoever is cancelled meanwhile gives up waiting, not writing.
int write_and_wait(lua_State* L, Transport* transport, std::string address, std::string data);

// Where bytes arrive, for all transports of a runtime: they are taken at once, in the callback.
constexpr std::size_t kReadSize = 65536;
char* read_space(lua_State* L);

}  // namespace rille
