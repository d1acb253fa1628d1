// Where OpenSSL's functions come from.
#include "tls_library.h"

#include <dlfcn.h>

#include <string>

namespace rille::tls {

namespace {

std::string load() {
  // libcrypto is loaded with it, and is looked through as well.
  void* library = dlopen("libssl.so.3", RTLD_LAZY | RTLD_LOCAL);
  if (!library) return dlerror();
#define LOAD(name)                                                \
  name = reinterpret_cast<decltype(name)>(dlsym(library, #name)); \
  if (!name) return dlerror();
  RILLE_TLS_FUNCTIONS(LOAD)
#undef LOAD
  // Its own clean-up at the process's end would run while threads of the pool still use it.
  OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, nullptr);
  return "";
}

}  // namespace

const char* load_library() {
  static const std::string error = load();
  return error.empty() ? nullptr : error.c_str();
}

}  // namespace rille::tls
