#include "thread_channel.h"

#include <rille/builtin.hpp>
#include <rille/module.hpp>
#include <utility>
#include <vector>

namespace rille::worker {

// ---- sending and receiving ---------------------------------------------------------------------

int Channel::send(lua_State* L, std::unique_ptr<Message> message) {
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
