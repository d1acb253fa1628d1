// rille.core.guarded: functions of the interpreter's library that may run for hours in one call,
// written so that a limit of time stops them. Scripts get them where there is such a limit.
#include <rille/module.h>

#include <algorithm>
#include <cstring>
#include <rille/builtin.hpp>

#include "pattern.h"

namespace {

using rille::Deadline;
using rille::Pattern;
using rille::raise_interruption;

struct Text {
  const char* data;
  std::size_t size;
  const char* end() const { return data + size; }
};

Text text_at(lua_State* L, int index) {
  Text text;
  text.data = luaL_checklstring(L, index, &text.size);
  return text;
}

// ---- patterns -----------------------------------------------------------------------------------

std::size_t start_of(lua_State* L, int index, std::size_t size) {
  auto length = static_cast<lua_Integer>(size);
  lua_Integer at = luaL_optinteger(L, index, 1);
  at = at < 0 ? at + length : at - 1;
  return static_cast<std::size_t>(std::clamp<lua_Integer>(at, 0, length));
}

bool has_specials(const Text& pattern) {
  return std::any_of(pattern.data, pattern.end(),
                     [](char c) { return c != '\0' && std::strchr("^$*+?.([%-", c); });
}

int find_plain(lua_State* L, const Text& subject, std::size_t from, const Text& what) {
  const char* at = subject.data + from;
  const void* found = at;
  if (what.size > 0) found = memmem(at, subject.size - from, what.data, what.size);
  if (!found) {
    lua_pushnil(L);
    return 1;
  }
  auto before = static_cast<const char*>(found) - subject.data;
  lua_pushinteger(L, before + 1);
  lua_pushinteger(L, before + static_cast<lua_Integer>(what.size));
  return 2;
}

// find(s, pattern [, init [, plain]]) and match(s, pattern [, init])
int search(lua_State* L, bool finds) {
  Text subject = text_at(L, 1);
  Text pattern = text_at(L, 2);
  std::size_t from = start_of(L, 3, subject.size);
  if (finds && (lua_toboolean(L, 4) || !has_specials(pattern))) {
    return find_plain(L, subject, from, pattern);
  }
  bool is_anchored = *pattern.data == '^';
  const char* p = pattern.data + (is_anchored ? 1 : 0);
  Pattern machine(L, subject.data, subject.size);
  for (const char* at = subject.data + from; at <= subject.end(); ++at) {
    if (const char* end = machine.match_at(at, p)) {
      if (!finds) return machine.push_captures(at, end);
      lua_pushinteger(L, at - subject.data + 1);
      lua_pushinteger(L, end - subject.data);
      return machine.push_captures(nullptr, nullptr) + 2;
    }
    if (is_anchored) break;
  }
  lua_pushnil(L);
  return 1;
}

int find(lua_State* L) { return search(L, true); }
int match(lua_State* L) { return search(L, false); }

// The upvalues are the text, the pattern, and where to go on.
int next_match(lua_State* L) {
  Text subject = text_at(L, lua_upvalueindex(1));
  const char* pattern = lua_tostring(L, lua_upvalueindex(2));
  const char* at = subject.data + lua_tointeger(L, lua_upvalueindex(3));
  Pattern machine(L, subject.data, subject.size);
  for (; at <= subject.end(); ++at) {
    const char* end = machine.match_at(at, pattern);
    if (!end) continue;
    lua_pushinteger(L, end - subject.data + (end == at ? 1 : 0));
    lua_replace(L, lua_upvalueindex(3));
    return machine.push_captures(at, end);
  }
  return 0;
}

// gmatch(s, pattern)
int gmatch(lua_State* L) {
  text_at(L, 1);
  text_at(L, 2);
  lua_settop(L, 2);
  lua_pushinteger(L, 0);
  lua_pushcclosure(L, next_match, 3);
  return 1;
}

// What stands in the place of a match, which `machine` has just found from `from` to `to`.
void add_replacement(lua_State* L, luaL_Buffer* out, Pattern* machine, const char* from,
                     const char* to) {
  int type = lua_type(L, 3);
  if (type == LUA_TSTRING) {
    Text text = text_at(L, 3);
    machine->count(text.size / 64);
    for (const char* p = text.data; p < text.end(); ++p) {
      if (*p != '%') {
        luaL_addchar(out, *p);
        continue;
      }
      ++p;
      if (*p == '0') {
        luaL_addlstring(out, from, static_cast<std::size_t>(to - from));
      } else if (*p > '0' && *p <= '9') {
        machine->push_capture(*p - '1', from, to);
        luaL_addvalue(out);
      } else {
        luaL_addchar(out, *p);
      }
    }
    return;
  }
  if (type == LUA_TTABLE) {
    machine->push_capture(0, from, to);
    lua_gettable(L, 3);
  } else {
    lua_pushvalue(L, 3);
    lua_call(L, machine->push_captures(from, to), 1);
  }
  if (!lua_toboolean(L, -1)) {
    lua_pop(L, 1);
    lua_pushlstring(L, from, static_cast<std::size_t>(to - from));
  } else if (!lua_isstring(L, -1)) {
    luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
  }
  luaL_addvalue(out);
}

// gsub(s, pattern, replacement [, most]) -> text, how many
int gsub(lua_State* L) {
  Text subject = text_at(L, 1);
  const char* pattern = luaL_checkstring(L, 2);
  int type = lua_type(L, 3);
  if (type == LUA_TNUMBER) lua_tolstring(L, 3, nullptr);
  bool fits =
      type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TTABLE || type == LUA_TFUNCTION;
  int most = luaL_optint(L, 4, static_cast<int>(subject.size + 1));
  if (!fits) luaL_argerror(L, 3, "string/function/table expected");
  bool is_anchored = *pattern == '^';
  if (is_anchored) ++pattern;
  lua_settop(L, 3);
  luaL_Buffer out;
  luaL_buffinit(L, &out);
  Pattern machine(L, subject.data, subject.size);
  const char* at = subject.data;
  int count = 0;
  while (count < most) {
    const char* end = machine.match_at(at, pattern);
    if (end) {
      ++count;
      add_replacement(L, &out, &machine, at, end);
    }
    if (end && end > at) {
      at = end;
    } else if (at < subject.end()) {
      luaL_addchar(&out, *at);
      ++at;
    } else {
      break;
    }
    if (is_anchored) break;
  }
  luaL_addlstring(&out, at, static_cast<std::size_t>(subject.end() - at));
  luaL_pushresult(&out);
  lua_pushinteger(L, count);
  return 2;
}

// ---- sorting ------------------------------------------------------------------------------------

// Sorts the numbers of the items, and the items in the end: they stay where they are as long as
// something may fail. The stack has the table, the order or nil, and the two lists of numbers.
class Sort {
 public:
  Sort(lua_State* L, int size) : L_(L), deadline_(L), size_(size) {
    auto bytes = sizeof(int) * static_cast<std::size_t>(size);
    from_ = static_cast<int*>(lua_newuserdata(L, bytes));
    to_ = static_cast<int*>(lua_newuserdata(L, bytes));
    for (int i = 0; i < size; ++i) from_[i] = i + 1;
  }

