// Answers of name servers: from the bytes of a message to Lua tables.
#pragma once

#include <lua.hpp>
#include <string_view>

namespace rille::dns {

// Numbers of record types, RFC 1035 and those after it.
enum Type : int {
  kA = 1,
  kNs = 2,
  kCname = 5,
  kPtr = 12,
  kMx = 15,
  kTxt = 16,
  kAaaa = 28,
  kSrv = 33,
  kCaa = 257,
};

// Pushes the list of the records of a type that a message has in its answer, and returns how many
// there are; or pushes nothing and returns -1 if the message is damaged.
int push_answer(lua_State* L, std::string_view message, int type);

}  // namespace rille::dns
