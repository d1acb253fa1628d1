// rille.core.http1: HTTP/1 for rille.http, server and client, and what both read out of a head.
#include "http1_client.h"
#include "http1_grammar.h"
#include "http1_head.h"
#include "http1_server.h"

namespace rille::http1 {

namespace {

std::string_view check_view(lua_State* L, int index) {
  std::size_t size;
  const char* text = luaL_checklstring(L, index, &size);
  return {text, size};
}

void push(lua_State* L, std::string_view text) { lua_pushlstring(L, text.data(), text.size()); }

// first_line(head) -> its three parts: method, target, version; or version, status, reason
int first_line(lua_State* L) {
  std::string_view line = check_view(L, 1);
  line = line.substr(0, line.find('\r'));
  std::size_t first = line.find(' ');
  std::size_t second = line.find(' ', first + 1);
  push(L, line.substr(0, first));
  push(L, line.substr(first + 1, second - first - 1));
  push(L, second == std::string_view::npos ? std::string_view() : line.substr(second + 1));
  return 3;
}

// route_key(head) -> method, path as it was sent; nothing if the target is more than a path.
int route_key(lua_State* L) {
  std::string_view head = check_view(L, 1);
  std::size_t first = head.find(' ');
  if (first + 1 >= head.size() || head[first + 1] != '/') return 0;
  std::size_t end = first + 1;
  while (end < head.size() && head[end] != ' ' && head[end] != '?') ++end;
  push(L, head.substr(0, first));
  push(L, head.substr(first + 1, end - first - 1));
  return 2;
}

// fields(head) -> { name, value, name, value, ... }
int fields(lua_State* L) {
  std::string_view head = check_view(L, 1);
  lua_newtable(L);
  int n = 0;
  std::size_t line = head.find('\n') + 1;
  while (line < head.size() && head[line] != '\r') {
    std::size_t end = head.find('\r', line);
    std::size_t colon = head.find(':', line);
    std::size_t value = head.find_first_not_of(" \t", colon + 1);
    std::size_t last = head.find_last_not_of(" \t", end - 1);
    push(L, head.substr(line, colon - line));
    lua_rawseti(L, -2, ++n);
    push(L, value < end ? head.substr(value, last + 1 - value) : std::string_view());
    lua_rawseti(L, -2, ++n);
    line = end + 2;
  }
  return 1;
}

// unescape(text, plus) -> text without percent-encoding
int unescape(lua_State* L) {
  push(L, http1::unescape(check_view(L, 1), lua_toboolean(L, 2) != 0));
  return 1;
}

// reason(status) -> its standard text
int reason(lua_State* L) {
  push(L, http1::reason(luaL_checkint(L, 1)));
  return 1;
}

// is_token(text) -> whether it can be a method or the name of a field
int is_token(lua_State* L) {
  lua_pushboolean(L, http1::is_token(check_view(L, 1)));
  return 1;
}

const rille_reg kFunctions[] = {
    {"first_line", first_line, 0}, {"route_key", route_key, 0}, {"fields", fields, 0},
    {"unescape", unescape, 0},     {"reason", reason, 0},       {"is_token", is_token, 0},
    {"server", make_server, 0},    {"client", make_client, 0},  {nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille::http1

extern "C" int luaopen_rille_core_http1(lua_State* L) {
  rille::http1::define_server(L);
  rille::http1::define_client(L);
  rille_newlib(L, rille::http1::kFunctions);
  return 1;
}
