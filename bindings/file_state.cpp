#include "file_state.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

namespace rille::fs {

// Reads a piece of a file that will be wanted soon, from a place of its own.
class ReadEarly : public Job {
 public:
  ReadEarly(std::shared_ptr<OpenFile> file, off_t from, std::size_t size)
      : Job(file->path), file_(std::move(file)), from_(from), size_(size) {}

  int permit(const Access&) override { return 0; }

  static void start(std::unique_ptr<ReadEarly> job, uv_loop_t* loop, Pools* pools) {
    job->prepare_alone(loop, pools);
    ++job->file_->early_reads;
    job->file_->early = job.get();
    job->file_->early_from = job->from_;
    job.release()->submit();
  }

  // True if it had not begun, and never will.
  bool was_withdrawn() {
    if (done_.load(std::memory_order_acquire) || !give_up()) return false;
    --file_->early_reads;
    withdrawn_ = true;
    return true;
  }

  // Waits a moment for what is just being read. False if that takes longer.
  bool is_there() const {
    constexpr uint64_t kMomentNs = 40'000;
    for (uint64_t until = uv_hrtime() + kMomentNs; !done_.load(std::memory_order_acquire);) {
      if (uv_hrtime() > until) return false;
    }
    return true;
  }

  // REQUIRES: it is there.
  Buffer take() { return std::move(data_); }

 protected:
  Step work() override {
    if (!stopped() && data_.reserve(size_)) {
      ssize_t n = pread(file_->fd, data_.data(), size_, from_);
      if (n > 0) data_.set_size(static_cast<std::size_t>(n));
    }
    --file_->early_reads;
    done_.store(true, std::memory_order_release);
    return Step::kDone;
  }

  void ended() override {
    // The system may have given no thread.
    if (!done_ && !withdrawn_) --file_->early_reads;
    if (file_->early != this) return;
    file_->early = nullptr;
    file_->coming = std::move(data_);
  }

