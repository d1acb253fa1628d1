// What standard streams and the pipes of children travel over: descriptors that go one way, and
// that others may share.
#pragma once

#include <memory>

#include "stdio_fd.h"
#include "transport.h"

namespace rille {

class DescriptorTransport : public Transport {
 public:
  // The descriptor it began with, for its kind and for children; -1 after a shutdown.
  virtual int descriptor() const = 0;

  // Gives the sink what is there now; false if there is nothing. REQUIRES: it reads.
  virtual bool receive_now() { return false; }

  // Writes what is queued, holding everything up.
  virtual void drain() = 0;

  void abort() override {}
  uv_stream_t* handle() override { return nullptr; }
};

enum class Direction { kIn, kOut };

// One end of a pipe, nobody else's.
std::unique_ptr<DescriptorTransport> make_pipe_transport(uv_loop_t* loop, Descriptor fd,
                                                         Direction direction, char* space);

// What was printed comes before what is written to the stream.
void put_out_printed(int fd);

// What remains of a standard descriptor that was closed: others must not get its number.
void put_null(int fd);

// One of the descriptors 0, 1 and 2, which others share and which is left as it is: terminals and
// pipes are opened anew, sockets are told not to wait at each call, and files are read and written
// on a thread.
std::unique_ptr<DescriptorTransport> make_standard_transport(lua_State* L, int fd,
                                                             Direction direction);

}  // namespace rille
