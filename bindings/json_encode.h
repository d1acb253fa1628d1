// Lua values to JSON text.
#pragma once

#include <cstddef>
#include <lua.hpp>
#include <rille/builtin.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "json_output.h"

namespace rille::json {

class Encoder {
 public:
  struct Options {
    std::size_t depth;
    std::string_view indent;  // its data is null for a text on one line
    bool sort_keys;
  };

  // Where the functions and tables that encoding needs stand on the stack.
  struct Helpers {
    int is_signed;           // (cdata) -> true for int64_t, false for uint64_t, else nil
    int marks;               // what is marked although it has a metatable of its own, to its mark
    const void* array_mark;  // the metatables of what else is marked
    const void* object_mark;
  };

  // Writes the value on top of the stack, which is not nil. Returns false if that cannot be:
  // `message` and `path` say what and where. Raises Lua's errors.
  bool encode(lua_State* L, const Options& options, const Helpers& helpers);

  std::string_view text() const { return out_.text(); }
  const std::string& message() const { return message_; }
  const std::string& path() const { return path_; }

  // Gives back what a large value has taken.
  void shrink();

 private:
  enum class Mark : unsigned char { kNone, kArray, kObject };
  enum class Kind : unsigned char {
    kInOrder,  // its keys were 1, 2, 3 ... so far
    kList,     // 1 to `size`
    kObject,
    kSorted  // an object whose keys were collected
  };
  enum class Step : unsigned char { kItem, kEnd, kFailed };

  // A table that is being written. On the stack stand the table and, behind it, its key written
  // last, or the table of its keys.
  struct Frame {
    const void* table;
    std::size_t start;      // where its text begins
    std::size_t count;      // how many items have begun
    std::size_t size;       // how many there are, if known
    std::size_t first_key;  // in `keys_`
    std::string_view key;   // of the item that is being written; without data it is
    double number;          // this number
    int slot;
    Kind kind;
    Mark mark;
    bool deep;  // its parent waits in the table at `deep_slot_`
  };
  struct Key {
    std::string_view text;
    int position;  // in the table of keys
  };

  bool run();
  bool value();
  bool number(double n);
  bool integer();
  bool enter();
  void leave();
  Mark mark_of_top();

  Step next(Frame* frame);
  Step next_in_order(Frame* frame);
  Step next_of_list(Frame* frame);
  Step next_pair(Frame* frame);
  Step next_sorted(Frame* frame);
  Step end(Frame* frame, std::string_view brackets);
  void separate(Frame* frame, char opening);
  bool settle(Frame* frame);
  bool count_items(Frame* frame, double* largest, double* total);
  bool collect_keys(Frame* frame);
  bool take_key(Frame* frame, int index);
  bool write_key(Frame* frame);
  void line(std::size_t depth);

  bool refuse(const std::string& what);
  bool refuse_table(const std::string& what);
  std::string path_of(std::size_t frames) const;

  Output out_;
  std::vector<Frame> frames_;
  std::vector<Key> keys_;
  std::string message_;
  std::string path_;

  // Of the value that is encoded now.
  lua_State* L_ = nullptr;
  Deadline* deadline_ = nullptr;
  Options options_{};
  Helpers helpers_{};
  int deep_slot_ = 0;
  int deep_count_ = 0;
};

}  // namespace rille::json