  void run() {
    for (int width = 1; width<size_; width = width> size_ / 2 ? size_ : width * 2) {
      for (int left = 0; left < size_;) {
        int middle = std::min(size_, left + width);
        int right = middle + std::min(size_ - middle, width);
        merge(left, middle, right);
        left = right;
      }
      std::swap(from_, to_);
    }
    put();
  }

 private:
  // True if the item on top comes before the one below it.
  bool is_before() {
    if (deadline_.passed()) raise_interruption(L_);
    if (lua_isnil(L_, 2)) return lua_lessthan(L_, -1, -2);
    lua_pushvalue(L_, 2);
    lua_pushvalue(L_, -2);
    lua_pushvalue(L_, -4);
    lua_call(L_, 2, 1);
    bool result = lua_toboolean(L_, -1);
    lua_pop(L_, 1);
    return result;
  }

  void merge(int left, int middle, int right) {
    int a = left, b = middle, out = left;
    if (a < middle && b < right) {
      lua_rawgeti(L_, 1, from_[a]);
      lua_rawgeti(L_, 1, from_[b]);
      for (;;) {
        if (is_before()) {
          to_[out++] = from_[b++];
          lua_pop(L_, 1);
          if (b == right) break;
        } else {
          to_[out++] = from_[a++];
          if (a == middle) {
            lua_pop(L_, 1);
            break;
          }
          lua_rawgeti(L_, 1, from_[a]);
          lua_replace(L_, -3);
          continue;
        }
        lua_rawgeti(L_, 1, from_[b]);
      }
      lua_pop(L_, 1);
    }
    while (a < middle) to_[out++] = from_[a++];
    while (b < right) to_[out++] = from_[b++];
  }

