// The text that an encoder writes: bytes that grow at their end.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

namespace rille::json {

class Output {
 public:
  static constexpr std::size_t kLongest = 0x7FFFFF00;  // of LuaJIT's strings

  // Where to write next: at least `size` bytes fit there. `wrote` says where they end.
  char* room_for(std::size_t size) {
    if (static_cast<std::size_t>(limit_ - end_) < size) grow(size);
    return end_;
  }
  void wrote(char* end) { end_ = end; }

  void put(char c) {
    *room_for(1) = c;
    ++end_;
  }
  void put(std::string_view text) {
    std::memcpy(room_for(text.size()), text.data(), text.size());
    end_ += text.size();
  }

  // Writes a string with its quotes. Returns false if it is not UTF-8.
  bool put_string(std::string_view text);

  std::string_view text() const { return {data_.get(), size()}; }
  std::size_t size() const { return static_cast<std::size_t>(end_ - data_.get()); }
  void cut(std::size_t size) { end_ = data_.get() + size; }

  // From now on it may not be longer.
  void set_most(std::size_t size) { most_ = size; }

  // Gives back what a large text has taken.
  void shrink();

 private:
  struct Free {
    void operator()(char* p) const { std::free(p); }
  };
  void grow(std::size_t size);

  std::unique_ptr<char, Free> data_;
  char* end_ = nullptr;
  char* limit_ = nullptr;
  std::size_t most_ = kLongest;
};

}  // namespace rille::json
