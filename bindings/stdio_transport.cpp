#include "stdio_transport.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <deque>

#include "stdio_file.h"

namespace rille {

namespace {

Failure failure_of(int status) {
  Failure f;
  f.status = status;
  return f;
}

// How bytes are moved without waiting.
enum class Way {
  kPlain,   // the open file is ours alone, and does not block
  kSocket,  // each call says that it must not wait
  kCareful  // it blocks: only when it is ready, and little at a time
};

// Watches a descriptor without a change to its flags, which libuv would make: an epoll set of its
// own, which the loop watches.
class Poller {
 public:
  Poller(uv_loop_t* loop, int fd, bool is_shared, uv_poll_cb ready, void* object) : fd_(fd) {
    if (is_shared) {
      set_ = Descriptor(epoll_create1(EPOLL_CLOEXEC));
      epoll_event none{};
      if (!set_.is_open() || epoll_ctl(set_.get(), EPOLL_CTL_ADD, fd, &none) != 0) status_ = -errno;
    }
    if (status_ != 0) return;
    poll_.reset(new uv_poll_t);
    int rc = uv_poll_init(loop, poll_.get(), is_shared ? set_.get() : fd);
    if (rc < 0) {
      // Without having been initialized it cannot be closed.
      delete poll_.release();
      status_ = rc;
      return;
    }
    poll_->data = object;
    ready_ = ready;
    // It is the tasks that wait for it that keep the program going.
    uv_unref(reinterpret_cast<uv_handle_t*>(poll_.get()));
  }

  int status() const { return status_; }
  bool wants(int event) const { return (events_ & event) != 0; }

  void want(int event, bool on) {
    int events = on ? events_ | event : events_ & ~event;
    if (events == events_ || !poll_) return;
    events_ = events;
    start();
  }

  // libuv stops at an error of the descriptor itself.
  void start() {
    if (set_.is_open()) {
      epoll_event wanted{};
      if (wants(UV_READABLE)) wanted.events |= EPOLLIN;
      if (wants(UV_WRITABLE)) wanted.events |= EPOLLOUT;
      epoll_ctl(set_.get(), EPOLL_CTL_MOD, fd_, &wanted);
    }
    if (events_ == 0) {
      uv_poll_stop(poll_.get());
    } else {
      uv_poll_start(poll_.get(), set_.is_open() ? UV_READABLE : events_, ready_);
    }
  }

  void close() {
    poll_.reset();
    set_.close();
    events_ = 0;
  }

 private:
  int fd_;
  int events_ = 0;
  int status_ = 0;
  Descriptor set_;
  uv_poll_cb ready_ = nullptr;
  Handle<uv_poll_t> poll_;
};

class PollTransport final : public DescriptorTransport {
 public:
  // `own` is what `fd` was opened as anew, or is `fd` itself, or is not open: then `fd` is shared.
  PollTransport(uv_loop_t* loop, int fd, Descriptor own, Way way, Direction direction, char* space,
                bool is_standard)
      : fd_(own.is_open() ? own.get() : fd),
        original_(fd),
        is_standard_(is_standard),
        own_(std::move(own)),
        way_(way),
        direction_(direction),
        space_(space),
        poller_(loop, fd_, !own_.is_open(), on_ready, this) {}

  ~PollTransport() override {
    if (gone_) *gone_ = true;
    poller_.close();
    fail_writers(UV_ECANCELED);
  }

  int status() const { return poller_.status(); }
  int descriptor() const override { return fd_ < 0 ? -1 : original_; }

  void read(Sink* sink) override {
    if (direction_ == Direction::kIn) {
      sink_ = sink;
      poller_.want(UV_READABLE, true);
    } else if (!shut_down_) {
      sink->ended(failure_of(UV_EBADF));
    } else if (queue_.empty()) {
      sink->ended(failure_of(UV_EOF));
    } else {
      sink_ = sink;  // hears of the end when the rest has been written
    }
  }

  void pause() override {
    sink_ = nullptr;
    poller_.want(UV_READABLE, false);
  }

  ssize_t try_write(const uv_buf_t* buffers, unsigned count) override {
    if (direction_ == Direction::kIn || fd_ < 0) return UV_EBADF;
    if (!queue_.empty()) return 0;
    if (is_standard_) put_out_printed(original_);
    if (way_ == Way::kCareful && !is_ready(POLLOUT)) return 0;
    ssize_t n = send(buffers, count);
    return n == -EAGAIN ? 0 : n;
  }

  void write(std::string data, Writer* writer) override {
    if (direction_ == Direction::kIn || fd_ < 0) {
      if (writer) writer->written(failure_of(UV_EBADF));
      return;
    }
    pending_ += data.size();
    queue_.push_back({std::move(data), 0, writer});
    poller_.want(UV_WRITABLE, true);
  }

  void shutdown(Writer* writer) override {
    if (shut_down_ || (direction_ == Direction::kIn && !is_standard_)) {
      if (writer) writer->written(failure_of(shut_down_ ? 0 : UV_EBADF));
      return;
    }
    shut_down_ = true;
    if (queue_.empty()) {
      end();
      if (writer) writer->written({});
    } else {
      queue_.push_back({"", 0, writer});
    }
  }

  std::size_t pending() const override { return pending_; }

  bool needs_shutdown() const override { return is_standard_; }

  bool receive_now() override { return sink_ && fd_ >= 0 && may(POLLIN) && receive(); }

  void drain() override {
    while (!queue_.empty()) {
      is_ready(POLLOUT, -1);
      flush(false);
    }
  }

 private:
  struct Output {
    std::string data;
    std::size_t written;
    Writer* writer;
  };

