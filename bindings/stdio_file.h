// Standard streams that are files: what cannot be waited for, and is read and written on a thread.
#pragma once

#include "stdio_transport.h"

namespace rille {

std::unique_ptr<DescriptorTransport> make_file_transport(lua_State* L, int fd, Direction direction);

}  // namespace rille
