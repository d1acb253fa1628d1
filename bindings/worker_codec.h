// Lua values as bytes, for another interpreter: of another thread or of another process. Tables and
// functions are numbered and written one after another, each with its parts as numbers, so that
// cycles and sharing are kept and nothing nests, however deep the values do.
#pragma once

#include <lua.hpp>
#include <memory>
#include <rille/builtin.hpp>
#include <string>
#include <vector>

namespace rille::worker {

class Channel;

// What travels. Channels go beside the bytes: threads share them.
struct Message {
  std::string bytes;
  std::vector<std::shared_ptr<Channel>> channels;
  bool needs_modules = false;  // push_modules gives some, to be required before `decode`
  Charge charge = Charge();    // its sender's
};

// What the values are to whoever reads of one that cannot be copied.
enum class Values { kCall, kResults, kValue };

// Prepares a Lua state; `setup` is a table with `error`, `cancelled`, `group`, `array`, `object`,
// `channel` (metatables), `marks` (those of tables that have one of their own), `is_signed`,
// `make_signed` and `make_unsigned` (for integers of 64 bits), `raise(path, what, value)`,
// `tostring`, `loaded`, the modules that scripts have, `is_sandbox`: whether they are not trusted,
// and `globals`, their environment.
void open_codec(lua_State* L, int setup);

// Encodes the values from the index `first` to the top. Where a table is given at the index
// `channels`, the channels go into that list and not into the message. Raises an error that names
// what cannot be copied.
void encode(lua_State* L, int first, Values what, Message* message, int channels = 0);

// Pushes a list of the modules that have to be loaded, as { name, place, name, place … }.
void push_modules(lua_State* L, const std::string& bytes);

// Pushes the values and returns how many. Channels come from the message, or from the list at the
// index `channels`. Raises an error if the message is malformed or a module is missing.
int decode(lua_State* L, const Message& message, int channels = 0);

// ---- shared by the two sides -------------------------------------------------------------------

enum Tag : unsigned char {
  kNil,
  kFalse,
  kTrue,
  kNumber,
  kInteger,
  kText,
  kObject,
  kSigned,
  kUnsigned,
  kNull,
  kModule,
  kChannel,
  kNamed,  // a function that a module has under that name
  kEnd,    // of a table
  kCell,   // an upvalue that another function has too
};

enum Kind : unsigned char {
  kTable,
  kArrayTable,
  kObjectTable,
  kErrorTable,
  kCancelledTable,
  kGroupTable,
  kFunction,
};

// What a Lua state keeps for the codec: a table in its registry, by these numbers.
enum Kept {
  kErrorMeta = 1,
  kCancelledMeta,
  kGroupMeta,
  kArrayMeta,
  kObjectMeta,
  kChannelMeta,
  kMarks,
  kIsSigned,
  kMakeSigned,
  kMakeUnsigned,
  kRaise,
  kToString,
  kLoaded,  // package.loaded, as scripts have it
  kIsSandbox,
  kGlobals,    // of scripts
  kBytecodes,  // of functions that were sent
  kNames,      // of functions that modules have
  kFactories,  // of functions that have come, by their bytecode
  kLastKept = kFactories,
};
void push_kept(lua_State* L);

// Pushes a function that makes closures of the dumped one, each with upvalues of its own: `count`
// of them. Raises an error if that is no bytecode.
void push_factory(lua_State* L, const char* code, std::size_t size, int count);

}  // namespace rille::worker
