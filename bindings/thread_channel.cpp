#include "thread_channel.h"

#include <rille/builtin.hpp>
#include <rille/module.hpp>
#include <thread>
#include <unordered_map>
#include <utility>

namespace rille::worker {

// ---- sending and receiving ---------------------------------------------------------------------

int Channel::send(lua_State* L, std::unique_ptr<Message> message) {
  if (!message->channels.empty()) has_carried_ = true;
  std::unique_lock lock(mutex_);
  if (closed_) {
    lock.unlock();
    rille_push_error(L, "InvalidStateError", nullptr, "send: the channel is closed");
    return 1;
  }
  if (!receivers_.empty()) {
    Wait* receiver = receivers_.front();
    receivers_.pop_front();
    receiver->message = std::move(message);
    receiver->state = State::kGiven;
    lock.unlock();
    wake(receiver, rille_loop(L));
    return 0;
  }
  if (items_.size() >= capacity_) return wait(L, &senders_, std::move(message), std::move(lock));
  items_.push_back(std::move(message));
  return 0;
}

int Channel::receive(lua_State* L) {
  std::unique_lock lock(mutex_);
  Wait* sender = nullptr;
  std::unique_ptr<Message> message;
  if (!senders_.empty()) {
    sender = senders_.front();
    senders_.pop_front();
    sender->state = State::kGiven;
    items_.push_back(std::move(sender->message));
  }
  if (!items_.empty()) {
    message = std::move(items_.front());
    items_.pop_front();
  }
  bool closed = closed_;
  if (!message && !closed) return wait(L, &receivers_, nullptr, std::move(lock));
  lock.unlock();
  if (sender) wake(sender, rille_loop(L));
  if (message) return push_message(L, message.get());
  lua_pushnil(L);
  lua_pushboolean(L, 0);
  return 2;
}

void Channel::close(lua_State* L) {
  std::list<Wait*> waits;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    waits.swap(receivers_);
    waits.splice(waits.end(), senders_);
    for (Wait* w : waits) w->state = State::kClosed;
  }
  for (Wait* w : waits) wake(w, rille_loop(L));
}

std::size_t Channel::size() {
  std::lock_guard lock(mutex_);
  return items_.size();
}

bool Channel::is_closed() {
  std::lock_guard lock(mutex_);
  return closed_;
}

void Channel::share() {
  std::lock_guard lock(mutex_);
  if (std::exchange(shared_, true)) return;
  for (Wait* w : receivers_) count_wait(w->waiter, true);
  for (Wait* w : senders_) count_wait(w->waiter, true);
}

// ---- waiting -----------------------------------------------------------------------------------

int Channel::wait(lua_State* L, std::list<Wait*>* list, std::unique_ptr<Message> message,
                  std::unique_lock<std::mutex> lock) {
  bool shared = shared_;
  lock.unlock();
  auto owner = std::make_unique<Wait>();
  owner->channel = shared_from_this();
  owner->loop = rille_loop(L);
  owner->sends = list == &senders_;
  owner->message = std::move(message);
  Wait* w = owner.get();
  w->waiter = rille_prepare(L, give_up, w);
  static_cast<void>(owner.release());
  // Nobody but tasks of this runtime can wake it: then it does not keep the program going.
  if (!shared) count_wait(w->waiter, false);

  // What it waits for may have come while nobody was looking.
  lock.lock();
  Wait* partner = nullptr;
  if (closed_ && (w->sends || items_.empty())) {
    w->state = State::kClosed;
  } else if (w->sends && !receivers_.empty()) {
    partner = receivers_.front();
    receivers_.pop_front();
    partner->message = std::move(w->message);
  } else if (w->sends && items_.size() < capacity_) {
    items_.push_back(std::move(w->message));
    w->state = State::kGiven;
  } else if (!w->sends && !items_.empty()) {
    w->message = std::move(items_.front());
    items_.pop_front();
    w->state = State::kGiven;
    if (!senders_.empty()) {
      partner = senders_.front();
      senders_.pop_front();
      items_.push_back(std::move(partner->message));
    }
  } else if (!w->sends && !senders_.empty()) {
    partner = senders_.front();
    senders_.pop_front();
    w->message = std::move(partner->message);
  }
  if (partner) {
    partner->state = State::kGiven;
    w->state = State::kGiven;
  }
  rille_waiter* waiter = w->waiter;
  bool waits = w->state == State::kWaiting;
  if (waits) list->push_back(w);
  lock.unlock();
  if (partner) wake(partner, rille_loop(L));
  if (!waits) rille_complete(waiter, w->sends ? push_sent : push_received, w);
  return rille_park(L, waiter);
}

