// The way to a value that cannot be copied, for who reads of it.
#include "worker_graph.h"

#include <string_view>

namespace rille::worker {

namespace {

constexpr std::size_t kMostSteps = 50;  // of a path that are shown

std::string root(const Graph& graph, std::uint32_t index) {
  switch (graph.what) {
    case Values::kValue:
      return "the value";
    case Values::kResults:
      return "result #" + std::to_string(index);
    default:
      return index == 1 ? "the function" : "argument #" + std::to_string(index - 1);
  }
}

bool is_name(std::string_view text) {
  if (text.empty() || (text[0] >= '0' && text[0] <= '9')) return false;
  for (char c : text) {
    bool fits =
        c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!fits) return false;
  }
  return true;
}

std::string bracketed(std::string_view text, const char* quote = "") {
  return std::string("[").append(quote).append(text).append(quote).append("]");
}

std::string key_text(lua_State* L, int index) {
  constexpr std::size_t kMostBytes = 40;
  int type = lua_type(L, index);
  if (type != LUA_TSTRING && type != LUA_TNUMBER) {
    return bracketed(std::string("a ") + lua_typename(L, type));
  }
  lua_pushvalue(L, index);  // lua_tolstring would change the key
  std::size_t size;
  const char* data = lua_tolstring(L, -1, &size);
  std::string_view text(data, size);
  std::string step;
  if (type == LUA_TNUMBER) {
    step = bracketed(text);
  } else if (is_name(text)) {
    step = std::string(".").append(text);
  } else {
    step = bracketed(text.substr(0, kMostBytes), "\"");
  }
  lua_pop(L, 1);
  return step;
}

std::string upvalue_of(const Graph& graph, const std::string& path, int f, std::uint32_t index) {
  const char* name = lua_getupvalue(graph.L, f, static_cast<int>(index));
  if (name) lua_pop(graph.L, 1);
  std::string step = std::string("upvalue '").append(name ? name : "?").append("'");
  return path == "the function" ? step : path + ": " + step;
}

// From what holds the object on top of the stack to it. The holder lies below.
std::string step_to(const Graph& graph, const std::string& path, std::uint32_t object,
                    std::uint32_t holder) {
  lua_State* L = graph.L;
  int top = lua_gettop(L);
  if (graph.infos[holder - 1].kind == kFunction) {
    return upvalue_of(graph, path, top - 1, graph.infos[object - 1].index);
  }
  for (lua_pushnil(L); lua_next(L, top - 1); lua_pop(L, 1)) {
    if (lua_rawequal(L, -1, top)) return path + key_text(L, lua_gettop(L) - 1);
  }
  return "a key of " + path;
}

std::string path_of_object(const Graph& graph, std::uint32_t id) {
  lua_State* L = graph.L;
  std::vector<std::uint32_t> chain;  // from the innermost to the outermost
  for (std::uint32_t i = id; i != 0; i = graph.infos[i - 1].parent) chain.push_back(i);
  std::string path = root(graph, graph.infos[chain.back() - 1].index);
  int top = lua_gettop(L);
  std::size_t shown = 0;
  for (std::size_t i = chain.size() - 1; i-- > 0;) {
    if (++shown > kMostSteps) return path + "...";
    lua_rawgeti(L, graph.objects, static_cast<int>(chain[i + 1]));
    lua_rawgeti(L, graph.objects, static_cast<int>(chain[i]));
    path = step_to(graph, path, chain[i], chain[i + 1]);
    lua_settop(L, top);
  }
  return path;
}

std::string list_index(const Graph& graph, std::uint32_t object) {
  lua_State* L = graph.L;
  lua_rawgeti(L, graph.objects, static_cast<int>(object));
  auto n = static_cast<int>(lua_objlen(L, -1));
  for (int i = 1; i <= n; ++i) {
    lua_rawgeti(L, -1, i);
    bool same = lua_rawequal(L, -1, graph.objects + 2);
    lua_pop(L, 1);
    if (same) return bracketed(std::to_string(i));
  }
  return bracketed("?");
}

}  // namespace

std::string path_of(const Graph& graph, const Place& place) {
  if (place.object == 0) return root(graph, place.index);
  std::string path = path_of_object(graph, place.object);
  lua_State* L = graph.L;
  int top = lua_gettop(L);
  if (graph.infos[place.object - 1].kind == kFunction) {
    lua_rawgeti(L, graph.objects, static_cast<int>(place.object));
    path = upvalue_of(graph, path, lua_gettop(L), place.index);
  } else if (place.key != 0) {
    path += key_text(L, place.key);
  } else if (place.index == 1) {
    path.insert(0, "a key of ");
  } else {
    path += list_index(graph, place.object);
  }
  lua_settop(L, top);
  return path;
}

}  // namespace rille::worker
