// JSON text to Lua values.
#pragma once

#include <cstdint>
#include <lua.hpp>
#include <memory>
#include <vector>

#include "json_fault.h"
#include "json_index.h"

namespace rille::json {

class Decoder {
 public:
  // Where the functions and tables that decoding needs stand on the stack.
  struct Helpers {
    int make_signed;    // (high, low) -> int64_t, of two halves that are numbers
    int make_unsigned;  // the same for uint64_t
    int array_mark;     // the metatable of arrays
  };

  enum class Status { kDone, kRefused, kNoMemory, kNoLibrary };

  // Pushes the value; if the status is not kDone, what lies on the stack is of no use. Raises
  // Lua's errors. REQUIRES: the text ends with a NUL.
  Status decode(lua_State* L, const char* text, std::size_t size, const Limits& limits,
                const Helpers& helpers);

  // Gives back what a large text has taken.
  void shrink();

 private:
  struct Frame {
    int slot;
    std::uint32_t count;  // how many items an array has so far
    bool object;
    bool deep;  // its table is in its parent already, which waits in `deep_`
  };
  // A key of the text that stands on the stack.
  struct Key {
    const char* text = nullptr;
    std::size_t size = 0;
  };
  static constexpr int kKeys = 64;
  struct Open {
    std::uint32_t container;
    std::uint32_t commas;
  };

  bool measure();
  bool build();
  void enter(bool object);
  void enter_deep(bool object);
  bool leave();
  bool key(const std::uint32_t** at);
  bool scalar(const std::uint32_t* at);
  bool string(const std::uint32_t* at);
  bool key_string(const std::uint32_t* at);
  bool same(const char* a, const char* b, std::size_t size) const;
  bool number(const char* p);
  bool literal(const char* p, const char* word, std::size_t size);
  bool ends_at(const char* p) const;
  bool push_unescaped(const char* begin, const char* end);
  void push_integer(int maker, std::uint64_t bits);

  Index index_;
  std::vector<std::uint32_t> sizes_;  // of the containers, in the order in which they open
  std::vector<Open> open_;
  std::vector<Frame> frames_;
  std::unique_ptr<char[]> buffer_;  // for strings without their escapes
  std::size_t buffer_size_ = 0;

  // Of the text that is decoded now.
  lua_State* L_ = nullptr;
  const char* text_ = nullptr;
  const char* end_ = nullptr;
  const char* backslash_ = nullptr;  // the first one that is not behind us, or the end
  const std::uint32_t* next_size_ = nullptr;
  Limits limits_{};
  Helpers helpers_{};
  std::size_t deepest_ = 0;
  Key keys_[kKeys];
  int first_key_ = 0;  // their place on the stack; 0 for a text too small to be worth it
  int deep_slot_ = 0;
  int deep_count_ = 0;
};

}  // namespace rille::json
