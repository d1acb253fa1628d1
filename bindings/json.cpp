// rille.core.json: decoding and encoding, each for rille.json to call with its arguments checked.
#include <initializer_list>
#include <memory>
#include <new>
#include <rille/builtin.hpp>
#include <rille/module.hpp>

#include "json_decode.h"
#include "json_encode.h"
#include "json_fault.h"

namespace {

using rille::json::Big;
using rille::json::Decoder;
using rille::json::Encoder;
using rille::json::Limits;

// Kept from call to call, for the memory that they have. Finalizers of scripts may run while one is
// at work, and decode something themselves: then it is not here, and they get their own.
struct Codec {
  static constexpr char kName[] = "rille.json.Codec";
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<Encoder> encoder;
};

template <class T>
class Borrowed {
 public:
  // `home` may be null: then there is no way back.
  explicit Borrowed(std::unique_ptr<T>* home)
      : home_(home), thing_(home && *home ? std::move(*home) : std::make_unique<T>()) {}
  ~Borrowed() {
    if (!home_) return;
    thing_->shrink();
    if (!*home_) *home_ = std::move(thing_);
  }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  T* operator->() { return thing_.get(); }

 private:
  std::unique_ptr<T>* home_;
  std::unique_ptr<T> thing_;
};

// The functions' upvalues.
enum Upvalue { kCodec = 1, kHelper1, kHelper2, kHelper3 };

// Where a decoder or encoder is kept. Null in the finalizers of a state that is being closed, where
// the codec itself may be gone already.
template <class T>
std::unique_ptr<T>* home_of(lua_State* L, std::unique_ptr<T> Codec::*member) {
  if (!lua_getmetatable(L, lua_upvalueindex(kCodec))) return nullptr;
  lua_pop(L, 1);
  return &(static_cast<Codec*>(lua_touserdata(L, lua_upvalueindex(kCodec)))->*member);
}

std::size_t depth_argument(lua_State* L, int index) {
  return static_cast<std::size_t>(lua_tonumber(L, index));
}

// Pushes nil, the message, position, line and column of what is wrong with a text.
int push_fault(lua_State* L, const char* text, std::size_t size, const Limits& limits) {
  rille::json::Fault fault = rille::json::find_fault(text, size, limits);
  if (fault.message.empty()) fault.message = "not JSON";
  rille::json::Place place = rille::json::place_of(text, fault.position);
  lua_pushnil(L);
  lua_pushlstring(L, fault.message.data(), fault.message.size());
  lua_pushnumber(L, static_cast<lua_Number>(fault.position + 1));
  lua_pushnumber(L, static_cast<lua_Number>(place.line));
  lua_pushnumber(L, static_cast<lua_Number>(place.column));
  return 5;
}

int decode_guarded(lua_State* L) {
  std::size_t size;
  const char* text = lua_tolstring(L, 1, &size);
  Limits limits{depth_argument(L, 2), static_cast<Big>(lua_tointeger(L, 3))};
  lua_settop(L, 1);
  Decoder::Helpers helpers{2, 3, 4};
  for (int i : {kHelper1, kHelper2, kHelper3}) lua_pushvalue(L, lua_upvalueindex(i));

  Borrowed<Decoder> decoder(home_of(L, &Codec::decoder));
  switch (decoder->decode(L, text, size, limits, helpers)) {
    case Decoder::Status::kDone:
      return 1;
    case Decoder::Status::kRefused:
      lua_settop(L, 1);
      return push_fault(L, text, size, limits);
    case Decoder::Status::kNoMemory:
      throw std::bad_alloc();
    case Decoder::Status::kNoLibrary:
      break;
  }
  return luaL_error(L, "rille.json: %s", rille::json::Index::library_error());
}

int encode_guarded(lua_State* L) {
  Encoder::Options options{depth_argument(L, 2), {}, lua_toboolean(L, 4) != 0};
  std::size_t size;
  if (const char* indent = lua_tolstring(L, 3, &size)) options.indent = {indent, size};
  Encoder::Helpers helpers{5, 6, lua_topointer(L, lua_upvalueindex(kHelper3)),
                           lua_topointer(L, lua_upvalueindex(kHelper3 + 1))};
  lua_settop(L, 4);
  for (int i : {kHelper1, kHelper2}) lua_pushvalue(L, lua_upvalueindex(i));
  lua_pushvalue(L, 1);

  Borrowed<Encoder> encoder(home_of(L, &Codec::encoder));
  if (encoder->encode(L, options, helpers)) {
    std::string_view text = encoder->text();
    lua_pushlstring(L, text.data(), text.size());
    return 1;
  }
  lua_settop(L, 1);
  lua_pushnil(L);
  lua_pushlstring(L, encoder->message().data(), encoder->message().size());
  lua_pushlstring(L, encoder->path().data(), encoder->path().size());
  return 3;
}

// Lua has to see C++'s own lack of memory as its own. Its errors pass through here as they are.
template <int (*function)(lua_State*)>
int guarded(lua_State* L) {
  try {
    return function(L);
  } catch (const std::bad_alloc&) {
  }
  return rille::raise_out_of_memory(L);
}

// functions{make_signed=, make_unsigned=, is_signed=, array_mark=, object_mark=, marks=} ->
// decode(text, depth, big) -> value, or nil, message, position, line, column;
// encode(value, depth, indent, sort_keys) -> text, or nil, message, path
int functions(lua_State* L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  rille::Class<Codec>::push(L);
  auto closure = [&](lua_CFunction f, std::initializer_list<const char*> helpers) {
    lua_pushvalue(L, 2);
    for (const char* name : helpers) lua_getfield(L, 1, name);
    lua_pushcclosure(L, f, static_cast<int>(helpers.size()) + 1);
  };
  closure(guarded<decode_guarded>, {"make_signed", "make_unsigned", "array_mark"});
  closure(guarded<encode_guarded>, {"is_signed", "marks", "array_mark", "object_mark"});
  return 2;
}

const rille_reg kNoMethods[] = {{nullptr, nullptr, 0}};
const rille_reg kFunctions[] = {{"functions", functions, 0}, {nullptr, nullptr, 0}};

}  // namespace

extern "C" int luaopen_rille_core_json(lua_State* L) {
  rille::Class<Codec>::define(L, kNoMethods);
  rille_newlib(L, kFunctions);
  lua_pushlightuserdata(L, nullptr);
  lua_setfield(L, -2, "null");
  return 1;
}
