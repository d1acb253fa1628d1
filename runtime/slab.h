// Objects with stable addresses, named by an index from 1; freed ones are used again.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <vector>

namespace rille {

template <class T>
class Slab {
 public:
  T* at(uint32_t index) { return &chunks_[index >> kBits][index & (kChunk - 1)]; }

  // A default object with its `index` set. Throws std::bad_alloc.
  T* take() {
    if (free_.empty()) {
      if (size_ >= kMost) throw std::bad_alloc();
      if ((size_ & (kChunk - 1)) == 0) chunks_.push_back(std::make_unique<T[]>(kChunk));
      uint32_t index = size_++;
      if (index == 0) return take();  // 0 means none
      T* object = at(index);
      object->index = index;
      return object;
    }
    uint32_t index = free_.back();
    free_.pop_back();
    return at(index);
  }

  void give_back(T* object) { free_.push_back(object->index); }

  // Indices run from 1 to size() - 1; some may be free.
  uint32_t size() const { return size_; }
  bool contains(uint32_t index) const { return index > 0 && index < size_; }

 private:
  static constexpr uint32_t kMost = 1u << 22;  // what fits into a ticket
  static constexpr uint32_t kBits = 10;
  static constexpr uint32_t kChunk = 1u << kBits;
  std::vector<std::unique_ptr<T[]>> chunks_;
  std::vector<uint32_t> free_;
  uint32_t size_ = 0;
};

}  // namespace rille
