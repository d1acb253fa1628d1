// What is to run next, in order.
#pragma once

#include <cstdint>
#include <memory>

namespace rille {

struct Slot;

class ReadyQueue {
 public:
  // A task that can go on, or a batch of `number` tasks that have not started.
  class Item {
   public:
    explicit Item(Slot* k) : bits_(reinterpret_cast<uintptr_t>(k)) {}
    static Item batch(uint32_t number) { return Item((uintptr_t{number} << 1) | 1); }
    Item() = default;
    bool is_batch() const { return bits_ & 1; }
    uint32_t number() const { return static_cast<uint32_t>(bits_ >> 1); }
    Slot* slot() const { return reinterpret_cast<Slot*>(bits_); }

   private:
    explicit Item(uintptr_t bits) : bits_(bits) {}
    uintptr_t bits_ = 0;
  };

  bool empty() const { return count_ == 0; }
  Item& back() { return items_[(head_ + count_ - 1) & mask_]; }
  Item pop() {
    Item v = items_[head_];
    head_ = (head_ + 1) & mask_;
    --count_;
    return v;
  }
  // The slot that comes so many places behind the next one; null if there is none.
  Slot* ahead(uint32_t places) const {
    if (places >= count_) return nullptr;
    Item item = items_[(head_ + places) & mask_];
    return item.is_batch() ? nullptr : item.slot();
  }
  void push(Item v) {
    if (count_ > mask_) grow();
    items_[(head_ + count_++) & mask_] = v;
  }
  void remove(const Slot* k);

 private:
  void grow();

  std::unique_ptr<Item[]> items_ = std::make_unique<Item[]>(64);
  uint32_t mask_ = 63, head_ = 0, count_ = 0;
};

}  // namespace rille
