// bindings/file_take.cpp: takes lines, bytes and numbers of what was read of a file.
#include <algorithm>
#include <cctype>
#include <cstring>

#include "file_state.h"

namespace rille::fs {

// take_*(file, ended, ...) -> 0, value or nil at the end; while there is too little, how many bytes
// more are needed at least. `ended`: the last `fill` met the end.

namespace {

constexpr int kTaken = 0;

int taken(lua_State* L, OpenFile* f, std::size_t size, std::size_t consumed) {
  lua_pushinteger(L, kTaken);
  lua_pushlstring(L, size > 0 ? f->in.data() + f->next : "", size);
  f->consume(consumed);
  return 2;
}

int taken_nothing(lua_State* L) {
  lua_pushinteger(L, kTaken);
  lua_pushnil(L);
  return 2;
}

int need(lua_State* L, std::size_t count) {
  lua_pushnumber(L, static_cast<lua_Number>(count));
  return 1;
}

// How many of the bytes can belong to a number; at most 200, as in Lua.
std::size_t number_length(const char* p, const char* end) {
  constexpr std::ptrdiff_t kLongest = 200;
  const char* limit = end - p > kLongest ? p + kLongest : end;
  const char* q = p;
  auto accept = [&](const char* set) {
    bool there = q < limit && *q != '\0' && std::strchr(set, *q);
    if (there) ++q;
    return there;
  };
  accept("+-");
  bool hex = accept("0") && accept("xX");
  const char* digits = hex ? "0123456789abcdefABCDEF" : "0123456789";
  while (accept(digits)) {
  }
  if (accept(".")) {
    while (accept(digits)) {
    }
  }
  if (accept(hex ? "pP" : "eE")) {
    accept("+-");
    while (accept("0123456789")) {
    }
  }
  return static_cast<std::size_t>(q - p);
}

}  // namespace

// take_line(file, ended, keep_newline)
int take_line(lua_State* L) {
  OpenFile* f = file_at(L, 1).get();
  if (f->scanned < f->in.size()) {
    const char* start = f->in.data() + f->scanned;
    const void* newline = std::memchr(start, '\n', f->in.size() - f->scanned);
    if (newline) {
      auto end = static_cast<std::size_t>(static_cast<const char*>(newline) - f->in.data());
      std::size_t length = end - f->next;
      return taken(L, f, lua_toboolean(L, 3) ? length + 1 : length, length + 1);
    }
    f->scanned = f->in.size();
  }
  if (!lua_toboolean(L, 2)) return need(L, 1);
  std::size_t rest = f->available();
  return rest == 0 ? taken_nothing(L) : taken(L, f, rest, rest);
}

// take_bytes(file, ended, count)
int take_bytes(lua_State* L) {
  OpenFile* f = file_at(L, 1).get();
  auto count = static_cast<std::size_t>(lua_tonumber(L, 3));
  std::size_t there = f->available();
  if (there > 0 && there >= count) return taken(L, f, count, count);
  if (!lua_toboolean(L, 2)) return need(L, std::max<std::size_t>(count - there, 1));
  return there == 0 ? taken_nothing(L) : taken(L, f, there, there);
}

// take_all(file, ended)
int take_all(lua_State* L) {
  OpenFile* f = file_at(L, 1).get();
  if (!lua_toboolean(L, 2)) return need(L, kMostBytes);
  int n = taken(L, f, f->available(), f->available());
  if (!f->holding) f->release_input();
  f->ahead = 0;
  return n;
}

// take_number(file, ended): nil where there is none.
int take_number(lua_State* L) {
  OpenFile* f = file_at(L, 1).get();
  const char* start = f->in.data() + f->next;
  const char* end = start + f->available();
  const char* p = start;
  while (p < end && std::isspace(static_cast<unsigned char>(*p))) ++p;
  std::size_t length = number_length(p, end);
  if (p + length == end && !lua_toboolean(L, 2)) return need(L, 1);
  lua_pushinteger(L, kTaken);
  lua_pushlstring(L, length > 0 ? p : "", length);
  if (lua_isnumber(L, -1)) {
    lua_pushnumber(L, lua_tonumber(L, -1));
  } else {
    lua_pushnil(L);
  }
  lua_remove(L, -2);
  f->consume(static_cast<std::size_t>(p + length - start));
  return 2;
}

// hold(file): what is handed out from here on can be given back.
int hold(lua_State* L) {
  OpenFile* f = file_at(L, 1).get();
  f->holding = true;
  f->kept = f->next;
  return 0;
}

// release(file, give_back): ends `hold`.
int release(lua_State* L) {
  OpenFile* f = file_at(L, 1).get();
  f->holding = false;
  if (lua_toboolean(L, 2)) f->next = f->scanned = f->kept;
  f->consume(0);
  return 0;
}

}  // namespace rille::fs
