// Lua values to bytes.
#include "worker_codec.h"

#include <rille/module.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <rille/builtin.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "thread_channel.h"
#include "worker_bytes.h"
#include "worker_graph.h"
#include "worker_names.h"

namespace rille::worker {

namespace {

constexpr int kCdata = 10;  // LuaJIT's own type, which lua.h does not name

const char kKeptKey = 0;

// ---- the encoder -------------------------------------------------------------------------------

class Encoder {
 public:
  Encoder(lua_State* L, int first, Values what, Message* message, int channels)
      : L_(L),
        first_(first),
        last_(lua_gettop(L)),
        message_(message),
        channels_(channels),
        most_(memory_limit_of(L)),
        deadline_(L) {
    graph_.L = L;
    graph_.what = what;
  }

  void run() {
    luaL_checkstack(L_, 24, "too many values");
    push_kept(L_);
    kept_ = lua_gettop(L_);
    lua_newtable(L_);
    graph_.objects = lua_gettop(L_);
    Bytes roots;
    out_ = &roots;
    roots.number(static_cast<std::uint64_t>(last_ - first_ + 1));
    for (int i = first_; i <= last_; ++i) {
      at_ = {0, static_cast<std::uint32_t>(i - first_ + 1), 0};
      value(i);
    }
    out_ = &bodies_;
    // Bodies may find more objects.
    for (std::uint32_t id = 1; id <= graph_.infos.size(); ++id) {
      lua_rawgeti(L_, graph_.objects, static_cast<int>(id));
      if (graph_.infos[id - 1].kind == kFunction) {
        function_body(id);
      } else {
        table_body(id);
      }
      lua_settop(L_, graph_.objects);
    }
    finish(roots);
    lua_settop(L_, last_);
  }

 private:
  void value(int index) {
    switch (int type = lua_type(L_, index)) {
      case LUA_TNIL:
        return out_->byte(kNil);
      case LUA_TBOOLEAN:
        return out_->byte(lua_toboolean(L_, index) ? kTrue : kFalse);
      case LUA_TNUMBER:
        return number(lua_tonumber(L_, index));
      case LUA_TSTRING: {
        std::size_t size;
        const char* text = lua_tolstring(L_, index, &size);
        // One string may stand in many places.
        if (most_ > 0 && out_->data().size() + size > most_) raise_out_of_memory(L_);
        spend(size);
        out_->byte(kText);
        return out_->text({text, size});
      }
      case LUA_TTABLE:
        return table(index);
      case LUA_TFUNCTION:
        return function(index);
      case LUA_TUSERDATA:
        return userdata(index);
      case LUA_TLIGHTUSERDATA:
        if (!lua_touserdata(L_, index)) return out_->byte(kNull);
        return refuse(index, "a light userdata");
      case kCdata:
        return integer(index);
      default:
        return refuse(index, type == LUA_TTHREAD ? "a coroutine" : lua_typename(L_, type));
    }
  }

  // Counts what was copied, and is stopped where that has taken too long.
  void spend(std::size_t bytes) {
    constexpr std::size_t kBytesOfStep = 16;
    if (deadline_.passed(1 + bytes / kBytesOfStep)) raise_interruption(L_);
  }

  void number(double n) {
    constexpr double kExact = 9007199254740992.0;
    if (n >= -kExact && n <= kExact) {
      auto whole = static_cast<std::int64_t>(n);
      if (static_cast<double>(whole) == n && (whole != 0 || !std::signbit(n))) {
        out_->byte(kInteger);
        // The sign stands in the lowest bit: small numbers stay short.
        auto bits = static_cast<std::uint64_t>(whole);
        return out_->number((bits << 1) ^ (whole < 0 ? ~std::uint64_t{0} : 0));
      }
    }
    out_->byte(kNumber);
    out_->raw(&n, sizeof n);
  }

  void integer(int index) {
    lua_rawgeti(L_, kept_, kIsSigned);
    lua_pushvalue(L_, index);
    lua_call(L_, 1, 1);
    if (lua_isnil(L_, -1)) refuse(index, "a cdata other than int64_t and uint64_t");
    out_->byte(lua_toboolean(L_, -1) ? kSigned : kUnsigned);
    lua_pop(L_, 1);
    out_->raw(lua_topointer(L_, index), 8);
  }

  void userdata(int index) {
    if (lua_getmetatable(L_, index)) {
      lua_rawgeti(L_, kept_, kChannelMeta);
      bool is_channel = lua_rawequal(L_, -1, -2);
      lua_pop(L_, 2);
      if (is_channel) return channel(index);
    }
    refuse(index, nullptr);
  }

