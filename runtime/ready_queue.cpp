#include "ready_queue.h"

#include <utility>

namespace rille {

void ReadyQueue::grow() {
  auto bigger = std::make_unique<Item[]>((mask_ + 1) * 2);
  for (uint32_t i = 0; i < count_; ++i) bigger[i] = items_[(head_ + i) & mask_];
  items_ = std::move(bigger);
  mask_ = mask_ * 2 + 1;
  head_ = 0;
}

void ReadyQueue::remove(const Slot* k) {
  for (uint32_t n = count_; n > 0; --n) {
    Item item = pop();
    if (item.is_batch() || item.slot() != k) push(item);
  }
}

}  // namespace rille
