// Where nghttp2's functions come from.
#include "http2_library.h"

#include <dlfcn.h>

#include <string>

namespace rille::http2 {

namespace {

std::string load() {
  void* library = dlopen("libnghttp2.so.14", RTLD_NOW | RTLD_LOCAL);
  if (!library) return dlerror();
#define LOAD(name)                                                \
  name = reinterpret_cast<decltype(name)>(dlsym(library, #name)); \
  if (!name) return dlerror();
  RILLE_HTTP2_FUNCTIONS(LOAD)
#undef LOAD
  return "";
}

}  // namespace

const char* load_library() {
  static const std::string error = load();
  return error.empty() ? nullptr : error.c_str();
}

}  // namespace rille::http2
