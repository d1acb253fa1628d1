// Bytes of a message: numbers, texts, and what reads them back without believing any length.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace rille::worker {

class Bytes {
 public:
  void byte(unsigned char b) { data_.push_back(static_cast<char>(b)); }
  void raw(const void* from, std::size_t size) {
    data_.append(static_cast<const char*>(from), size);
  }
  // Seven bits a byte, the lowest first.
  void number(std::uint64_t n) {
    while (n >= 0x80) {
      byte(static_cast<unsigned char>(n | 0x80));
      n >>= 7;
    }
    byte(static_cast<unsigned char>(n));
  }
  void text(std::string_view s) {
    number(s.size());
    data_.append(s);
  }
  const std::string& data() const { return data_; }

 private:
  std::string data_;
};

// After a fault everything reads as 0 or empty.
class Reader {
 public:
  explicit Reader(std::string_view data) : at_(data.data()), end_(at_ + data.size()) {}

  bool ok() const { return ok_; }
  std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }

  unsigned char byte() {
    if (at_ == end_) return fail();
    return static_cast<unsigned char>(*at_++);
  }
  std::uint64_t number() {
    std::uint64_t n = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      unsigned char b = byte();
      n |= std::uint64_t{b & 0x7fu} << shift;
      if (b < 0x80) return n;
    }
    return fail();
  }
  // How many things follow that take a byte each at least.
  std::size_t count() {
    std::uint64_t n = number();
    if (n > left()) return fail();
    return static_cast<std::size_t>(n);
  }
  std::string_view text() {
    std::size_t size = count();
    std::string_view s(at_, size);
    at_ += size;
    return s;
  }
  template <class T>
  T raw() {
    T value{};
    if (left() < sizeof value) {
      fail();
    } else {
      std::memcpy(&value, at_, sizeof value);
      at_ += sizeof value;
    }
    return value;
  }
  unsigned char fail() {
    ok_ = false;
    at_ = end_;
    return 0;
  }

 private:
  const char* at_;
  const char* end_;
  bool ok_ = true;
};

}  // namespace rille::worker
