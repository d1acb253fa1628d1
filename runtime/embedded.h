// The standard library, compiled into the program by stdlib/embed.cmake.
#pragma once

#include <cstddef>

namespace rille {

struct EmbeddedModule {
  const char* name;    // as `require` asks for it: "rille.async.queue"
  const char* path;    // where it stands in the source tree: "stdlib/async/queue.lua"
  const char* source;  // what lua_loadbuffer takes: LuaJIT bytecode, line numbers included
  std::size_t size;
};

// Sorted by name, in the order of strcmp.
extern const EmbeddedModule kEmbeddedModules[];
extern const std::size_t kEmbeddedModuleCount;

}  // namespace rille