 private:
  std::shared_ptr<OpenFile> file_;
  off_t from_;
  std::size_t size_;
  Buffer data_;
  bool withdrawn_ = false;
  std::atomic<bool> done_{false};
};

// ---- OpenFile ----------------------------------------------------------------------------------

OpenFile::~OpenFile() {
  if (fd < 0) return;
  write_out(0);  // dropped without `close`: as in Lua, errors have no one to go to
  ::close(fd);
}

void OpenFile::consume(std::size_t count) {
  next += count;
  scanned = next;
  if (!holding && next == in.size()) {
    next = scanned = 0;
    in.set_size(0);
  }
}

// Adds what was read. False if memory has run out.
bool OpenFile::accept(Buffer data) {
  if (data.empty()) return true;
  std::size_t done = holding ? kept : next;
  if (in.size() == done) {
    std::swap(in, data);
    spare = std::move(data);
  } else {
    in.drop_front(done);
    if (!in.append(data.data(), data.size())) return false;
  }
  next -= done;
  scanned = std::max(scanned, done) - done;
  kept = 0;
  return true;
}

// Drops what was read ahead. Returns how far the descriptor's position is ahead of ours.
off_t OpenFile::forget_input() {
  if (!seekable) return 0;
  forget_early();
  auto ahead_by = static_cast<off_t>(available());
  in.set_size(0);
  next = scanned = kept = ahead = 0;
  return ahead_by;
}

void OpenFile::release_input() {
  forget_early();
  in.release();
  spare.release();
  next = scanned = kept = ahead = 0;
}

// Takes what was read early, if its turn has come. False if there is nothing.
bool OpenFile::take_early() {
  constexpr std::size_t kLeastPause = 4 << 20;
  constexpr std::size_t kLongestPause = 256 << 20;
  if (early_from < 0 || at != early_from) return false;
  early_from = -1;
  if (ReadEarly* job = std::exchange(early, nullptr)) {
    if (job->was_withdrawn() || !job->is_there()) {
      // No thread has had time for it.
      next_pause = std::clamp(next_pause * 2, kLeastPause, kLongestPause);
      early_pause = next_pause;
      return false;
    }
    coming = job->take();
  }
  auto size = static_cast<off_t>(coming.size());
  if (size == 0 || lseek(fd, at + size, SEEK_SET) < 0) return false;
  next_pause = 0;
  count(coming.size());
  return accept(std::move(coming));
}

// Bytes were read directly.
void OpenFile::count(std::size_t size) {
  was_direct += size;
  in_a_row += size;
  early_pause -= std::min(early_pause, size);
  if (at >= 0) at += static_cast<off_t>(size);
}

void OpenFile::forget_early() {
  at = early_from = -1;
  in_a_row = 0;
  coming.release();
  if (early) std::exchange(early, nullptr)->was_withdrawn();
}

// Begins to read early what lies behind what will be read directly until then.
void OpenFile::read_early(uv_loop_t* loop, Pools* pools, const std::shared_ptr<OpenFile>& self) {
  constexpr off_t kDistance = 256 << 10;
  constexpr std::size_t kSize = 512 << 10;
  constexpr std::size_t kLongRead = 1 << 20;  // from here on it is worth the effort
  if (early_from >= 0 || early_pause > 0 || in_a_row < kLongRead || !direct || active) return;
  if (at < 0) at = lseek(fd, 0, SEEK_CUR);
  if (at >= 0) {
    ReadEarly::start(std::make_unique<ReadEarly>(self, at + kDistance, kSize), loop, pools);
  }
}

// Reads what the system has in its memory, which takes no longer than to ask for it elsewhere.
// False if it has not.
bool OpenFile::read_direct(bool* ended) {
  if (!direct || !regular || active || !out.empty()) return false;
  if (take_early()) {
    *ended = false;
    return true;
  }
  Buffer data = std::move(spare);
  data.set_size(0);
  if (!data.reserve(ahead)) return false;
  std::size_t size = ahead;
  if (early_from >= 0) size = std::min(size, static_cast<std::size_t>(early_from - at));
  iovec part{data.data(), size};
  ssize_t n = preadv2(fd, &part, 1, -1, RWF_NOWAIT);
  if (n < 0) {
    direct = errno == EAGAIN || errno == EINTR;
    spare = std::move(data);
    return false;
  }
  data.set_size(static_cast<std::size_t>(n));
  count(data.size());
  *ended = n == 0;
  if (*ended) return true;
  return accept(std::move(data));
}

// Writes the buffer, holding everything up. Returns a negative errno, or 0.
int OpenFile::write_out(int patience_ms) {
  Buffer bytes = std::move(out);
  if (back > 0) lseek(fd, -std::exchange(back, 0), SEEK_CUR);
  return write_all(fd, bytes.data(), bytes.size(), patience_ms);
}

// ---- FileJob -----------------------------------------------------------------------------------

int FileJob::run(lua_State* L, std::unique_ptr<FileJob> job) {
  rille_waiter* waiter = job->prepare(L);
  OpenFile* file = job->file_.get();
  if (job->moves_) ++file->movers;
  if (file->active) {
    file->queue.push_back(job.release());
  } else {
    job.release()->start();
  }
  return rille_park(L, waiter);
}

// Ends the waits of all jobs on the file, then comes last.
int FileJob::close(lua_State* L, std::unique_ptr<FileJob> job) {
  rille_waiter* waiter = job->prepare(L);
  OpenFile* file = job->file_.get();
  auto dismiss = [](FileJob* other) {
    other->Job::dismiss("InvalidStateError", "the file '" + other->path_ + "' was closed");
    other->cancelled();
  };
  for (FileJob* other : file->queue) dismiss(other);
  if (file->active) {
    dismiss(file->active);
    file->queue.push_back(job.release());
  } else {
    job.release()->start();
  }
  return rille_park(L, waiter);
}

void FileJob::start() {
  file_->active = this;
  std::swap(out_, file_->out);
  back_ = std::exchange(file_->back, 0);
  if (!out_.empty()) {
    must_write_ = true;
    writes_ = true;
    shared_ = file_->shared;
  }
  begin();
  submit();
}

Job::Step FileJob::write_out() {
  if (back_ > 0 && lseek(file_->fd, -std::exchange(back_, 0), SEEK_CUR) < 0) return fail("lseek");
  while (written_ < out_.size()) {
    ssize_t n = write_some(file_->fd, out_.data() + written_, out_.size() - written_);
    if (n < 0 && errno == EAGAIN) return block(file_->fd, Step::kWritable);
    if (n < 0) return fail("write");
    written_ += static_cast<std::size_t>(n);
  }
  return Step::kDone;
}

int FileJob::write_rest(int patience_ms) {
  if (wrote_ || status_ < 0) return 0;
  std::size_t from = std::exchange(written_, out_.size());
  return write_all(file_->fd, out_.data() + from, out_.size() - from, patience_ms);
}

Job::Step FileJob::work() {
  if (!wrote_) {
    Step step = write_out();
    if (step != Step::kDone) return step;
    if (status_ < 0) {
      write_failed();
      return step;
    }
    wrote_ = true;
  }
  return operate();
}

void FileJob::ended() {
  OpenFile* file = file_.get();
  if (file->out.capacity() == 0 && out_.capacity() <= 4 * kFullOutput) {
    out_.set_size(0);  // its memory is used again
    std::swap(file->out, out_);
  }
  file->active = nullptr;
  if (moves_) --file->movers;
  if (file->queue.empty()) return;
  FileJob* following = file->queue.front();
  file->queue.pop_front();
  following->start();
}

void FileJob::dropped() {
  if (must_write_ && !wrote_ && status_ < 0) file_->late_error = status_;
}

}  // namespace rille::fs