  void channel(int index) {
    out_->byte(kChannel);
    if (channels_ == 0) {
      out_->number(message_->channels.size());
      message_->channels.push_back(share_channel(L_, index));
    } else {
      int n = static_cast<int>(lua_objlen(L_, channels_));
      out_->number(static_cast<std::uint64_t>(n));
      lua_pushvalue(L_, index);
      lua_rawseti(L_, channels_, n + 1);
    }
  }

  // ---- tables ----------------------------------------------------------------------------------

  void table(int index) {
    const void* identity = lua_topointer(L_, index);
    if (const std::uint32_t* known = seen_.find(identity)) {
      out_->byte(kObject);
      return out_->number(*known);
    }
    Kind kind = kTable;
    if (module_names_.empty()) index_modules();
    if (const std::uint32_t* module = modules_.find(identity)) {
      out_->byte(kModule);
      return out_->number(use_module(module_names_[*module]));
    }
    if (lua_getmetatable(L_, index)) {
      kind = kind_of_metatable();
      lua_pop(L_, 1);
      if (kind == kFunction) {
        // A channel of a process stands in for that of another one.
        if (lua_getmetatable(L_, index)) {
          lua_pushliteral(L_, "_is_channel");
          lua_rawget(L_, -2);
          bool is_channel = lua_toboolean(L_, -1) && channels_ != 0;
          lua_pop(L_, 2);
          if (is_channel) return channel(index);
        }
        return refuse(index, nullptr);
      }
    }
    add(index, identity, kind);
  }

  // Numbers an object and writes its number in its place.
  Info& add(int index, const void* identity, Kind kind) {
    auto id = static_cast<std::uint32_t>(graph_.infos.size() + 1);
    lua_pushvalue(L_, index);
    lua_rawseti(L_, graph_.objects, static_cast<int>(id));
    seen_.add(identity, id);
    graph_.infos.push_back({at_.object, at_.index, kind});
    out_->byte(kObject);
    out_->number(id);
    return graph_.infos.back();
  }

  // Of the metatable on top; kFunction for none of ours.
  Kind kind_of_metatable() {
    static constexpr std::pair<Kept, Kind> kMetas[] = {{kArrayMeta, kArrayTable},
                                                       {kObjectMeta, kObjectTable},
                                                       {kErrorMeta, kErrorTable},
                                                       {kCancelledMeta, kCancelledTable},
                                                       {kGroupMeta, kGroupTable}};
    for (auto [meta, kind] : kMetas) {
      lua_rawgeti(L_, kept_, meta);
      bool same = lua_rawequal(L_, -1, -2);
      lua_pop(L_, 1);
      if (same) return kind;
    }
    return kFunction;
  }

  // Whose values tables are that need not be copied.
  void index_modules() {
    lua_rawgeti(L_, kept_, kLoaded);
    int loaded = lua_gettop(L_);
    for (lua_pushnil(L_); lua_next(L_, loaded); lua_pop(L_, 1)) {
      if (lua_type(L_, -2) != LUA_TSTRING || !lua_istable(L_, -1)) continue;
      modules_.add(lua_topointer(L_, -1), static_cast<std::uint32_t>(module_names_.size()));
      module_names_.push_back(lua_tostring(L_, -2));
    }
    lua_pop(L_, 1);
  }

  std::uint64_t use_module(const char* name) {
    if (const std::uint32_t* known = used_modules_.find(name)) return *known;
    auto number = static_cast<std::uint32_t>(used_names_.size());
    used_modules_.add(name, number);
    used_names_.push_back({name, place()});
    return number;
  }

  void table_body(std::uint32_t id) {
    int t = lua_gettop(L_);
    bool is_error = graph_.infos[id - 1].kind >= kErrorTable;
    auto n = static_cast<std::uint32_t>(lua_objlen(L_, t));
    for (std::uint32_t i = 1; i <= n; ++i) {
      lua_rawgeti(L_, t, static_cast<int>(i));
      spend(0);
      at_ = {id, 0, 0};
      value(t + 1);
      lua_settop(L_, t);
    }
    std::uint32_t pairs = 0;
    for (lua_pushnil(L_); lua_next(L_, t); lua_settop(L_, t + 1)) {
      if (lua_type(L_, t + 1) == LUA_TNUMBER) {
        double k = lua_tonumber(L_, t + 1);
        if (k >= 1 && k <= n && std::floor(k) == k) continue;
      }
      if (is_error && !error_field(t)) continue;
      spend(0);
      at_ = {id, 1, 0};
      value(t + 1);
      at_ = {id, 0, t + 1};
      value(t + 2);
      ++pairs;
    }
    out_->byte(kEnd);
    graph_.infos[id - 1].listed = n;
    graph_.infos[id - 1].hashed = pairs;
  }

