// One heap of deadlines for every sleep, timeout and delayed callback. Removal is lazy: the owner
// forgets its timer's number, and an entry whose number nobody knows is skipped. Stale entries are
// swept out once they outnumber the live ones, so that cancelled timeouts cost no memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace rille {

struct TimerEntry {
  double when;      // seconds on the clock of now()
  uint32_t number;  // names this timer; its owner holds the same number while it is armed
  uint32_t target;  // the owner: an index with a tag
};

class TimerHeap {
 public:
  static constexpr std::size_t kArity = 4;  // four entries fill a cache line; [1] to [4] follow [0]

  bool empty() const { return entries_.empty(); }
  std::size_t size() const { return entries_.size(); }
  const TimerEntry& at(std::size_t i) const { return entries_[i]; }
  const TimerEntry& top() const { return entries_.front(); }

  void push(TimerEntry entry) {
    entries_.push_back(entry);
    sift_up(entries_.size() - 1);
  }

  void pop() {
    entries_.front() = entries_.back();
    entries_.pop_back();
    if (!entries_.empty()) sift_down(0);
  }

  // Drops every entry for which `stale` is true.
  template <class Stale>
  void sweep(Stale stale) {
    entries_.erase(std::remove_if(entries_.begin(), entries_.end(), stale), entries_.end());
    if (entries_.size() > 1) {
      for (std::size_t i = (entries_.size() - 2) / kArity + 1; i-- > 0;) sift_down(i);
    }
    if (entries_.capacity() > 4096 && entries_.size() < entries_.capacity() / 4) {
      entries_.shrink_to_fit();
    }
  }

 private:
  // Equal deadlines fire in the order in which they were set; the numbers wrap around.
  static bool before(const TimerEntry& a, const TimerEntry& b) {
    if (a.when != b.when) return a.when < b.when;
    return static_cast<int32_t>(a.number - b.number) < 0;
  }

  void sift_up(std::size_t i) {
    TimerEntry entry = entries_[i];
    while (i > 0) {
      std::size_t parent = (i - 1) / kArity;
      if (!before(entry, entries_[parent])) break;
      entries_[i] = entries_[parent];
      i = parent;
    }
    entries_[i] = entry;
  }

  void sift_down(std::size_t i) {
    TimerEntry entry = entries_[i];
    const std::size_t n = entries_.size();
    for (;;) {
      std::size_t first = i * kArity + 1;
      if (first >= n) break;
      std::size_t least = first;
      for (std::size_t c = first + 1, end = std::min(first + kArity, n); c < end; ++c) {
        if (before(entries_[c], entries_[least])) least = c;
      }
      if (!before(entries_[least], entry)) break;
      entries_[i] = entries_[least];
      i = least;
    }
    entries_[i] = entry;
  }

  std::vector<TimerEntry> entries_;
};

}  // namespace rille
