// rille.core.stdio: the standard streams.
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

#include "stdio_transport.h"
#include "stream.h"

namespace rille {
namespace {

// open(0, 1 or 2) -> Stream
int open_standard(lua_State* L) {
  static const char* const kNames[] = {"stdin", "stdout", "stderr"};
  int fd = luaL_checkint(L, 1);
  luaL_argcheck(L, fd >= 0 && fd <= 2, 1, "0, 1 or 2 expected");
  Direction direction = fd == 0 ? Direction::kIn : Direction::kOut;
  Class<Stream>::push(L, make_standard_transport(L, fd, direction), kNames[fd]);
  return 1;
}

DescriptorTransport* transport_at(lua_State* L, int index) {
  Stream* s = Class<Stream>::check(L, index);
  return s->is_open() ? dynamic_cast<DescriptorTransport*>(s->transport()) : nullptr;
}

// drain(stream): writes what is still to be written, holding everything up.
int drain(lua_State* L) {
  DescriptorTransport* transport = transport_at(L, 1);
  if (transport && transport->pending() > 0) transport->drain();
  return 0;
}

// is_tty(descriptor) -> boolean
int is_tty(lua_State* L) {
  lua_pushboolean(L, isatty(luaL_checkint(L, 1)));
  return 1;
}

// size() -> columns, rows of the terminal; or nil
int size(lua_State* L) {
  for (int fd : {STDOUT_FILENO, STDERR_FILENO, STDIN_FILENO}) {
    winsize window{};
    if (ioctl(fd, TIOCGWINSZ, &window) != 0 || window.ws_col == 0) continue;
    lua_pushinteger(L, window.ws_col);
    lua_pushinteger(L, window.ws_row);
    return 2;
  }
  lua_pushnil(L);
  return 1;
}

const rille_reg kFunctions[] = {{"open", open_standard, 0},
                                {"drain", drain, 0},
                                {"is_tty", is_tty, 0},
                                {"size", size, 0},
                                {nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille

extern "C" int luaopen_rille_core_stdio(lua_State* L) {
  rille_newlib(L, rille::kFunctions);
  return 1;
}
