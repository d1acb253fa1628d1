// The tables and functions of a message, in the order in which they were met, and the way to each.
#pragma once

#include <cstdint>
#include <lua.hpp>
#include <string>
#include <vector>

#include "worker_codec.h"

namespace rille::worker {

struct Info {
  std::uint32_t parent;  // 0: it is one of the values themselves
  std::uint32_t index;   // which of them
  Kind kind;
  std::uint32_t listed = 0, hashed = 0;  // parts of a table
  std::uint32_t code = 0, upvalues = 0;  // of a function
};
// Where the value stands that is being written.
struct Place {
  std::uint32_t object;  // 0: the values themselves
  std::uint32_t index;   // of a value, or of an upvalue
  int key;               // stack index of a table's key, 0 if it is the key itself
};

struct Graph {
  lua_State* L = nullptr;
  Values what = Values::kValue;
  int objects = 0;  // stack index of the list of them
  std::vector<Info> infos;
};

// In words for people: "argument #1.list[3]", "upvalue 'sock'". An item of a list is on the stack,
// above the list of objects and its table, while it is written.
std::string path_of(const Graph& graph, const Place& place);

// Pointers to numbers.
class Numbers {
 public:
  const std::uint32_t* find(const void* key) const {
    if (used_ == 0) return nullptr;
    for (std::size_t i = hash(key);; ++i) {
      const Entry& e = entries_[i & mask_];
      if (e.key == key) return &e.number;
      if (!e.key) return nullptr;
    }
  }
  // REQUIRES: it is not there.
  void add(const void* key, std::uint32_t number) {
    if (2 * (used_ + 1) > entries_.size()) grow();
    ++used_;
    std::size_t i = hash(key);
    while (entries_[i & mask_].key) ++i;
    entries_[i & mask_] = {key, number};
  }

 private:
  struct Entry {
    const void* key = nullptr;
    std::uint32_t number = 0;
  };
  static std::size_t hash(const void* key) {
    return (reinterpret_cast<std::uintptr_t>(key) >> 3) * 0x9e3779b97f4a7c15u >> 32;
  }
  void grow() {
    std::vector<Entry> former = std::move(entries_);
    entries_ = std::vector<Entry>(former.empty() ? 8 : former.size() * 2);
    mask_ = entries_.size() - 1;
    for (const Entry& e : former) {
      if (!e.key) continue;
      std::size_t i = hash(e.key);
      while (entries_[i & mask_].key) ++i;
      entries_[i & mask_] = e;
    }
  }
  std::vector<Entry> entries_;
  std::size_t mask_ = 0, used_ = 0;
};

}  // namespace rille::worker
