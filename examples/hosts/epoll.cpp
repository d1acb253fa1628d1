// A program that waits with epoll: the runtime is one more descriptor, and a time to wake up at.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <rille/rille.hpp>
#include <thread>

namespace {

constexpr const char* kScript = R"lua(
  local async = require "rille.async"
  local numbers = async.Queue()
  function on_event(n) numbers:put_nowait(n) end
  local sum = 0
  while sum < 6 do
    sum = sum + numbers:get()
    async.sleep(0.01)
  end
  return sum
)lua";

int milliseconds(double seconds) {
  return seconds < 0 ? -1 : static_cast<int>(std::ceil(seconds * 1e3));
}

}  // namespace

int main() {
  rille::Runtime runtime;
  int events = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int poller = epoll_create1(EPOLL_CLOEXEC);
  for (int fd : {runtime.backend_fd(), events}) {
    epoll_event interest{};
    interest.events = EPOLLIN;
    interest.data.fd = fd;
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &interest);
  }

  rille::Task sum = runtime.spawn_string(kScript, "=sum");
  runtime.poll();  // it has defined `on_event`, and waits

  // Somebody else makes the program's descriptor readable now and then.
  std::thread source([events] {
    for (std::uint64_t n : {1, 2, 3}) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      if (write(events, &n, sizeof n) != sizeof n) std::perror("write");
    }
  });

  while (!sum.done()) {
    epoll_event ready[8];
    int n = epoll_wait(poller, ready, 8, milliseconds(runtime.timeout()));
    for (int i = 0; i < n; ++i) {
      std::uint64_t number = 0;
      if (ready[i].data.fd == events && read(events, &number, sizeof number) > 0) {
        runtime.spawn(runtime.get("on_event"), number);
      }
    }
    runtime.poll(0.001);
  }
  source.join();
  close(poller);
  close(events);
  std::printf("the sum is %d\n", sum.result().at(0).as<int>());
}
