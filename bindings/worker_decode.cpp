// Bytes to Lua values.
#include <rille/module.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "thread_channel.h"
#include "worker_bytes.h"
#include "worker_codec.h"

namespace rille::worker {

namespace {

constexpr int kMostFactories = 1000;

// Pushes what makes closures of a function's bytecode. One that has come before is not loaded
// again, so that what was compiled of it goes on being used.
void push_known_factory(lua_State* L, int kept, std::string_view code, int upvalues) {
  lua_rawgeti(L, kept, kFactories);
  lua_pushlstring(L, code.data(), code.size());
  lua_pushvalue(L, -1);
  lua_rawget(L, -3);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_rawgeti(L, -2, 1);
    auto count = lua_tointeger(L, -1) + 1;
    lua_pop(L, 1);
    if (count > kMostFactories) {
      lua_newtable(L);
      lua_pushvalue(L, -1);
      lua_rawseti(L, kept, kFactories);
      lua_replace(L, -3);
      count = 1;
    }
    lua_pushinteger(L, count);
    lua_rawseti(L, -3, 1);
    push_factory(L, code.data(), code.size(), upvalues);
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -2);
    lua_rawset(L, -5);
  }
  lua_replace(L, -3);
  lua_pop(L, 1);
}

[[noreturn]] void raise(lua_State* L, const std::string& message) {
  rille_push_error(L, "WorkerError", nullptr, message.c_str());
  lua_error(L);
  std::abort();
}

class Decoder {
 public:
  Decoder(lua_State* L, const Message& message, int channels)
      : L_(L), message_(message), channels_(channels), in_(message.bytes) {}

  int run() {
    base_ = lua_gettop(L_);
    luaL_checkstack(L_, 24, "too many values");
    push_kept(L_);
    kept_ = base_ + 1;
    lua_newtable(L_);
    objects_ = base_ + 2;
    lua_newtable(L_);
    modules_ = base_ + 3;
    read_modules();
    read_objects();
    std::size_t n = in_.count();
    if (n > 7000) raise(L_, "a message of a worker has too many values");
    luaL_checkstack(L_, static_cast<int>(n) + 16, "too many values");
    int first = lua_gettop(L_) + 1;
    for (std::size_t i = 0; i < n && in_.ok(); ++i) value(in_.byte());
    int top = lua_gettop(L_);
    for (std::uint32_t id = 1; id <= infos_.size() && in_.ok(); ++id) {
      lua_rawgeti(L_, objects_, static_cast<int>(id));
      if (infos_[id - 1].kind == kFunction) {
        function_body(id);
      } else {
        table_body(id);
      }
      lua_settop(L_, top);
    }
    if (!in_.ok() || in_.left() > 0) raise(L_, "a message of a worker is malformed");
    for (int i = first - 1; i > base_; --i) lua_remove(L_, i);
    return static_cast<int>(n);
  }

 private:
  struct Info {
    Kind kind;
    std::uint32_t listed;  // or how many upvalues
  };

  void read_modules() {
    std::size_t n = in_.count();
    if (n == 0) return;
    lua_rawgeti(L_, kept_, kLoaded);
    for (std::size_t i = 1; i <= n && in_.ok(); ++i) {
      std::string_view name = in_.text();
      in_.text();
      lua_pushlstring(L_, name.data(), name.size());
      lua_pushvalue(L_, -1);
      lua_rawget(L_, -3);
      if (lua_isnil(L_, -1)) {
        raise(L_, "module '" + std::string(name) + "' is not loaded here");
      }
      lua_rawseti(L_, modules_, static_cast<int>(i));
      names_.push_back(name);
      lua_pop(L_, 1);
    }
    lua_pop(L_, 1);
  }

  void read_objects() {
    std::vector<std::string_view> codes(in_.count());
    for (std::string_view& code : codes) code = in_.text();
    std::size_t n = in_.count(), parts = 0;
    infos_.reserve(n);
    for (std::size_t i = 1; i <= n && in_.ok(); ++i) {
      auto kind = static_cast<Kind>(in_.byte());
      if (kind == kFunction) {
        std::uint64_t code = in_.number();
        std::size_t upvalues = in_.count();
        if (code >= codes.size() || upvalues > 60) return void(in_.fail());
        push_known_factory(L_, kept_, codes[code], static_cast<int>(upvalues));
        lua_call(L_, 0, 1);
        infos_.push_back({kind, static_cast<std::uint32_t>(upvalues)});
      } else {
        std::size_t listed = in_.count(), hashed = in_.count();
        // What the tables are said to hold is still to come: a byte at least for each value.
        parts += listed + 2 * hashed;
        if (kind > kFunction || parts > in_.left()) return void(in_.fail());
        constexpr std::size_t kMostAtOnce = 1 << 16;
        lua_createtable(L_, static_cast<int>(std::min(listed, kMostAtOnce)),
                        static_cast<int>(std::min(hashed, kMostAtOnce)));
        static constexpr Kept kMetas[] = {kLastKept,  kArrayMeta,     kObjectMeta,
                                          kErrorMeta, kCancelledMeta, kGroupMeta};
        if (kind != kTable) {
          lua_rawgeti(L_, kept_, kMetas[kind]);
          lua_setmetatable(L_, -2);
        }
        infos_.push_back({kind, static_cast<std::uint32_t>(listed)});
      }
      lua_rawseti(L_, objects_, static_cast<int>(i));
    }
  }

