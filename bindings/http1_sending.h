// What a peer is slow to take from a server of HTTP/1.
#pragma once

#include "http1_server.h"

namespace rille::http1 {

// A write or a shutdown in progress. Belongs to the transport until it ends, then to its waiter.
struct Connection::Sending final : Transport::Writer {
  explicit Sending(Connection* c) : connection(c) {}

  Connection* connection;          // null once that is closed
  rille_waiter* waiter = nullptr;  // null if nobody waits
  bool failed = false;

  void written(const Failure& failure) override;
  static int push(lua_State* L, void* data);
};

}  // namespace rille::http1
