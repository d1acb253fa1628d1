// Lua's patterns, matched by a machine that can be stopped: see guarded.cpp.
#pragma once

#include <array>
#include <cstddef>
#include <lua.hpp>
#include <rille/builtin.hpp>

namespace rille {

// What a pattern means is what LuaJIT says, so it ends at a zero byte. Instead of calling itself it
// keeps a list of the places where it could have gone on differently.
//
// Errors are raised, and nothing here has to be destroyed when they are.
class Pattern {
 public:
  Pattern(lua_State* L, const char* subject, std::size_t size)
      : L_(L), deadline_(L), begin_(subject), end_(subject + size) {}

  // Matches `pattern` at `at` and nowhere else; gives the end, or null.
  const char* match_at(const char* at, const char* pattern);

  // Of the last match, from `from` to `to`: pushes capture `index`, from 0 on; without captures 0
  // is the whole.
  void push_capture(int index, const char* from, const char* to);
  // All of them, and how many; without captures the whole, unless `from` is null.
  int push_captures(const char* from, const char* to);

  // Something else has been done that takes time: raises an error if there is none left.
  void count(std::size_t steps) {
    if (deadline_.passed(steps)) raise_interruption(L_);
  }

 private:
  static constexpr std::ptrdiff_t kOpen = -1;
  static constexpr std::ptrdiff_t kPosition = -2;

  struct Capture {
    const char* start;
    std::ptrdiff_t size;
  };

  enum class Kind { kOpened, kClosed, kFewer, kMore, kWithout };

  // Where to go on when what follows does not match.
  struct Choice {
    Kind kind;
    int capture;        // kClosed: which one
    const char* at;     // how far an item has come in the subject
    const char* least;  // kFewer: and what it needs
    const char* item;
    const char* item_end;
    const char* rest;  // of the pattern
  };

  Choice& add(Kind kind);
  bool back(const char** at, const char** pattern);
  const char* end_of(const char* item);
  bool fits(const char* at, const char* item, const char* item_end) const;
  const char* balanced(const char* at, const char* pair);
  const char* repeated(const char* at, char digit);
  bool is_frontier(const char* at, const char* set, const char* set_end) const;
  void open(const char* at, std::ptrdiff_t size);
  void close(const char* at);

  lua_State* L_;
  Deadline deadline_;
  const char* begin_;
  const char* end_;
  int captures_count_ = 0;
  int choices_count_ = 0;
  std::array<Capture, 32> captures_;
  std::array<Choice, 200> choices_;
};

}  // namespace rille
