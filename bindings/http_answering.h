// What handlers of HTTP read a request with, and answer it: the functions of an object in Lua,
// which is a connection of HTTP/1 or a stream of HTTP/2.
#pragma once

#include <cstdint>
#include <lua.hpp>
#include <string_view>
#include <vector>

#include "http1_head.h"
#include "http_trailers.h"

namespace rille::http1 {

// `check` gives the object at the first index. It has what http1::Connection has: read_body,
// read_chunk, limit_body, has_body, trailers, respond, start, take_back, flush, send, finish,
// wait_end, has_ended, cut, peer.
template <auto check>
struct Answering {
  // Their table: these and `more`, which ends with a row of nulls.
  static std::vector<rille_reg> methods(const rille_reg* more) {
    std::vector<rille_reg> all = {{"read_body", read_body, RILLE_WAITS},
                                  {"read_chunk", read_chunk, RILLE_WAITS},
                                  {"limit_body", limit_body, 0},
                                  {"has_body", has_body, 0},
                                  {"trailers", trailers, 0},
                                  {"respond", respond, RILLE_WAITS},
                                  {"start", start, 0},
                                  {"take_back", take_back, 0},
                                  {"flush", flush, 0},
                                  {"send", send, RILLE_WAITS},
                                  {"finish", finish, 0},
                                  {"wait_end", wait_end, RILLE_WAITS},
                                  {"has_ended", has_ended, 0},
                                  {"cut", cut, 0},
                                  {"peer", peer, 0}};
    do {
      all.push_back(*more);
    } while ((more++)->name);
    return all;
  }

 private:
  static std::string_view text(lua_State* L, int index) {
    std::size_t size;
    const char* data = luaL_checklstring(L, index, &size);
    return {data, size};
  }

  static std::string_view opt_text(lua_State* L, int index) {
    std::size_t size = 0;
    const char* data = luaL_optlstring(L, index, "", &size);
    return {data, size};
  }

  static int push(lua_State* L, bool value) {
    lua_pushboolean(L, value);
    return 1;
  }

  // read_body(most) -> body; or nil, status, fault
  static int read_body(lua_State* L) {
    lua_Number most = luaL_checknumber(L, 2);
    return check(L)->read_body(
        L, most < 9e15 ? static_cast<std::size_t>(most) : std::size_t{SIZE_MAX});
  }

  // read_chunk() -> bytes, "" at the end; or nil, status, fault
  static int read_chunk(lua_State* L) { return check(L)->read_chunk(L); }

  // limit_body(bytes) -> whether the body may still be that short
  static int limit_body(lua_State* L) {
    lua_Number most = luaL_checknumber(L, 2);
    return push(L, check(L)->limit_body(most < 9e15 ? static_cast<std::uint64_t>(most) : 0));
  }

  static int has_body(lua_State* L) { return push(L, check(L)->has_body()); }

  // trailers() -> { name, value, name, value, ... }
  static int trailers(lua_State* L) {
    push_trailers(L, check(L)->trailers());
    return 1;
  }

  // respond(status, body, content_type | nil, fields | nil, flags | nil) -> false if the peer has
  // gone
  static int respond(lua_State* L) {
    auto* object = check(L);
    ResponseHead head;
    head.status = luaL_checkint(L, 2);
    std::string_view body = text(L, 3);
    head.content_type = opt_text(L, 4);
    head.fields = opt_text(L, 5);
    int flags = luaL_optint(L, 6, 0);
    return object->respond(L, head, body, flags);
  }

  // start(status, length | nil, content_type | nil, fields | nil, flags | nil) -> whether it has a
  // body
  static int start(lua_State* L) {
    auto* object = check(L);
    ResponseHead head;
    head.status = luaL_checkint(L, 2);
    head.framing = lua_isnoneornil(L, 3) ? ResponseHead::kChunked : ResponseHead::kLength;
    head.length = static_cast<std::uint64_t>(luaL_optnumber(L, 3, 0));
    head.content_type = opt_text(L, 4);
    head.fields = opt_text(L, 5);
    return push(L, object->start(head, luaL_optint(L, 6, 0)));
  }

  static int take_back(lua_State* L) { return push(L, check(L)->take_back()); }

  static int flush(lua_State* L) {
    check(L)->flush();
    return 0;
  }

  // send(data) -> true, or false if there is no use in it
  static int send(lua_State* L) {
    auto* object = check(L);
    return object->send(L, text(L, 2));
  }

  // finish(trailers | nil) -> false if the body is too short
  static int finish(lua_State* L) {
    auto* object = check(L);
    return push(L, object->finish(opt_text(L, 2)));
  }

  // wait_end() -> true if the peer may still read, false if not, nil once it is closed
  static int wait_end(lua_State* L) { return check(L)->wait_end(L); }

  static int has_ended(lua_State* L) { return push(L, check(L)->has_ended()); }

  static int cut(lua_State* L) {
    check(L)->cut();
    return 0;
  }

  // peer() -> its address as text
  static int peer(lua_State* L) {
    std::string_view name = check(L)->peer();
    lua_pushlstring(L, name.data(), name.size());
    return 1;
  }
};

}  // namespace rille::http1
