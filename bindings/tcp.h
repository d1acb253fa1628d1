// A TCP socket as Lua sees it, for those bindings that take over its stream.
#pragma once

#include <string>

#include "stream.h"
#include "wait_point.h"

namespace rille {

// Lives in a userdata. Bytes that nobody has read yet are kept; when they are many, reading pauses.
class Socket final : Stream::Sink {
 public:
  static constexpr char kName[] = "rille.Socket";

  Socket(Handle<uv_tcp_t> handle, std::string address, char* space)
      : Sink(space), stream(std::move(handle)), address_(std::move(address)) {}

  Stream stream;

  // The peer's address, for errors.
  const std::string& address() const { return address_; }

  // Waits for bytes: nil and up to `max` of them, or nil and nil at the end.
  int read(lua_State* L, std::size_t max);

  // Ends the stream; whoever waits in `read` is woken.
  void close();

 private:
  void received(const char* data, std::size_t size) override;
  void ended(int status) override;
  static int push_bytes(lua_State* L, void* self);
  int push(lua_State* L);

  std::string address_;
  std::string input_;
  std::size_t max_ = 0;
  int status_ = 0;  // why nothing more comes, once that is so
  bool reading_ = false;
  WaitPoint reader_;
};

}  // namespace rille
