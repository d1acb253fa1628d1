// Channels between tasks, of one runtime or of several: values in order, first come, first served.
#pragma once

#include <rille/module.h>

#include <atomic>
#include <deque>
#include <limits>
#include <list>
#include <memory>
#include <mutex>
#include <utility>

#include "worker_codec.h"

namespace rille::worker {

// Shared by all that hold it and by the messages it travels in; every function may be called on
// any thread.
class Channel : public std::enable_shared_from_this<Channel> {
 public:
  static constexpr std::size_t kUnbounded = std::numeric_limits<std::size_t>::max();

  explicit Channel(std::size_t capacity) : capacity_(capacity) {}
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel();

  // Waiting functions of Lua, see worker_lib.cpp. `receive` gives true and the value, a packet
  // whose modules are to be loaded first, or false once the channel is closed and empty.
  int send(lua_State* L, std::unique_ptr<Message> message);
  int receive(lua_State* L);
  void close(lua_State* L);

  // What was received by somebody who has no use for it any more goes to the next one.
  void give_back(std::unique_ptr<Message> message);

  std::size_t size();
  bool is_closed();

  // What a Lua state held of it goes. Channels may lie in each other, and in themselves: those that
  // nobody can reach any more are emptied.
  static void let_go(std::shared_ptr<Channel> channel);

  // From now on others hold it too, so that who waits in it may hope for them. REQUIRES: the thread
  // of the runtime that has made it, the first time.
  void share();

 private:
  enum class State { kWaiting, kGiven, kClosed };
  class Search;

  // A task that waits. In one of the lists it belongs to that; then to its waiter.
  struct Wait {
    std::shared_ptr<Channel> channel;
    rille_waiter* waiter = nullptr;
    const uv_loop_t* loop = nullptr;
    State state = State::kWaiting;
    bool sends = false;
    std::unique_ptr<Message> message;  // what is sent, or was received
  };

  int wait(lua_State* L, std::list<Wait*>* list, std::unique_ptr<Message> message,
           std::unique_lock<std::mutex> lock);
  static void wake(Wait* wait, const uv_loop_t* loop);
  static void give_up(rille_waiter* waiter, void* data);
  static int push_sent(lua_State* L, void* data);
  static int push_received(lua_State* L, void* data);

  const std::size_t capacity_;
  std::mutex mutex_;
  std::deque<std::unique_ptr<Message>> items_;
  std::list<Wait*> senders_, receivers_;
  bool closed_ = false;
  bool shared_ = false;
  std::atomic<bool> has_carried_{false};  // there were channels among its values
};

// What Lua holds.
struct ChannelHandle {
  static constexpr char kName[] = "rille.Channel";
  explicit ChannelHandle(std::shared_ptr<Channel> c) : channel(std::move(c)) {}
  ChannelHandle(const ChannelHandle&) = delete;
  ChannelHandle& operator=(const ChannelHandle&) = delete;
  ~ChannelHandle() { Channel::let_go(std::move(channel)); }
  std::shared_ptr<Channel> channel;
};

void push_channel(lua_State* L, std::shared_ptr<Channel> channel);

// The channel at that index, to go to another runtime.
std::shared_ptr<Channel> share_channel(lua_State* L, int index);

// A message whose modules have to be loaded before it can be decoded.
struct Packet {
  static constexpr char kName[] = "rille.worker.Packet";
  explicit Packet(Message m) : message(std::move(m)) {}
  Message message;
};

// Pushes nil, then true and the values of the message, or a packet.
int push_message(lua_State* L, Message* message);

}  // namespace rille::worker
