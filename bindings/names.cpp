// rille.core.names: the addresses of hosts, as the system finds them.
#include <netdb.h>
#include <string.h>

#include <algorithm>
#include <cerrno>
#include <rille/access.hpp>
#include <rille/builtin.hpp>
#include <rille/module.hpp>
#include <string>
#include <utility>
#include <vector>

#include "address.h"
#include "host_name.h"

namespace rille {
namespace {

// libuv's status for what getaddrinfo returns.
int status_of(int error) {
  switch (error) {
    case 0:
      return 0;
    case EAI_AGAIN:
      return UV_EAI_AGAIN;
    case EAI_BADFLAGS:
      return UV_EAI_BADFLAGS;
    case EAI_FAMILY:
      return UV_EAI_FAMILY;
    case EAI_MEMORY:
      return UV_EAI_MEMORY;
    case EAI_NONAME:
      return UV_EAI_NONAME;
    case EAI_SERVICE:
      return UV_EAI_SERVICE;
    case EAI_SOCKTYPE:
      return UV_EAI_SOCKTYPE;
    case EAI_OVERFLOW:
      return UV_EAI_OVERFLOW;
#ifdef EAI_NODATA
    case EAI_NODATA:
      return UV_EAI_NODATA;
#endif
#ifdef EAI_ADDRFAMILY
    case EAI_ADDRFAMILY:
      return UV_EAI_ADDRFAMILY;
#endif
    case EAI_SYSTEM:
      return errno == 0 ? UV_EAI_FAIL : uv_translate_sys_error(errno);
    default:
      return UV_EAI_FAIL;
  }
}

// The system may read files and ask name servers for as long as it likes.
class Lookup final : public Waiting, private PoolJob {
 public:
  Lookup(const char* host, std::string name, int family, int flags)
      : Waiting(Operation{"getaddrinfo", {}, {}, host}), name_(std::move(name)) {
    hints_.ai_family = family;
    hints_.ai_socktype = SOCK_STREAM;
    hints_.ai_flags = flags;
  }
  ~Lookup() override {
    if (found_) freeaddrinfo(found_);
  }

  static int run(lua_State* L, std::unique_ptr<Lookup> self) {
    self->access_ = Access::of(L);
    if (self->access_ && !self->access_->may_look_up(self->name_, &self->refusal_)) {
      return push_refusal(L, self->refusal_);
    }
    self->prepare(L);
    self->submit(pools_of(L), PoolKind::kNames);
    return park(L, std::move(self));
  }

  // For what the system need not ask anybody.
  static int run_now(lua_State* L, std::unique_ptr<Lookup> self) {
    self->on_pool();
    if (self->result_ < 0) {
      self->what().push_error(L, self->result_);
      return 1;
    }
    lua_pushnil(L);
    return 1 + self->push(L);
  }

 private:
  // On a thread it goes on to its end; what it finds is dropped then.
  void stop() override { withdraw(); }

  void on_pool() override {
    errno = 0;
    result_ = status_of(getaddrinfo(name_.c_str(), nullptr, &hints_, &found_));
    if (result_ == 0 && !found_) result_ = UV_EAI_NODATA;
  }

  void after_pool(int status) override {
    complete(std::unique_ptr<Waiting>(this), status < 0 ? status : result_);
  }

  int push(lua_State* L) override {
    std::vector<std::string> addresses;
    for (const addrinfo* a = found_; a; a = a->ai_next) {
      if (a->ai_family != AF_INET && a->ai_family != AF_INET6) continue;
      sockaddr_storage address{};
      std::copy_n(reinterpret_cast<const char*>(a->ai_addr), a->ai_addrlen,
                  reinterpret_cast<char*>(&address));
      std::string text = ip_of(address);
      // A name may stand twice in /etc/hosts.
      if (std::find(addresses.begin(), addresses.end(), text) == addresses.end()) {
        addresses.push_back(std::move(text));
      }
    }
    if (access_ && !access_->filter_addresses(name_, &addresses, &refusal_)) {
      refusal_.push(L);
      lua_replace(L, -2);  // nil, for there being no error
      return 0;
    }
    lua_createtable(L, static_cast<int>(addresses.size()), 0);
    int n = 0;
    for (const std::string& text : addresses) {
      lua_pushlstring(L, text.data(), text.size());
      lua_rawseti(L, -2, ++n);
    }
    return 1;
  }

  std::string name_;
  Access* access_ = nullptr;  // on the loop's thread alone
  Refusal refusal_;
  addrinfo hints_{};
  addrinfo* found_ = nullptr;
  int result_ = 0;
};

// lookup(host [, family]) -> list of IP addresses, in the system's order; `family` is "inet",
// "inet6" or nil for both. The host has no NUL in it.
int lookup(lua_State* L) {
  static const char* const kFamilies[] = {"any", "inet", "inet6", nullptr};
  static constexpr int kNumbers[] = {AF_UNSPEC, AF_INET, AF_INET6};
  std::size_t size;
  const char* host = luaL_checklstring(L, 1, &size);
  int family = kNumbers[luaL_checkoption(L, 2, "any", kFamilies)];
  sockaddr_storage address;
  if (parse_address(host, 0, &address) == 0) {
    return Lookup::run_now(L, std::make_unique<Lookup>(host, host, family, AI_NUMERICHOST));
  }
  std::optional<std::string> name = host_name({host, size});
  if (!name) {
    rille_push_os_error(L, UV_EAI_NONAME, "getaddrinfo", nullptr, nullptr, host);
    return 1;
  }
  return Lookup::run(L, std::make_unique<Lookup>(host, std::move(*name), family, 0));
}

const rille_reg kFunctions[] = {{"lookup", lookup, RILLE_WAITS}, {nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille

extern "C" int luaopen_rille_core_names(lua_State* L) {
  rille_newlib(L, rille::kFunctions);
  return 1;
}
