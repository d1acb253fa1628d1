// The heap of deadlines, alone.
#include "timers.h"

#include <catch2/catch.hpp>
#include <random>

using rille::TimerEntry;
using rille::TimerHeap;

TEST_CASE("timers come out by deadline, equal ones in the order they were set") {
  TimerHeap heap;
  std::mt19937 random(1);
  for (uint32_t i = 1; i <= 5000; ++i) heap.push({static_cast<double>(random() % 100), i, i});
  double when = -1;
  uint32_t number = 0;
  for (int i = 0; i < 5000; ++i) {
    TimerEntry e = heap.top();
    heap.pop();
    REQUIRE(e.when >= when);
    if (e.when == when) REQUIRE(e.number > number);
    when = e.when;
    number = e.number;
  }
  CHECK(heap.empty());
}

TEST_CASE("the order of equal deadlines survives the numbers' wrapping around") {
  TimerHeap heap;
  heap.push({1, 2, 0});
  heap.push({1, 0xfffffffeu, 0});
  CHECK(heap.top().number == 0xfffffffeu);
}

TEST_CASE("a sweep drops what is stale and keeps the order of the rest") {
  TimerHeap heap;
  for (uint32_t i = 1; i <= 1000; ++i) heap.push({static_cast<double>((i * 7919) % 1000), i, i});
  heap.sweep([](const TimerEntry& e) { return e.number % 3 != 0; });
  CHECK(heap.size() == 333);
  double when = -1;
  while (!heap.empty()) {
    REQUIRE(heap.top().when >= when);
    when = heap.top().when;
    heap.pop();
  }
}