  static void on_ready(uv_poll_t* poll, int status, int) {
    auto* self = static_cast<PollTransport*>(poll->data);
    bool gone = false;
    self->gone_ = &gone;
    // An error of the descriptor itself: the attempt tells which.
    if (self->poller_.wants(UV_READABLE) && self->may(POLLIN)) self->receive();
    if (!gone && self->poller_.wants(UV_WRITABLE) && self->may(POLLOUT)) self->flush(true);
    if (gone) return;
    self->gone_ = nullptr;
    if (status < 0) self->poller_.start();
  }

  // What must not be tried in vain is looked at first.
  bool may(short event) { return way_ != Way::kCareful || is_ready(event); }

  bool is_ready(short event, int timeout_ms = 0) {
    pollfd p{fd_, event, 0};
    return poll(&p, 1, timeout_ms) > 0;
  }

  // False if there was nothing.
  bool receive() {
    ssize_t n;
    do {
      n = way_ == Way::kSocket ? recv(fd_, space_, kReadSize, MSG_DONTWAIT)
                               : ::read(fd_, space_, kReadSize);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) return false;
    if (n > 0) {
      sink_->received(space_, static_cast<std::size_t>(n));
      return true;
    }
    int status = n == 0 ? UV_EOF : -errno;
    poller_.want(UV_READABLE, false);
    sink_->ended(failure_of(status));
    return true;
  }

  ssize_t send(const uv_buf_t* buffers, unsigned count) {
    constexpr std::size_t kLittle = 512;
    ssize_t n;
    do {
      if (way_ == Way::kCareful) {
        n = ::write(fd_, buffers->base, std::min(buffers->len, kLittle));
      } else if (way_ == Way::kSocket) {
        msghdr message{};
        message.msg_iov = reinterpret_cast<iovec*>(const_cast<uv_buf_t*>(buffers));
        message.msg_iovlen = count;
        n = sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
      } else {
        n = writev(fd_, reinterpret_cast<const iovec*>(buffers), static_cast<int>(count));
      }
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
  }

  // Writes what can be written. Writers may destroy the transport.
  void flush(bool once) {
    bool* gone = gone_;
    while (!queue_.empty()) {
      Output& first = queue_.front();
      std::size_t left = first.data.size() - first.written;
      ssize_t n = 0;
      if (left > 0) {
        uv_buf_t buffer;
        buffer.base = first.data.data() + first.written;
        buffer.len = left;
        n = send(&buffer, 1);
      }
      if (n == -EAGAIN) return;
      if (n < 0) return fail_writers(static_cast<int>(n));
      first.written += static_cast<std::size_t>(n);
      pending_ -= static_cast<std::size_t>(n);
      if (static_cast<std::size_t>(n) < left) {
        if (once || way_ == Way::kCareful) return;
        continue;
      }
      Writer* writer = first.writer;
      queue_.pop_front();
      bool is_last = queue_.empty();
      if (is_last) {
        poller_.want(UV_WRITABLE, false);
        if (shut_down_) end();
      }
      if (writer) writer->written({});
      if (gone && *gone) return;
      if (is_last && shut_down_ && sink_) sink_->ended(failure_of(UV_EOF));
      if (is_last || (gone && *gone)) return;
    }
  }

  // The peer sees the end.
  void end() {
    poller_.close();
    if (way_ == Way::kSocket && direction_ == Direction::kOut) ::shutdown(fd_, SHUT_WR);
    own_.close();
    if (is_standard_) put_null(original_);
    fd_ = -1;
  }

  void fail_writers(int status) {
    poller_.want(UV_WRITABLE, false);
    std::deque<Output> all = std::exchange(queue_, {});
    pending_ = 0;
    Sink* sink = shut_down_ && status != UV_ECANCELED ? sink_ : nullptr;
    for (Output& output : all) {
      if (output.writer) output.writer->written(failure_of(status));
    }
    if (sink) sink->ended(failure_of(status));
  }

  int fd_;
  int original_;
  bool is_standard_;
  Descriptor own_;
  Way way_;
  Direction direction_;
  char* space_;
  Poller poller_;
  Sink* sink_ = nullptr;
  std::deque<Output> queue_;
  std::size_t pending_ = 0;
  bool shut_down_ = false;
  bool* gone_ = nullptr;  // in a callback: set when the transport is destroyed
};

}  // namespace

void put_out_printed(int fd) {
  if (fd == STDOUT_FILENO) std::fflush(stdout);
}

void put_null(int fd) {
  Descriptor null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (null.is_open()) dup2(null.get(), fd);
}

std::unique_ptr<DescriptorTransport> make_pipe_transport(uv_loop_t* loop, Descriptor fd,
                                                         Direction direction, char* space) {
  int number = fd.get();
  return std::make_unique<PollTransport>(loop, number, std::move(fd), Way::kPlain, direction, space,
                                         false);
}

std::unique_ptr<DescriptorTransport> make_standard_transport(lua_State* L, int fd,
                                                             Direction direction) {
  struct stat st {};
  bool is_there = fstat(fd, &st) == 0;
  if (is_there && !S_ISREG(st.st_mode)) {
    Descriptor own;
    Way way = Way::kSocket;
    if (!S_ISSOCK(st.st_mode)) {
      own = reopen(fd, O_NONBLOCK | (fcntl(fd, F_GETFL) & O_APPEND));
      way = own.is_open() ? Way::kPlain : Way::kCareful;
    }
    auto transport = std::make_unique<PollTransport>(rille_loop(L), fd, std::move(own), way,
                                                     direction, read_space(L), true);
    if (transport->status() == 0) return transport;
  }
  // What cannot be watched never lets anybody wait for long: a file, /dev/null.
  return make_file_transport(L, fd, direction);
}

}  // namespace rille