  // Pushes a value; nil after a fault.
  void value(unsigned char tag) {
    switch (tag) {
      case kNil:
        return lua_pushnil(L_);
      case kFalse:
      case kTrue:
        return lua_pushboolean(L_, tag == kTrue);
      case kNumber:
        return lua_pushnumber(L_, in_.raw<double>());
      case kInteger: {
        std::uint64_t bits = in_.number();
        bits = (bits >> 1) ^ (bits & 1 ? ~std::uint64_t{0} : 0);
        return lua_pushnumber(L_, static_cast<double>(static_cast<std::int64_t>(bits)));
      }
      case kText: {
        std::string_view s = in_.text();
        return lua_pushlstring(L_, s.data(), s.size());
      }
      case kObject: {
        std::uint64_t id = in_.number();
        if (id < 1 || id > infos_.size()) break;
        return lua_rawgeti(L_, objects_, static_cast<int>(id));
      }
      case kSigned:
      case kUnsigned:
        return integer(tag, in_.raw<std::uint64_t>());
      case kNull:
        return lua_pushlightuserdata(L_, nullptr);
      case kModule: {
        std::uint64_t n = in_.number();
        if (n >= names_.size()) break;
        return lua_rawgeti(L_, modules_, static_cast<int>(n) + 1);
      }
      case kNamed:
        return named();
      case kChannel: {
        std::uint64_t n = in_.number();
        if (channels_ != 0) return lua_rawgeti(L_, channels_, static_cast<int>(n & 0xffffff) + 1);
        if (n >= message_.channels.size()) break;
        return push_channel(L_, message_.channels[n]);
      }
      default:
        break;
    }
    in_.fail();
    lua_pushnil(L_);
  }

  // Doubles cannot carry all of it, but each half.
  void integer(unsigned char tag, std::uint64_t bits) {
    lua_rawgeti(L_, kept_, tag == kSigned ? kMakeSigned : kMakeUnsigned);
    if (tag == kSigned) {
      lua_pushnumber(L_, static_cast<std::int32_t>(bits >> 32));
    } else {
      lua_pushnumber(L_, static_cast<std::uint32_t>(bits >> 32));
    }
    lua_pushnumber(L_, static_cast<std::uint32_t>(bits));
    lua_call(L_, 2, 1);
  }

  void named() {
    std::uint64_t module = in_.number();
    std::string_view key = in_.text();
    lua_pushnil(L_);
    if (module >= names_.size()) return void(in_.fail());
    lua_pop(L_, 1);
    lua_rawgeti(L_, modules_, static_cast<int>(module) + 1);
    lua_pushlstring(L_, key.data(), key.size());
    if (lua_istable(L_, -2)) {
      lua_pushvalue(L_, -1);
      lua_rawget(L_, -3);
    } else {
      lua_pushnil(L_);
    }
    if (!lua_isfunction(L_, -1)) {
      raise(L_, "module '" + std::string(names_[module]) + "' has no function '" +
                    std::string(key) + "' here");
    }
    lua_replace(L_, -3);
    lua_pop(L_, 1);
  }

  void table_body(std::uint32_t id) {
    int t = lua_gettop(L_);
    for (std::uint32_t i = 1; i <= infos_[id - 1].listed && in_.ok(); ++i) {
      value(in_.byte());
      lua_rawseti(L_, t, static_cast<int>(i));
    }
    while (in_.ok()) {
      unsigned char tag = in_.byte();
      if (tag == kEnd) return;
      value(tag);
      value(in_.byte());
      bool is_key = !lua_isnil(L_, t + 1) &&
                    !(lua_type(L_, t + 1) == LUA_TNUMBER && std::isnan(lua_tonumber(L_, t + 1)));
      if (!is_key) return void(in_.fail());
      lua_rawset(L_, t);
    }
  }

  void function_body(std::uint32_t id) {
    int f = lua_gettop(L_);
    for (std::uint32_t i = 1; i <= infos_[id - 1].listed && in_.ok(); ++i) {
      unsigned char tag = in_.byte();
      if (tag == kCell) {
        std::uint64_t cell = in_.number();
        if (cell >= cells_.size()) return void(in_.fail());
        lua_rawgeti(L_, objects_, static_cast<int>(cells_[cell].first));
        lua_upvaluejoin(L_, f, static_cast<int>(i), f + 1, static_cast<int>(cells_[cell].second));
      } else {
        cells_.push_back({id, i});
        value(tag);
        lua_setupvalue(L_, f, static_cast<int>(i));
      }
      lua_settop(L_, f);
    }
  }

  lua_State* L_;
  const Message& message_;
  int channels_;
  Reader in_;
  int base_ = 0, kept_ = 0, objects_ = 0, modules_ = 0;
  std::vector<std::string_view> names_;
  std::vector<Info> infos_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> cells_;  // function and upvalue
};

}  // namespace

void push_modules(lua_State* L, const std::string& bytes) {
  Reader in(bytes);
  std::size_t n = in.count();
  lua_newtable(L);
  for (std::size_t i = 1; i <= 2 * n && in.ok(); ++i) {
    std::string_view text = in.text();
    lua_pushlstring(L, text.data(), text.size());
    lua_rawseti(L, -2, static_cast<int>(i));
  }
}

int decode(lua_State* L, const Message& message, int channels) {
  return Decoder(L, message, channels).run();
}

}  // namespace rille::worker
