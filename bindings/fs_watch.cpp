// bindings/fs_watch.cpp: changes in folders, as Lua gets them.
#include <memory>
#include <string>

#include "fs_calls.h"
#include "watch_hub.h"

namespace rille::fs {
namespace {

const char* type_name(Watch::Type type) {
  switch (type) {
    case Watch::Type::kCreate:
      return "create";
    case Watch::Type::kChange:
      return "change";
    case Watch::Type::kDelete:
      return "delete";
    case Watch::Type::kRename:
      return "rename";
    default:
      return "overflow";
  }
}

std::string last_component(const std::string& path) {
  std::size_t stop = path.find_last_not_of('/') + 1;
  std::size_t slash = path.substr(0, stop).rfind('/');
  return path.substr(slash + 1, stop - slash - 1);  // npos + 1 is 0
}

// The next event, or nil if there is none (any more).
int push_event(lua_State* L, Watch* watch) {
  if (!watch->has_event()) {
    lua_pushnil(L);
    return 1;
  }
  Watch::Event event = watch->take_event();
  auto field = [L](const char* name, const std::string& text) {
    lua_pushlstring(L, text.data(), text.size());
    lua_setfield(L, -2, name);
  };
  lua_createtable(L, 0, 4);
  lua_pushstring(L, type_name(event.type));
  lua_setfield(L, -2, "type");
  field("path", watch->path_of(event.name));
  if (event.type != Watch::Type::kOverflow) {
    field("name", event.name.empty() ? last_component(watch->path()) : event.name);
  }
  if (!event.from.empty()) field("from", watch->path_of(event.from));
  return 1;
}

std::unique_ptr<Watch>& watch_at(lua_State* L, int index) {
  return Class<Hub::Handle>::check(L, index)->watch;
}

}  // namespace

// watch(path, recursive) -> err, handle: in force when it returns.
int watch(lua_State* L) {
  bool recursive = lua_toboolean(L, 2);
  return Hub::start(L, std::make_unique<Watch>(Hub::of(L), to_string(L, 1), recursive));
}

// watch_next(handle) -> err, event or nil: waits for one. Nil too if the event that there was has
// been taken by then, or if the watch was closed.
int watch_next(lua_State* L) {
  Watch* watch = watch_at(L, 1).get();
  if (watch->has_event() || watch->has_ended()) {
    lua_pushnil(L);
    return 1 + push_event(L, watch);
  }
  return watch->waiting.wait(
      L,
      [](lua_State* l, void* object) {
        if (!l) return 0;
        lua_pushnil(l);
        return 1 + push_event(l, static_cast<Watch*>(object));
      },
      watch);
}

// watch_close(handle): who waits is woken.
int watch_close(lua_State* L) {
  watch_at(L, 1)->close();
  return 0;
}

}  // namespace rille::fs
