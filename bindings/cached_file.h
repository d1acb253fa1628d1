// A file whose content is sent from the system's cache, without a trip to the pool of threads.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>

#include "socket.h"

namespace rille {

class CachedFile {
 public:
  static constexpr char kName[] = "rille.CachedFile";

  explicit CachedFile(Socket descriptor) : descriptor_(std::move(descriptor)) {}

  int descriptor() const { return descriptor_.get(); }
  void close() { descriptor_ = Socket(); }

  // Reads what is there now: false if less than `size` bytes are.
  bool read(off_t at, std::size_t size, std::string* data) const;

  // Gives a socket what is there and what it takes: how many bytes, or a negative errno.
  ssize_t send(int socket, off_t at, std::size_t size) const;

 private:
  bool is_there(off_t at, std::size_t size) const;

  Socket descriptor_;
};

}  // namespace rille
