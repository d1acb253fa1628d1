// A program that has a libuv loop already: the runtime's timers and sockets join it, and its tasks
// run in the loop's turns. The program runs the loop, as it did before.
#include <uv.h>

#include <cstdio>
#include <rille/rille.hpp>

namespace {

// The program's own business on the loop: a tick every ten milliseconds.
struct Ticker {
  uv_timer_t timer;
  int ticks = 0;

  explicit Ticker(uv_loop_t* loop) {
    uv_timer_init(loop, &timer);
    timer.data = this;
    uv_timer_start(
        &timer, [](uv_timer_t* t) { ++static_cast<Ticker*>(t->data)->ticks; }, 10, 10);
  }
  void stop() { uv_close(reinterpret_cast<uv_handle_t*>(&timer), nullptr); }
};

constexpr const char* kScript = R"lua(
  local async, net = require "rille.async", require "rille.net"
  local listener = net.listen { host = "127.0.0.1", port = 0 }
  async.spawn(function()
    local stream = listener:accept()
    for line in stream:lines() do stream:write(line:upper(), "\n") end
    stream:close()
  end)
  local stream = net.connect { host = "127.0.0.1", port = listener:address().port }
  stream:write("hello\n")
  while ticks() < 3 do async.sleep(0.01) end  -- the program goes on meanwhile
  local answer = stream:read_until("\n")
  stream:close()
  listener:close()
  return answer, ticks()
)lua";

}  // namespace

int main() {
  uv_loop_t loop;
  uv_loop_init(&loop);
  Ticker ticker(&loop);
  {
    rille::Options options;
    options.loop = &loop;
    rille::Runtime runtime(options);
    runtime.define("ticks", [&] { return ticker.ticks; });

    rille::Task echo = runtime.spawn_string(kScript, "=echo");
    echo.on_done([&](rille::Task& task) {
      std::vector<rille::Value> results = task.result();
      std::printf("%s", results.at(0).as<std::string>().c_str());
      std::printf(results.at(1).as<int>() > 1 ? "the program went on ticking\n" : "no ticks\n");
      ticker.stop();  // nothing holds the loop any more
    });
    uv_run(&loop, UV_RUN_DEFAULT);
  }  // the runtime's handles are closed here
  std::printf("%s\n", uv_loop_close(&loop) == 0 ? "the loop is empty" : "handles are left");
}
