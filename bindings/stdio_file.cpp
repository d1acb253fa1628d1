#include "stdio_file.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <rille/builtin.hpp>

namespace rille {

namespace {

Failure failure_of(int status) {
  Failure f;
  f.status = status;
  return f;
}

class FileTransport;

// One read or write, on a thread of the pool. Belongs to itself.
class FileJob final : public PoolJob {
 public:
  FileJob(FileTransport* owner, int fd) : owner_(owner), fd_(fd) {}

  void read() { data_.resize(kReadSize); }
  void write(std::string data) {
    data_ = std::move(data);
    writes_ = true;
  }

  // Here and now: what the pool has not begun is done by the caller.
  void finish() {
    if (withdraw()) {
      operate();
      return;
    }
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return is_done_; });
  }

  // The owner has the result, or is gone.
  void leave() { owner_ = nullptr; }

  const std::string& data() const { return data_; }
  int status() const { return status_; }

 private:
  void on_pool() override {
    operate();
    std::lock_guard lock(mutex_);
    is_done_ = true;
    done_.notify_all();
  }

  void operate() {
    std::size_t size = 0;
    while (true) {
      ssize_t n = writes_ ? ::write(fd_, data_.data() + size, data_.size() - size)
                          : ::read(fd_, data_.data(), data_.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) {
        pollfd p{fd_, static_cast<short>(writes_ ? POLLOUT : POLLIN), 0};
        poll(&p, 1, -1);
        continue;
      }
      if (n < 0) status_ = -errno;
      if (n > 0) size += static_cast<std::size_t>(n);
      if (n <= 0 || !writes_ || size == data_.size()) break;
    }
    if (!writes_) data_.resize(size);
    if (!writes_ && size == 0 && status_ == 0) status_ = UV_EOF;
  }

  void after_pool(int status) override;

  FileTransport* owner_;
  int fd_;
  bool writes_ = false;
  std::string data_;
  int status_ = 0;
  std::mutex mutex_;
  std::condition_variable done_;
  bool is_done_ = false;
};

class FileTransport final : public DescriptorTransport {
 public:
  FileTransport(Pools* pools, int fd, Direction direction)
      : pools_(pools), fd_(fd), direction_(direction) {}

  ~FileTransport() override {
    if (job_) job_->leave();
    fail_writers(UV_ECANCELED);
  }

  int descriptor() const override { return fd_; }
  bool needs_shutdown() const override { return true; }
  std::size_t pending() const override { return pending_; }

  void read(Sink* sink) override {
    sink_ = nullptr;
    if (direction_ == Direction::kOut) {
      if (shut_down_ && pending_ > 0) {
        sink_ = sink;
      } else {
        sink->ended(failure_of(shut_down_ ? UV_EOF : UV_EBADF));
      }
      return;
    }
    sink_ = sink;
    if (!input_.empty()) {
      std::string data = std::exchange(input_, {});
      sink->received(data.data(), data.size());
    } else if (!job_) {
      job_ = new FileJob(this, fd_);
      job_->read();
      job_->submit(*pools_, PoolKind::kFiles);
    }
  }

  void pause() override { sink_ = nullptr; }

  ssize_t try_write(const uv_buf_t*, unsigned) override {
    if (direction_ == Direction::kIn || fd_ < 0) return UV_EBADF;
    if (queue_.empty()) put_out_printed(fd_);
    return 0;
  }

  void write(std::string data, Writer* writer) override {
    if (direction_ == Direction::kIn || fd_ < 0) {
      if (writer) writer->written(failure_of(UV_EBADF));
      return;
    }
    pending_ += data.size();
    queue_.push_back({std::move(data), writer});
    if (!job_) write_next();
  }

  void shutdown(Writer* writer) override {
    if (shut_down_) {
      if (writer) writer->written({});
      return;
    }
    shut_down_ = true;
    if (!queue_.empty()) {
      queue_.push_back({"", writer});
      return;
    }
    end();
    if (writer) writer->written({});
  }

  void drain() override {
    while (job_) {
      FileJob* job = job_;
      job->finish();
      job->leave();  // what the pool says later is known
      ended(*job);
    }
  }

  // The job has come to its end, and is the owner's no more.
  void ended(const FileJob& job) {
    job_ = nullptr;
    if (direction_ == Direction::kOut) return written(job.status());
    if (job.status() == 0 && !sink_) {
      input_ = job.data();
    } else if (job.status() == 0) {
      sink_->received(job.data().data(), job.data().size());
      if (sink_ && !job_) read(sink_);
    } else if (sink_) {
      sink_->ended(failure_of(job.status()));
    }
  }

 private:
  struct Output {
    std::string data;
    Writer* writer;
  };

  void write_next() {
    job_ = new FileJob(this, fd_);
    writing_ = queue_.front().data.size();
    job_->write(std::move(queue_.front().data));
    job_->submit(*pools_, PoolKind::kFiles);
  }

  void written(int status) {
    if (status < 0) return fail_writers(status);
    Writer* writer = queue_.front().writer;
    pending_ -= writing_;
    queue_.pop_front();
    if (!queue_.empty()) {
      write_next();
    } else if (shut_down_) {
      end();
    }
    Sink* sink = queue_.empty() && shut_down_ ? sink_ : nullptr;
    if (writer) writer->written({});
    if (sink) sink->ended(failure_of(UV_EOF));
  }

  void end() {
    put_null(fd_);
    fd_ = -1;
  }

  void fail_writers(int status) {
    pending_ = 0;
    for (Output& output : std::exchange(queue_, {})) {
      if (output.writer) output.writer->written(failure_of(status));
    }
  }

  Pools* pools_;
  int fd_;
  Direction direction_;
  Sink* sink_ = nullptr;
  FileJob* job_ = nullptr;  // in progress
  std::string input_;       // was read for somebody who does not want it at present
  std::deque<Output> queue_;
  std::size_t pending_ = 0;
  std::size_t writing_ = 0;  // bytes of the job
  bool shut_down_ = false;
};

void FileJob::after_pool(int status) {
  std::unique_ptr<FileJob> self(this);
  if (!owner_) return;
  if (status < 0) status_ = status;
  owner_->ended(*this);
}

}  // namespace

std::unique_ptr<DescriptorTransport> make_file_transport(lua_State* L, int fd,
                                                         Direction direction) {
  return std::make_unique<FileTransport>(&pools_of(L), fd, direction);
}

}  // namespace rille
