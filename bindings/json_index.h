// Where the structure of a JSON text stands: simdjson's first stage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace rille::json {

class Index {
 public:
  enum class Status { kDone, kRefused, kNoMemory, kNoLibrary };

  Index();
  ~Index();

  // Finds each bracket, comma and colon outside of strings, and the first byte of each string,
  // number and literal. Strings are then known to end, the text to be UTF-8 and free of control
  // characters in strings; kRefused if it is not, or has nothing in it.
  Status build(const char* text, std::size_t size);

  // The offsets, in order; behind the last stands the size of the text, twice.
  const std::uint32_t* begin() const { return offsets_; }
  std::uint32_t count() const { return count_; }

  // Gives back the memory that a large text has taken.
  void shrink();

  // What is wrong with the library, after kNoLibrary.
  static const char* library_error();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  const std::uint32_t* offsets_ = nullptr;
  std::uint32_t count_ = 0;
};

}  // namespace rille::json