  // Of an error its private fields stay here, and what cannot be copied goes as its text.
  bool error_field(int t) {
    if (lua_type(L_, t + 1) == LUA_TSTRING) {
      std::string_view name = lua_tostring(L_, t + 1);
      if (name[0] == '_') return name == "_trace";
    }
    bool copied = true;
    switch (lua_type(L_, t + 2)) {
      case LUA_TTHREAD:
      case LUA_TFUNCTION:
        copied = false;
        break;
      case LUA_TUSERDATA:
      case LUA_TTABLE:
        if (lua_getmetatable(L_, t + 2)) {
          copied = kind_of_metatable() != kFunction;
          lua_pop(L_, 1);
        }
        break;
      default:
        break;
    }
    if (!copied) {
      lua_rawgeti(L_, kept_, kToString);
      lua_pushvalue(L_, t + 2);
      if (lua_pcall(L_, 1, 1, 0) != 0 || !lua_isstring(L_, -1)) return false;
      lua_replace(L_, t + 2);
    }
    return true;
  }

  // ---- functions -------------------------------------------------------------------------------

  void function(int index) {
    const void* identity = lua_topointer(L_, index);
    if (const std::uint32_t* known = seen_.find(identity)) {
      out_->byte(kObject);
      return out_->number(*known);
    }
    bool by_name = lua_iscfunction(L_, index);
    if (!by_name) {
      // The runtime's own functions stand for what is private to an interpreter.
      lua_Debug ar;
      lua_pushvalue(L_, index);
      lua_getinfo(L_, ">S", &ar);
      by_name = std::strncmp(ar.source, "=rille/", 7) == 0;
    }
    if (by_name) {
      if (push_name(L_, kept_, index)) {
        out_->byte(kNamed);
        // Strings that a module has stay where they are.
        out_->number(use_module(lua_tostring(L_, -2)));
        std::size_t size;
        const char* key = lua_tolstring(L_, -1, &size);
        out_->text({key, size});
        lua_pop(L_, 2);
        return;
      }
      if (lua_iscfunction(L_, index)) return refuse(index, "a C function that no module has");
      // Its upvalues are what scripts that are not trusted shall not have.
      if (is_sandbox()) return refuse(index, "a function of Rille's that no module has");
    }
    check_environment(index);
    Info& info = add(index, identity, kFunction);
    info.code = code_of(index);
    int count = 0;
    while (lua_getupvalue(L_, index, count + 1)) {
      lua_pop(L_, 1);
      ++count;
    }
    info.upvalues = static_cast<std::uint32_t>(count);
  }

  bool is_sandbox() {
    lua_rawgeti(L_, kept_, kIsSandbox);
    bool yes = lua_toboolean(L_, -1);
    lua_pop(L_, 1);
    return yes;
  }

  // Functions find the worker's globals there. One that has an environment of its own would not
  // find what it means.
  void check_environment(int index) {
    lua_getfenv(L_, index);
    lua_rawgeti(L_, kept_, kGlobals);
    bool is_usual = lua_rawequal(L_, -1, -2);
    lua_pop(L_, 2);
    if (!is_usual) refuse(index, "a function with an environment of its own (setfenv)");
  }

  // The number of a function's bytecode among those of this message.
  std::uint32_t code_of(int index) {
    lua_rawgeti(L_, kept_, kBytecodes);
    lua_pushvalue(L_, index);
    lua_rawget(L_, -2);
    if (lua_isnil(L_, -1)) {
      lua_pop(L_, 1);
      std::string code;
      lua_pushvalue(L_, index);
      int failed = lua_dump(
          L_,
          [](lua_State*, const void* part, std::size_t size, void* to) {
            static_cast<std::string*>(to)->append(static_cast<const char*>(part), size);
            return 0;
          },
          &code);
      lua_pop(L_, 1);
      if (failed) refuse(index, "a function that cannot be dumped");
      lua_pushlstring(L_, code.data(), code.size());
      lua_pushvalue(L_, index);
      lua_pushvalue(L_, -2);
      lua_rawset(L_, -4);
    }
    std::size_t size;
    const char* text = lua_tolstring(L_, -1, &size);
    // The cache is weak, the message is not finished.
    const std::uint32_t* known = code_numbers_.find(text);
    auto number = known ? *known : static_cast<std::uint32_t>(codes_.size());
    if (!known) {
      code_numbers_.add(text, number);
      codes_.emplace_back(text, size);
      lua_pushvalue(L_, -1);
      lua_rawseti(L_, graph_.objects, -static_cast<int>(codes_.size()));
    }
    lua_pop(L_, 2);
    return number;
  }

