#include "http_trailers.h"

#include <string_view>

namespace rille::http1 {

void push_trailers(lua_State* L, const std::vector<std::string>& all) {
  lua_createtable(L, static_cast<int>(all.size()), 0);
  int n = 0;
  for (std::string_view part : all) {
    std::size_t first = part.find_first_not_of(" \t");
    std::size_t last = part.find_last_not_of(" \t");
    if (first == part.npos) part = {};
    if (!part.empty()) part = part.substr(first, last + 1 - first);
    lua_pushlstring(L, part.data(), part.size());
    lua_rawseti(L, -2, ++n);
  }
}

}  // namespace rille::http1
