// Reads folders entry by entry, without following what must not be followed.
#pragma once

#include <dirent.h>

#include <cstddef>
#include <memory>
#include <string_view>

namespace rille::fs {

class Directory {
 public:
  Directory() = default;
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() { close(); }

  // Opens the folder `name`, which begins at the folder `parent` (or AT_FDCWD). Returns 0 or a
  // negative errno: ENOTDIR for a link, unless links are followed.
  int open(int parent, const char* name, bool follow);
  void close();

  // Reads from the beginning of `fd`, which stays its owner's.
  void borrow(int fd);

  bool is_open() const { return fd_ >= 0; }
  int fd() const { return fd_; }

  struct Entry {
    std::string_view name;   // ends with a zero; until the next call of `next`
    unsigned char type = 0;  // DT_REG ..., DT_UNKNOWN where the entry is gone
  };

  // The next entry, without "." and "..": 1; 0 at the end; or a negative errno.
  int next(Entry* entry);

 private:
  static constexpr std::size_t kBufferSize = 32 << 10;
  std::unique_ptr<char[]> buffer_;
  std::size_t at_ = 0;
  std::size_t end_ = 0;
  int fd_ = -1;
  bool owned_ = false;
};

// "file", "directory", "link" ... for a DT_ constant.
const char* type_name(unsigned char type);

}  // namespace rille::fs
