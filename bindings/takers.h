// Tasks that wait for things which come one by one: connections, datagrams.
#pragma once

#include <deque>
#include <memory>
#include <rille/module.hpp>
#include <utility>
#include <vector>

namespace rille {

// First come, first served. What a task was given and did not come for, having been cancelled, is
// the next one's.
//
// Owner has `int push_item(lua_State*, Item*)`, which pushes nil and what an item is in Lua, or the
// error in its place, and `void item_returned()`, called when there is one again.
template <class Owner, class Item>
class Takers {
 public:
  explicit Takers(Owner* owner) : owner_(owner) {}
  Takers(const Takers&) = delete;
  Takers& operator=(const Takers&) = delete;
  ~Takers() {
    for (Taker* t : woken_) t->all = nullptr;
  }

  bool is_empty() const { return waiting_.empty(); }

  // Puts the calling task to sleep until it is given something.
  int wait(lua_State* L) {
    auto taker = std::make_unique<Taker>(this);
    taker->waiter = rille_prepare(L, Taker::give_up, taker.get());
    rille_waiter* waiter = taker->waiter;
    waiting_.push_back(taker.release());
    return rille_park(L, waiter);
  }

  // To the first. REQUIRES: not empty.
  void give(Item item) {
    Taker* first = waiting_.front();
    waiting_.pop_front();
    woken_.push_back(first);
    first->item = std::move(item);
    rille_complete(std::exchange(first->waiter, nullptr), Taker::push, first);
  }

  bool take_returned(Item* item) {
    if (returned_.empty()) return false;
    *item = std::move(returned_.front());
    returned_.pop_front();
    return true;
  }

  // Nothing is given back any more.
  void close() {
    is_open_ = false;
    returned_.clear();
  }

 private:
  struct Taker {
    explicit Taker(Takers* t) : all(t) {}

    Takers* all;                     // null once that is gone
    rille_waiter* waiter = nullptr;  // null once it has been woken
    Item item{};
    bool is_given_up = false;

    static int push(lua_State* L, void* data) {
      std::unique_ptr<Taker> self(static_cast<Taker*>(data));
      Takers* all = self->all;
      if (!all) return 0;
      if (!self->is_given_up) std::erase(all->woken_, self.get());
      if (L) return all->owner_->push_item(L, &self->item);
      if (self->is_given_up || !all->is_open_) return 0;
      all->returned_.push_front(std::move(self->item));
      all->owner_->item_returned();
      return 0;
    }

    static void give_up(rille_waiter* w, void* data) {
      auto* self = static_cast<Taker*>(data);
      std::erase(self->all->waiting_, self);
      self->is_given_up = true;
      rille_complete(w, push, self);
    }
  };

  Owner* owner_;
  std::deque<Taker*> waiting_;
  std::vector<Taker*> woken_;  // have not come for their item
  std::deque<Item> returned_;
  bool is_open_ = true;
};

}  // namespace rille