// Ends a wait whose state is settled, of a task on the thread of `loop` or of another one.
void Channel::wake(Wait* wait, const uv_loop_t* loop) {
  auto push = wait->sends ? push_sent : push_received;
  if (wait->loop == loop) {
    rille_complete(wait->waiter, push, wait);
  } else {
    rille_complete_from_thread(wait->waiter, push, wait);
  }
}

void Channel::give_up(rille_waiter* waiter, void* data) {
  auto* w = static_cast<Wait*>(data);
  {
    std::lock_guard lock(w->channel->mutex_);
    if (w->state != State::kWaiting) return;  // whoever settled it completes it
    (w->sends ? w->channel->senders_ : w->channel->receivers_).remove(w);
    w->state = State::kClosed;
  }
  rille_complete(waiter, w->sends ? push_sent : push_received, w);
}

void Channel::give_back(std::unique_ptr<Message> message) {
  if (!message->channels.empty()) has_carried_ = true;
  Wait* receiver = nullptr;
  {
    std::lock_guard lock(mutex_);
    if (receivers_.empty()) {
      items_.push_front(std::move(message));
    } else {
      receiver = receivers_.front();
      receivers_.pop_front();
      receiver->message = std::move(message);
      receiver->state = State::kGiven;
    }
  }
  if (receiver) wake(receiver, nullptr);
}

int Channel::push_sent(lua_State* L, void* data) {
  std::unique_ptr<Wait> w(static_cast<Wait*>(data));
  if (!L || w->state == State::kGiven) return 0;
  rille_push_error(L, "InvalidStateError", nullptr, "send: the channel was closed");
  return 1;
}

int Channel::push_received(lua_State* L, void* data) {
  std::unique_ptr<Wait> w(static_cast<Wait*>(data));
  if (!L) {
    if (w->state == State::kGiven) w->channel->give_back(std::move(w->message));
    return 0;
  }
  if (w->state == State::kGiven) return push_message(L, w->message.get());
  lua_pushnil(L);
  lua_pushboolean(L, 0);
  return 2;
}

// ---- the end -----------------------------------------------------------------------------------

// Values that are dropped may hold channels whose values hold channels: they end one after another,
// and not one in another.
Channel::~Channel() {
  thread_local std::vector<std::unique_ptr<Message>> dropped;
  thread_local bool is_dropping = false;
  for (auto& message : items_) {
    if (!message->channels.empty()) dropped.push_back(std::move(message));
  }
  if (std::exchange(is_dropping, true)) return;
  while (!dropped.empty()) {
    std::unique_ptr<Message> message = std::move(dropped.back());
    dropped.pop_back();
  }
  is_dropping = false;
}

// All that can be reached from a channel by taking values out, and who else holds that. Channels
// stay locked meanwhile, so that none is taken out; everywhere else only one is locked at a time.
class Channel::Search {
 public:
  explicit Search(std::shared_ptr<Channel> from) { add(std::move(from)); }