  void function_body(std::uint32_t id) {
    int f = lua_gettop(L_);
    std::uint32_t count = graph_.infos[id - 1].upvalues;
    for (std::uint32_t i = 1; i <= count; ++i) {
      auto n = static_cast<int>(i);
      const void* cell = lua_upvalueid(L_, f, n);
      if (const std::uint32_t* known = cells_.find(cell)) {
        out_->byte(kCell);
        out_->number(*known);
        continue;
      }
      cells_.add(cell, cell_count_++);
      lua_getupvalue(L_, f, n);
      at_ = {id, i, 0};
      value(f + 1);
      lua_settop(L_, f);
    }
  }

  // ---- the message -----------------------------------------------------------------------------

  // modules, functions' bytecode, objects, the values, what the objects hold
  void finish(const Bytes& roots) {
    Bytes head;
    head.number(used_names_.size());
    for (const auto& [name, path] : used_names_) {
      head.text(name);
      head.text(path);
    }
    head.number(codes_.size());
    for (std::string_view code : codes_) head.text(code);
    head.number(graph_.infos.size());
    for (const Info& info : graph_.infos) {
      head.byte(info.kind);
      if (info.kind == kFunction) {
        head.number(info.code);
        head.number(info.upvalues);
      } else {
        head.number(info.listed);
        head.number(info.hashed);
      }
    }
    std::string& to = message_->bytes;
    to.reserve(head.data().size() + roots.data().size() + bodies_.data().size());
    to.assign(head.data());
    to.append(roots.data());
    to.append(bodies_.data());
    message_->needs_modules = !used_names_.empty();
  }

  // ---- what cannot be copied -------------------------------------------------------------------

  [[noreturn]] void refuse(int index, const char* what) {
    luaL_checkstack(L_, 16, "too many values");
    lua_rawgeti(L_, kept_, kRaise);
    std::string path = place();
    lua_pushlstring(L_, path.data(), path.size());
    if (what) {
      lua_pushstring(L_, what);
    } else {
      lua_pushnil(L_);
    }
    lua_pushvalue(L_, index);
    lua_call(L_, 3, 0);
    luaL_error(L_, "cannot copy %s", path.c_str());
    std::abort();
  }

  std::string place() { return path_of(graph_, at_); }

  lua_State* L_;
  int first_, last_;
  Message* message_;
  int channels_;
  std::size_t most_;  // bytes; 0: any number
  Deadline deadline_;
  int kept_ = 0;  // a stack index
  Graph graph_;
  Bytes* out_ = nullptr;
  Bytes bodies_;
  Place at_{};
  Numbers seen_;  // tables and functions to their objects
  Numbers cells_;
  std::uint32_t cell_count_ = 0;
  Numbers modules_;  // tables to their names
  std::vector<const char*> module_names_;
  Numbers used_modules_;
  std::vector<std::pair<std::string, std::string>> used_names_;  // and the place of the first use
  Numbers code_numbers_;
  std::vector<std::string_view> codes_;
};

}  // namespace

void push_kept(lua_State* L) {
  lua_pushlightuserdata(L, const_cast<char*>(&kKeptKey));
  lua_rawget(L, LUA_REGISTRYINDEX);
}

void open_codec(lua_State* L, int setup) {
  static const char* const kFields[] = {"error",       "cancelled",     "group",  "array",
                                        "object",      "channel",       "marks",  "is_signed",
                                        "make_signed", "make_unsigned", "raise",  "tostring",
                                        "loaded",      "is_sandbox",    "globals"};
  lua_pushlightuserdata(L, const_cast<char*>(&kKeptKey));
  lua_createtable(L, kLastKept, 0);
  int i = 0;
  for (const char* field : kFields) {
    lua_getfield(L, setup, field);
    lua_rawseti(L, -2, ++i);
  }
  for (int weak : {kBytecodes, kNames}) {
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawseti(L, -2, weak);
  }
  lua_newtable(L);
  lua_rawseti(L, -2, kFactories);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

void encode(lua_State* L, int first, Values what, Message* message, int channels) {
  Encoder(L, first, what, message, channels).run();
}

}  // namespace rille::worker