  // Puts the items where they belong, one circle of them after the other.
  void put() {
    for (int i = 0; i < size_; ++i) {
      if (from_[i] == i + 1) continue;
      lua_rawgeti(L_, 1, i + 1);
      int at = i;
      while (from_[at] != i + 1) {
        int next = from_[at];
        lua_rawgeti(L_, 1, next);
        lua_rawseti(L_, 1, at + 1);
        from_[at] = at + 1;
        at = next - 1;
      }
      lua_rawseti(L_, 1, at + 1);
      from_[at] = at + 1;
    }
  }

  lua_State* L_;
  Deadline deadline_;
  const int size_;
  int* from_;
  int* to_;
};

// sort(t [, is_before])
int sort(lua_State* L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  auto size = static_cast<int>(lua_objlen(L, 1));
  if (!lua_isnoneornil(L, 2)) luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  if (size > 1) Sort(L, size).run();
  return 0;
}

// ---- other tables -------------------------------------------------------------------------------

// insert(t [, at], value): the upvalue is Lua's own, which takes a step for each place up to `at`
// from the end on, whether there is anything or not.
int insert(lua_State* L) {
  constexpr lua_Number kLeast = -1e6;
  if (lua_gettop(L) == 3 && lua_isnumber(L, 2) && !(lua_tonumber(L, 2) >= kLeast)) {
    luaL_argerror(L, 2, "position out of bounds");
  }
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

// ---- loading ------------------------------------------------------------------------------------

struct Source {
  Text left;
  Deadline deadline;
  bool is_late;
};

const char* next_piece(lua_State*, void* data, std::size_t* size) {
  constexpr std::size_t kPiece = 4096;
  auto* source = static_cast<Source*>(data);
  *size = std::min(kPiece, source->left.size);
  if (source->deadline.passed(*size)) {
    source->is_late = true;
    *size = 0;
  }
  if (*size == 0) return nullptr;
  const char* piece = source->left.data;
  source->left = {piece + *size, source->left.size - *size};
  return piece;
}

// What the function at index 1 gives, which may be C's and so be stopped nowhere else. Index 5 is
// for the piece.
const char* call_for_piece(lua_State* L, void* data, std::size_t* size) {
  constexpr std::size_t kCost = 20;
  auto* source = static_cast<Source*>(data);
  *size = 0;
  if (source->deadline.passed(kCost)) {
    source->is_late = true;
    return nullptr;
  }
  lua_pushvalue(L, 1);
  lua_call(L, 0, 1);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    return nullptr;
  }
  if (!lua_isstring(L, -1)) luaL_error(L, "reader function must return a string");
  lua_replace(L, 5);
  return lua_tolstring(L, 5, size);
}

// load(text or function [, name [, mode [, environment]]])
int load(lua_State* L) {
  int n = lua_gettop(L);
  bool is_text = lua_isstring(L, 1);
  Source source{is_text ? text_at(L, 1) : Text{"=(load)", 0}, Deadline(L), false};
  if (!is_text) luaL_checktype(L, 1, LUA_TFUNCTION);
  const char* name = luaL_optstring(L, 2, source.left.data);
  const char* mode = luaL_optstring(L, 3, nullptr);
  lua_settop(L, 5);
  int status = lua_loadx(L, is_text ? next_piece : call_for_piece, &source, name, mode);
  if (source.is_late) return raise_interruption(L);
  if (status != 0) {
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
  }
  if (n >= 4) {
    lua_pushvalue(L, 4);
    lua_setfenv(L, -2);
  }
  return 1;
}

// Puts a function into the table on top in the place of one that it may call.
void replace(lua_State* L, const char* name, lua_CFunction f) {
  lua_getfield(L, -1, name);
  lua_pushcclosure(L, f, 1);
  lua_setfield(L, -2, name);
}

// install(string, table, globals)
int install(lua_State* L) {
  lua_settop(L, 3);
  replace(L, "load", load);
  replace(L, "loadstring", load);
  lua_settop(L, 2);
  replace(L, "sort", sort);
  replace(L, "insert", insert);
  lua_settop(L, 1);
  for (const luaL_Reg& f : {luaL_Reg{"find", find}, luaL_Reg{"match", match},
                            luaL_Reg{"gmatch", gmatch}, luaL_Reg{"gsub", gsub}}) {
    replace(L, f.name, f.func);
  }
  lua_getfield(L, 1, "gfind");
  bool has_old_name = !lua_isnil(L, -1);
  lua_pop(L, 1);
  if (has_old_name) replace(L, "gfind", gmatch);
  return 0;
}

}  // namespace

extern "C" int luaopen_rille_core_guarded(lua_State* L) {
  lua_pushcfunction(L, install);
  return 1;
}
