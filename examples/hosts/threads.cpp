// Eight runtimes on eight threads, with nothing between them but the values that they are sent: a
// number goes round the ring, and each adds one.
#include <atomic>
#include <cstdio>
#include <memory>
#include <rille/rille.hpp>
#include <thread>
#include <vector>

namespace {

constexpr int kThreads = 8;
constexpr int kRounds = 100;

constexpr const char* kScript = R"lua(
  local async = require "rille.async"
  local inbox = async.Queue()
  function receive(message) inbox:put_nowait(message) end
  ready()
  while true do
    local message = inbox:get()
    if message.stop then
      send(message)
      return handled
    end
    handled = (handled or 0) + 1
    message.count = message.count + 1
    message.stop = message.count >= limit
    send(message)
  end
)lua";

struct Member {
  rille::Runtime runtime;
  std::atomic<bool> is_open{true};

  // From any thread.
  void receive(rille::Value message) {
    runtime.post(
        [this, message = std::move(message)] { runtime.spawn(runtime.get("receive"), message); });
  }
};

}  // namespace

int main() {
  std::vector<std::unique_ptr<Member>> ring(kThreads);
  for (auto& member : ring) member = std::make_unique<Member>();
  std::atomic<int> ready{0}, handled{0}, running{kThreads};

  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      Member& self = *ring[i];
      Member& next = *ring[(i + 1) % kThreads];
      self.runtime.set("limit", kRounds * kThreads);
      self.runtime.define("ready", [&] {
        if (++ready < kThreads) return;
        rille::Value first = rille::Value::table();  // the last one starts the ring
        first["count"] = 0;
        next.receive(first);
      });
      self.runtime.define("send", [&](rille::Value message) { next.receive(message); });
      rille::Task task = self.runtime.spawn_string(kScript, "=member");
      while (!task.done()) {
        self.runtime.poll(0.001);
        if (!task.done()) std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
      handled += task.result().at(0).as<int>();
      for (--running; running > 0;) std::this_thread::yield();  // others may still post here
      self.runtime.close();
    });
  }
  for (auto& thread : threads) thread.join();
  std::printf("%d messages handled\n", handled.load());
}
