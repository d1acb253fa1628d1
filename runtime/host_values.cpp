// Values of a host's into Lua and back.
#include <algorithm>

#include "host.h"
#include "host_class.h"
#include "value_table.h"

namespace rille {

namespace {

constexpr int kDeepest = 100;  // tables within tables

[[noreturn]] void refuse(const std::string& what) {
  throw Error("TypeError", "cannot be given to the host: " + what);
}

struct Reader {
  lua_State* L;
  Runtime::Impl* impl;
  std::vector<const void*> around;  // the tables that the one being read stands in

  Value read(int index) {
    switch (lua_type(L, index)) {
      case LUA_TNONE:
      case LUA_TNIL:
        return nullptr;
      case LUA_TBOOLEAN:
        return lua_toboolean(L, index) != 0;
      case LUA_TNUMBER:
        return lua_tonumber(L, index);
      case LUA_TSTRING: {
        std::size_t size = 0;
        const char* text = lua_tolstring(L, index, &size);
        return std::string(text, size);
      }
      case LUA_TTABLE:
        return table(index);
      case LUA_TFUNCTION: {
        lua_pushvalue(L, index);
        int reference = luaL_ref(L, LUA_REGISTRYINDEX);
        return ValueAccess::function(std::make_shared<detail::Function>(impl->home, reference));
      }
      case LUA_TUSERDATA:
        if (detail::Object* object = object_at(L, index)) return ValueAccess::object(*object);
        refuse("a userdata");
      default:
        refuse(std::string("a ") + lua_typename(L, lua_type(L, index)));
    }
  }

  Value table(int index) {
    const void* self = lua_topointer(L, index);
    if (std::find(around.begin(), around.end(), self) != around.end()) {
      refuse("a table that contains itself");
    }
    if (around.size() >= kDeepest) refuse("tables that are nested too deeply");
    luaL_checkstack(L, 4, "too many tables in each other");
    if (index < 0) index = lua_gettop(L) + 1 + index;
    around.push_back(self);
    Value result = Value::table();
    Value::Items& items = ValueAccess::items(&result);
    auto size = static_cast<int>(lua_objlen(L, index));
    items.reserve(static_cast<std::size_t>(size));
    for (int i = 1; i <= size; ++i) {
      lua_rawgeti(L, index, i);
      bool gap = lua_isnil(L, -1);
      if (!gap) items.push_back(read(-1));
      lua_pop(L, 1);
      if (gap) break;
    }
    auto taken = static_cast<double>(items.size());
    for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
      if (lua_type(L, -2) == LUA_TNUMBER) {
        double n = lua_tonumber(L, -2);
        if (n >= 1 && n <= taken && n == std::floor(n)) continue;
      }
      int type = lua_type(L, -2);
      if (type != LUA_TNUMBER && type != LUA_TSTRING && type != LUA_TBOOLEAN) {
        refuse(std::string("a table with a ") + lua_typename(L, type) + " as a key");
      }
      Value key = read(-2);
      result[key] = read(-1);
    }
    around.pop_back();
    return result;
  }
};

}  // namespace

Value::Items& ValueAccess::items(Value* table) { return table->checked_table().items; }

Value ValueAccess::read(lua_State* L, Runtime::Impl* impl, int index) {
  return Reader{L, impl, {}}.read(index);
}

void ValueAccess::push(lua_State* L, Runtime::Impl* impl, const Value& value) {
  luaL_checkstack(L, 4, "too many values");
  switch (value.type()) {
    case Value::Type::kNil:
      lua_pushnil(L);
      break;
    case Value::Type::kBoolean:
      lua_pushboolean(L, *value.boolean());
      break;
    case Value::Type::kNumber:
      lua_pushnumber(L, *value.number());
      break;
    case Value::Type::kString:
      lua_pushlstring(L, value.text()->data(), value.text()->size());
      break;
    case Value::Type::kTable: {
      const Value::Items& items = value.items();
      lua_createtable(L, static_cast<int>(items.size()), static_cast<int>(value.fields().size()));
      int i = 0;
      for (const Value& item : items) {
        push(L, impl, item);
        lua_rawseti(L, -2, ++i);
      }
      for (const auto& [key, field] : value.fields()) {
        if (field.is_nil()) continue;
        push(L, impl, key);
        push(L, impl, field);
        lua_rawset(L, -3);
      }
      break;
    }
    case Value::Type::kFunction: {
      const auto& function = std::get<std::shared_ptr<detail::Function>>(value.data_);
      if (function->home != impl->home) {
        throw Error("TypeError", "a function of another runtime cannot be used in this one");
      }
      lua_rawgeti(L, LUA_REGISTRYINDEX, function->reference);
      break;
    }
    case Value::Type::kObject:
      push_object(L, *value.object());
      break;
  }
}

void ValueAccess::push_list(lua_State* L, Runtime::Impl* impl, const std::vector<Value>& list) {
  luaL_checkstack(L, static_cast<int>(list.size()) + 4, "too many values");
  for (const Value& value : list) push(L, impl, value);
}

}  // namespace rille