  // The values of those channels that only lie in each other. Where there are too many to look at
  // each time, they stay.
  std::vector<std::deque<std::unique_ptr<Message>>> take_unreachable() {
    for (std::size_t i = 0; i < found_.size(); ++i) {
      if (found_.size() > kMost) return {};
      each_held(i, [this](const std::shared_ptr<Channel>& c) { ++places_[add(c)].inside; });
    }
    std::vector<std::size_t> alive;
    for (std::size_t i = 0; i < found_.size(); ++i) {
      bool is_held = found_[i].use_count() > places_[i].inside + 1;  // once by this
      if (is_held) mark(i, &alive);
    }
    while (!alive.empty()) {
      std::size_t i = alive.back();
      alive.pop_back();
      each_held(i, [&](const std::shared_ptr<Channel>& c) { mark(add(c), &alive); });
    }
    std::vector<std::deque<std::unique_ptr<Message>>> taken;
    for (std::size_t i = 0; i < found_.size(); ++i) {
      if (!places_[i].is_alive) taken.push_back(std::exchange(found_[i]->items_, {}));
    }
    return taken;
  }

 private:
  static constexpr std::size_t kMost = 60;

  struct Place {
    long inside = 0;  // how often it lies in one of these channels
    bool is_alive = false;
  };

  std::size_t add(std::shared_ptr<Channel> channel) {
    auto [entry, is_new] = numbers_.try_emplace(channel.get(), found_.size());
    if (is_new) {
      found_.push_back(std::move(channel));
      places_.emplace_back();
      locks_.push_back(lock(found_.back()->mutex_));
    }
    return entry->second;
  }

  // They are locked in any order: who else has one has it for moments, and no other meanwhile.
  static std::unique_lock<std::mutex> lock(std::mutex& mutex) {
    std::unique_lock locked(mutex, std::try_to_lock);
    while (!locked.owns_lock() && !locked.try_lock()) std::this_thread::yield();
    return locked;
  }

  template <class Function>
  void each_held(std::size_t i, Function function) {
    Channel* channel = found_[i].get();
    for (const auto& message : channel->items_) {
      for (const auto& held : message->channels) function(held);
    }
  }

  void mark(std::size_t i, std::vector<std::size_t>* alive) {
    if (!std::exchange(places_[i].is_alive, true)) alive->push_back(i);
  }

  std::unordered_map<Channel*, std::size_t> numbers_;
  std::vector<std::shared_ptr<Channel>> found_;
  std::vector<Place> places_;
  std::vector<std::unique_lock<std::mutex>> locks_;  // of those found, which outlive them
};

void Channel::let_go(std::shared_ptr<Channel> channel) {
  if (!channel || !channel->has_carried_) return;
  std::vector<std::deque<std::unique_ptr<Message>>> unreachable;  // freed when nothing is locked
  static std::mutex one_at_a_time;
  std::lock_guard lock(one_at_a_time);
  unreachable = Search(std::move(channel)).take_unreachable();
}

// ---- what Lua holds ----------------------------------------------------------------------------

// A channel is one object in a Lua state, however often it comes.
void push_channel(lua_State* L, std::shared_ptr<Channel> channel) {
  static const char kKey = 0;
  void* key = const_cast<char*>(&kKey);
  lua_pushlightuserdata(L, key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushlightuserdata(L, key);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
  }
  lua_pushlightuserdata(L, channel.get());
  lua_rawget(L, -2);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_pushlightuserdata(L, channel.get());
    Class<ChannelHandle>::push(L, std::move(channel));
    lua_pushvalue(L, -1);
    lua_insert(L, -3);
    lua_rawset(L, -4);
  }
  lua_remove(L, -2);
}

std::shared_ptr<Channel> share_channel(lua_State* L, int index) {
  std::shared_ptr<Channel> channel = Class<ChannelHandle>::check(L, index)->channel;
  channel->share();
  return channel;
}

int push_message(lua_State* L, Message* message) {
  lua_pushnil(L);
  if (message->needs_modules) {
    Class<Packet>::push(L, std::move(*message));
    return 2;
  }
  lua_pushboolean(L, 1);
  return 2 + decode(L, *message);
}

}  // namespace rille::worker
