// bindings/file.cpp: rille.core.file, open files. What is read ahead and what is not yet written
// lives here, so that a file which is collected puts it out; stdlib/fs/file.lua decides what to
// read, and passes what `open` gave: the userdata is not checked again at each line.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <utility>

#include "fs_job.h"

namespace rille::fs {
namespace {

constexpr std::size_t kFirstRead = 64 << 10;
constexpr std::size_t kLongestRead = 1 << 20;
constexpr std::size_t kLongestDirect = 128 << 10;
constexpr std::size_t kMostDirect = 4 << 20;  // then others have a turn
constexpr std::size_t kFirstOutput = 4 << 10;
constexpr std::size_t kFullOutput = 64 << 10;

class FileJob;
class ReadEarly;

// An open file. Shared by the userdata and the jobs on it, which run one after the other. Belongs
// to the loop's thread, but for the descriptor, which belongs to the job that runs.
struct OpenFile {
  ~OpenFile();

  std::string path;
  int fd = -1;
  bool writable = false;
  bool regular = false;  // gives all that is asked for at once
  bool seekable = false;
  bool fifo = false;
  std::shared_ptr<Shared> shared;

  Buffer in;  // what was read; [next..] is not handed out yet
  std::size_t next = 0;
  std::size_t scanned = 0;  // no newline in [next..scanned)
  std::size_t kept = 0;     // while `holding`, what was handed out from here on can be given back
  bool holding = false;
  std::size_t ahead = 0;       // how much to read at least
  Buffer spare;                // memory for the next read
  bool direct = true;          // it can be read where the system has it in its memory
  std::size_t was_direct = 0;  // read so since others have had a turn

  Buffer out;          // to be written
  off_t back = 0;      // how far to go back before that: it was read but not handed out
  int late_error = 0;  // of a write that nobody waited for

  // While one thread hands out what it reads directly, another reads what follows it.
  ReadEarly* early = nullptr;       // until it has ended
  Buffer coming;                    // what it has read, if it has ended
  off_t early_from = -1;            // where that begins
  off_t at = -1;                    // the descriptor's position, where it is known
  std::size_t in_a_row = 0;         // bytes that were read one after the other
  std::size_t early_pause = 0;      // so many are read before that is tried again
  std::size_t next_pause = 0;       // grows while it is of no use
  std::atomic<int> early_reads{0};  // that may still use the descriptor

  FileJob* active = nullptr;
  std::deque<FileJob*> queue;
  int movers = 0;  // jobs, active and queued, that read or move the position

  std::size_t available() const { return in.size() - next; }
  void consume(std::size_t count);
  bool accept(Buffer data);
  off_t forget_input();
  void release_input();
  bool read_direct(bool* ended);
  bool take_early();
  void count(std::size_t size);
  void read_early(uv_loop_t* loop, Pools* pools, const std::shared_ptr<OpenFile>& self);
  void forget_early();
  int write_out(int patience_ms);
};

// An operation on an open file. Writes what is in the buffer before anything else.
class FileJob : public Job {
 public:
  explicit FileJob(std::shared_ptr<OpenFile> file) : Job(file->path), file_(std::move(file)) {}

  static int run(lua_State* L, std::unique_ptr<FileJob> job);
  static int close(lua_State* L, std::unique_ptr<FileJob> job);

  // The userdata is gone: nobody can wait for this any more.
  void abandon() { must_write_ ? stop_waiting() : stop(); }

  // Writes what is left, holding everything up. REQUIRES: the job is not on the pool.
  int write_rest(int patience_ms);

 protected:
  // What the job is about. Called again after each wait for the file.
  virtual Step operate() { return Step::kDone; }
  // It starts: the jobs before it have ended.
  virtual void begin() {}
  // Called instead of `operate`, if what was written before could not be put out.
  virtual void write_failed() {}

  Step work() final;
  void ended() override;
  void dropped() override;
  // Others' output is not lost because the task that was to wait for it has something else to do.
  void cancelled() override { must_write_ ? void() : stop(); }

  std::shared_ptr<OpenFile> file_;
  off_t back_ = 0;
  bool must_write_ = false;
  bool moves_ = false;  // set by the constructors of jobs that read or move the position

 private:
  void start();
  Step write_out();

  Buffer out_;
  std::size_t written_ = 0;
  bool wrote_ = false;
};

// Reads a piece of a file that will be wanted soon, from a place of its own.
class ReadEarly : public Job {
 public:
  ReadEarly(std::shared_ptr<OpenFile> file, off_t from, std::size_t size)
      : Job(file->path), file_(std::move(file)), from_(from), size_(size) {}

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

// ---- the jobs ----------------------------------------------------------------------------------

class Read : public FileJob {
 public:
  Read(std::shared_ptr<OpenFile> file, std::size_t want)
      : FileJob(std::move(file)), want_(want), had_(file_->available()) {
    moves_ = true;
  }

 protected:
  void begin() override {
    file_->forget_early();
    data_ = std::move(file_->spare);
    data_.set_size(0);
    // The job before may have been a read that its task gave up, and have brought what is wanted.
    satisfied_ = file_->available() > had_;
  }

  Step operate() override {
    if (satisfied_) return Step::kDone;
    OpenFile* f = file_.get();
    if (f->fifo && is_silent(f->fd)) return block(f->fd, Step::kReadable);
    std::size_t room = std::min(want_, kLongestRead);
    if (want_ > kLongestRead && f->regular) room = std::max(room, rest_of_file());
    while (data_.size() < want_ && !stopped()) {
      if (data_.size() == room) room *= 2;
      if (!data_.reserve(std::min(room, want_))) {
        return data_.empty() ? fail("read", ENOMEM) : Step::kDone;
      }
      ssize_t n = read_some(f->fd, data_.data() + data_.size(), data_.capacity() - data_.size());
      if (n < 0 && errno == EAGAIN && data_.empty()) return block(f->fd, Step::kReadable);
      // What there is comes first, the error at the next time.
      if (n < 0) return data_.empty() ? fail("read") : Step::kDone;
      end_ = n == 0;
      if (end_) break;
      data_.set_size(data_.size() + static_cast<std::size_t>(n));
      if (!f->regular) break;
    }
    return Step::kDone;
  }

  void ended() override {
    if (!file_->accept(std::move(data_)) && status_ == 0) fail("read", ENOMEM);
    FileJob::ended();
  }

  int push(lua_State* L) override {
    lua_pushboolean(L, end_);
    return 1;
  }

 private:
  std::size_t rest_of_file() const {
    struct stat st;
    off_t at = lseek(file_->fd, 0, SEEK_CUR);
    if (at < 0 || fstat(file_->fd, &st) < 0 || st.st_size <= at) return 0;
    // A byte more, so that one call meets the end.
    return static_cast<std::size_t>(st.st_size - at) + 1;
  }

  std::size_t want_;
  std::size_t had_;
  bool satisfied_ = false;
  bool end_ = false;
  Buffer data_;
};

class Flush : public FileJob {
 public:
  using FileJob::FileJob;
};

class Sync : public FileJob {
 public:
  using FileJob::FileJob;

 protected:
  Step operate() override { return fsync(file_->fd) == 0 ? Step::kDone : fail("fsync"); }
};

class Seek : public FileJob {
 public:
  Seek(std::shared_ptr<OpenFile> file, int whence, off_t offset)
      : FileJob(std::move(file)), whence_(whence), offset_(offset) {
    moves_ = true;
  }

 protected:
  void begin() override { back_ += file_->forget_input(); }
  Step operate() override {
    offset_ = lseek(file_->fd, offset_, whence_);
    return offset_ >= 0 ? Step::kDone : fail("lseek");
  }
  int push(lua_State* L) override {
    lua_pushnumber(L, static_cast<lua_Number>(offset_));
    return 1;
  }

 private:
  int whence_;
  off_t offset_;
};

class Truncate : public FileJob {
 public:
  Truncate(std::shared_ptr<OpenFile> file, off_t size) : FileJob(std::move(file)), size_(size) {
    moves_ = true;
  }

 protected:
  void begin() override { back_ += file_->forget_input(); }
  Step operate() override {
    return ftruncate(file_->fd, size_) == 0 ? Step::kDone : fail("ftruncate");
  }

 private:
  off_t size_;
};

class StatFile : public FileJob {
 public:
  using FileJob::FileJob;

 protected:
  Step operate() override {
    uv_fs_t req;
    int rc = uv_fs_fstat(nullptr, &req, file_->fd, nullptr);
    stat_ = req.statbuf;
    uv_fs_req_cleanup(&req);
    return rc == 0 ? Step::kDone : fail("fstat", -rc);
  }
  int push(lua_State* L) override {
    push_stat(L, stat_);
    return 1;
  }

 private:
  uv_stat_t stat_{};
};

class Close : public FileJob {
 public:
  explicit Close(std::shared_ptr<OpenFile> file) : FileJob(std::move(file)) { must_write_ = true; }

 protected:
  void begin() override {
    file_->release_input();
    late_error_ = std::exchange(file_->late_error, 0);
  }
  Step operate() override {
    while (file_->early_reads > 0) usleep(100);  // it ends by itself, and soon
    // Closing may be what tells that the data does not fit on the disk.
    if (::close(std::exchange(file_->fd, -1)) < 0 && errno != EINTR) return fail("close");
    return late_error_ < 0 ? fail("write", -late_error_) : Step::kDone;
  }
  void write_failed() override { ::close(std::exchange(file_->fd, -1)); }

 private:
  int late_error_ = 0;
};

class Open : public Job {
 public:
  Open(std::string path, int flags, mode_t permissions, std::shared_ptr<Shared> shared)
      : Job(std::move(path)), flags_(flags), permissions_(permissions) {
    file_->path = path_;
    file_->shared = std::move(shared);
  }

 protected:
  Step work() override {
    struct stat st;
    int fd = open_file(path_.c_str(), flags_, permissions_, &st);
    if (fd == -ENXIO && S_ISFIFO(st.st_mode)) return block(-1, Step::kLater);
    if (fd < 0) return fail("open", -fd);
    file_->fd = fd;
    if (S_ISDIR(st.st_mode)) return fail("open", EISDIR);
    file_->writable = (flags_ & O_ACCMODE) != O_RDONLY;
    file_->regular = S_ISREG(st.st_mode);
    file_->fifo = S_ISFIFO(st.st_mode);
    file_->seekable = file_->regular || S_ISBLK(st.st_mode);
    return Step::kDone;
  }
  int push(lua_State* L) override;

 private:
  int flags_;
  mode_t permissions_;
  std::shared_ptr<OpenFile> file_ = std::make_shared<OpenFile>();
};

class MakeTempFile : public Job {
 public:
  MakeTempFile(std::string path_template, std::shared_ptr<Shared> shared)
      : Job(std::move(path_template)) {
    file_->shared = std::move(shared);
  }

 protected:
  Step work() override {
    file_->fd = mkostemp(path_.data(), O_CLOEXEC);
    if (file_->fd < 0) return fail("mkstemp");
    file_->path = path_;
    file_->writable = file_->regular = file_->seekable = true;
    return Step::kDone;
  }
  int push(lua_State* L) override;
  void dropped() override {
    // A file that nobody knows of would stay for ever.
    if (status_ == 0) unlink(path_.c_str());
  }

 private:
  std::shared_ptr<OpenFile> file_ = std::make_shared<OpenFile>();
};

// ---- Lua ---------------------------------------------------------------------------------------

struct FileHandle {
  static constexpr char kName[] = "rille.core.File";
  explicit FileHandle(std::shared_ptr<OpenFile> f) : file(std::move(f)) {}
  ~FileHandle() {
    if (file->active) file->active->abandon();
  }
  std::shared_ptr<OpenFile> file;
};

int Open::push(lua_State* L) {
  Class<FileHandle>::push(L, std::move(file_));
  return 1;
}

int MakeTempFile::push(lua_State* L) {
  Class<FileHandle>::push(L, std::move(file_));
  lua_pushlstring(L, path_.data(), path_.size());
  return 2;
}

const std::shared_ptr<OpenFile>& file_at(lua_State* L, int index) {
  return static_cast<FileHandle*>(lua_touserdata(L, index))->file;
}

int push_error(lua_State* L, const OpenFile* f, const char* syscall, int status) {
  rille_push_os_error(L, status, syscall, f->path.c_str(), nullptr, nullptr);
  return 1;
}

// An error of a write that nobody waited for comes up at the next call.
int push_late_error(lua_State* L, OpenFile* f) {
  return f->late_error == 0 ? 0 : push_error(L, f, "write", std::exchange(f->late_error, 0));
}

template <class T, class... Args>
int run_job(lua_State* L, Args&&... args) {
  const std::shared_ptr<OpenFile>& file = file_at(L, 1);
  if (int n = push_late_error(L, file.get())) return n;
  return FileJob::run(L, std::make_unique<T>(file, std::forward<Args>(args)...));
}

// open(path, flags, permissions) -> err, file. Flags are letters: r, w, a (append), t (truncate),
// c (create), x (it must not exist).
int open_path(lua_State* L) {
  std::size_t size;
  const char* path = lua_tolstring(L, 1, &size);
  const char* letters = lua_tostring(L, 2);
  auto has = [&](char c) { return std::strchr(letters, c) != nullptr; };
  int flags = has('r') && has('w') ? O_RDWR : has('w') ? O_WRONLY : O_RDONLY;
  if (has('a')) flags |= O_APPEND;
  if (has('t')) flags |= O_TRUNC;
  if (has('c')) flags |= O_CREAT;
  if (has('x')) flags |= O_EXCL;
  auto permissions = static_cast<mode_t>(lua_tointeger(L, 3));
  return Job::run(
      L, std::make_unique<Open>(std::string(path, size), flags, permissions, Shared::of(L)));
}

// mkstemp(template) -> err, file, path
int make_temp_file(lua_State* L) {
  std::size_t size;
  const char* path = lua_tolstring(L, 1, &size);
  return Job::run(L, std::make_unique<MakeTempFile>(std::string(path, size), Shared::of(L)));
}

// fill(file, want) -> err, ended, turn: reads on, at least a byte unless the end is there
// (`ended`). `turn`: it has not waited for long, others should have a turn.
int fill(lua_State* L) {
  OpenFile* f = file_at(L, 1).get();
  if (f->available() >= kMostBytes) return push_error(L, f, "read", UV_EFBIG);
  // What reads on and on gets more at a time.
  f->ahead = f->ahead == 0 ? kFirstRead : kLongestDirect;
  double most = static_cast<double>(kMostBytes);
  auto want = static_cast<std::size_t>(std::min(lua_tonumber(L, 2), most));
  bool ended;
  // Who wants all of a long file gets it in one trip.
  bool is_long = want > kLongestRead && f->available() >= kFirstRead;
  if (!is_long && f->read_direct(&ended)) {
    lua_pushnil(L);
    lua_pushboolean(L, ended);
    if (!ended) f->read_early(rille_loop(L), &pools_of(L), file_at(L, 1));
    lua_pushboolean(L, f->was_direct >= kMostDirect);
    f->was_direct %= kMostDirect;
    return 3;
  }
  // A trip is worth more bytes.
  std::size_t least = f->ahead < kLongestDirect ? f->ahead : kLongestRead;
  return run_job<Read>(L, std::max(want, least));
}

int flush(lua_State* L) { return run_job<Flush>(L); }

int sync(lua_State* L) { return run_job<Sync>(L); }

// stat(file) -> err, table
int stat_file(lua_State* L) { return run_job<StatFile>(L); }

// seek(file, whence, offset) -> err, position
int seek(lua_State* L) {
  const char* whence = lua_tostring(L, 2);
  int from = whence[0] == 's' ? SEEK_SET : whence[0] == 'c' ? SEEK_CUR : SEEK_END;
  return run_job<Seek>(L, from, static_cast<off_t>(lua_tonumber(L, 3)));
}

// truncate(file, size) -> err
int truncate(lua_State* L) { return run_job<Truncate>(L, static_cast<off_t>(lua_tonumber(L, 2))); }

// close(file) -> err. Whoever waits for a job on the file gets an InvalidStateError.
int close_file(lua_State* L) { return FileJob::close(L, std::make_unique<Close>(file_at(L, 1))); }

// ---- taking what was read: take_*(file, ended, ...) -> 0, value or nil at the end; while there is
// too little, how many bytes more are needed at least. `ended`: the last `fill` met the end.

constexpr int kTaken = 0;

int taken(lua_State* L, OpenFile* f, std::size_t size, std::size_t consumed) {
  lua_pushinteger(L, kTaken);
  lua_pushlstring(L, size > 0 ? f->in.data() + f->next : "", size);
  f->consume(consumed);
  return 2;
}

int taken_nothing(lua_State* L) {
  lua_pushinteger(L, kTaken);
  lua_pushnil(L);
  return 2;
}

int need(lua_State* L, std::size_t count) {
  lua_pushnumber(L, static_cast<lua_Number>(count));
  return 1;
}

// take_line(file, ended, keep_newline)
int take_line(lua_State* L) {
  OpenFile* f = file_at(L, 1).get();
  if (f->scanned < f->in.size()) {
    const char* start = f->in.data() + f->scanned;
    const void* newline = std::memchr(start, '\n', f->in.size() - f->scanned);
    if (newline) {
      auto end = static_cast<std::size_t>(static_cast<const char*>(newline) - f->in.data());
      std::size_t length = end - f->next;
      return taken(L, f, lua_toboolean(L, 3) ? length + 1 : length, length + 1);
    }
    f->scanned = f->in.size();
  }
  if (!lua_toboolean(L, 2)) return need(L, 1);
  std::size_t rest = f->available();
  return rest == 0 ? taken_nothing(L) : taken(L, f, rest, rest);
}

// take_bytes(file, ended, count)
int take_bytes(lua_State* L) {
  OpenFile* f = file_at(L, 1).get();
  auto count = static_cast<std::size_t>(lua_tonumber(L, 3));
  std::size_t there = f->available();
  if (there > 0 && there >= count) return taken(L, f, count, count);
  if (!lua_toboolean(L, 2)) return need(L, std::max<std::size_t>(count - there, 1));
  return there == 0 ? taken_nothing(L) : taken(L, f, there, there);
}

// take_all(file, ended)
int take_all(lua_State* L) {
  OpenFile* f = file_at(L, 1).get();
  if (!lua_toboolean(L, 2)) return need(L, kMostBytes);
  int n = taken(L, f, f->available(), f->available());
  if (!f->holding) f->release_input();
  f->ahead = 0;
  return n;
}

// How many of the bytes can belong to a number; at most 200, as in Lua.
std::size_t number_length(const char* p, const char* end) {
  constexpr std::ptrdiff_t kLongest = 200;
  const char* limit = end - p > kLongest ? p + kLongest : end;
  const char* q = p;
  auto accept = [&](const char* set) {
    bool there = q < limit && *q != '\0' && std::strchr(set, *q);
    if (there) ++q;
    return there;
  };
  accept("+-");
  bool hex = accept("0") && accept("xX");
  const char* digits = hex ? "0123456789abcdefABCDEF" : "0123456789";
  while (accept(digits)) {
  }
  if (accept(".")) {
    while (accept(digits)) {
    }
  }
  if (accept(hex ? "pP" : "eE")) {
    accept("+-");
    while (accept("0123456789")) {
    }
  }
  return static_cast<std::size_t>(q - p);
}

// take_number(file, ended): nil where there is none.
int take_number(lua_State* L) {
  OpenFile* f = file_at(L, 1).get();
  const char* start = f->in.data() + f->next;
  const char* end = start + f->available();
  const char* p = start;
  while (p < end && std::isspace(static_cast<unsigned char>(*p))) ++p;
  std::size_t length = number_length(p, end);
  if (p + length == end && !lua_toboolean(L, 2)) return need(L, 1);
  lua_pushinteger(L, kTaken);
  lua_pushlstring(L, length > 0 ? p : "", length);
  if (lua_isnumber(L, -1)) {
    lua_pushnumber(L, lua_tonumber(L, -1));
  } else {
    lua_pushnil(L);
  }
  lua_remove(L, -2);
  f->consume(static_cast<std::size_t>(p + length - start));
  return 2;
}

// hold(file): what is handed out from here on can be given back.
int hold(lua_State* L) {
  OpenFile* f = file_at(L, 1).get();
  f->holding = true;
  f->kept = f->next;
  return 0;
}

// release(file, give_back): ends `hold`.
int release(lua_State* L) {
  OpenFile* f = file_at(L, 1).get();
  f->holding = false;
  if (lua_toboolean(L, 2)) f->next = f->scanned = f->kept;
  f->consume(0);
  return 0;
}

// ---- writing -----------------------------------------------------------------------------------

constexpr int kBuffered = 0;
constexpr int kFull = 1;
constexpr int kBusy = 2;

// write(file, ...) -> 0 if the texts are in the buffer, 1 if that should now be put out, 2 if a
// running job has to end first, the negated number of an argument that is no text, or an error
// object.
int write(lua_State* L) {
  OpenFile* f = file_at(L, 1).get();
  int count = lua_gettop(L);
  for (int i = 2; i <= count; ++i) {
    if (!lua_isstring(L, i)) {
      lua_pushinteger(L, 1 - i);
      return 1;
    }
  }
  if (int n = push_late_error(L, f)) return n;
  if (!f->writable) return push_error(L, f, "write", UV_EBADF);
  // What a read brings belongs in front of what is written, and it may be one that was given up.
  if (f->movers > 0) {
    lua_pushinteger(L, kBusy);
    return 1;
  }
  if (f->out.empty()) f->back = f->forget_input();
  std::size_t before = f->out.size();
  if (!f->out.reserve(kFirstOutput)) return push_error(L, f, "write", UV_ENOMEM);
  for (int i = 2; i <= count; ++i) {
    std::size_t size;
    const char* text = lua_tolstring(L, i, &size);
    if (!f->out.append(text, size)) {
      f->out.set_size(before);
      return push_error(L, f, "write", UV_ENOMEM);
    }
  }
  lua_pushinteger(L, f->out.size() >= kFullOutput ? kFull : kBuffered);
  return 1;
}

// put_out(file) -> err: writes the buffer, holding everything up, when the program ends.
// REQUIRES: no job on the pool writes.
int put_out(lua_State* L) {
  constexpr int kPatienceMs = 2000;  // with a pipe that nobody reads
  OpenFile* f = file_at(L, 1).get();
  if (f->fd < 0) return 0;
  int status = f->active ? f->active->write_rest(kPatienceMs) : 0;
  if (status == 0) status = f->write_out(kPatienceMs);
  if (status == 0) status = std::exchange(f->late_error, 0);
  return status == 0 ? 0 : push_error(L, f, "write", status);
}

// stdlib/fs/file.lua raises the errors itself, so these need no wrapper.
// descriptor(file) -> its number, for a child to get
int descriptor(lua_State* L) {
  lua_pushinteger(L, file_at(L, 1)->fd);
  return 1;
}

const rille_reg kFunctions[] = {
    {"open", open_path, 0},
    {"fill", fill, 0},
    {"flush", flush, 0},
    {"sync", sync, 0},
    {"stat", stat_file, 0},
    {"seek", seek, 0},
    {"truncate", truncate, 0},
    {"close", close_file, 0},
    {"take_line", take_line, 0},
    {"take_bytes", take_bytes, 0},
    {"take_all", take_all, 0},
    {"take_number", take_number, 0},
    {"hold", hold, 0},
    {"release", release, 0},
    {"write", write, 0},
    {"put_out", put_out, 0},
    {"mkstemp", make_temp_file, 0},
    {"descriptor", descriptor, 0},
    {nullptr, nullptr, 0},
};

}  // namespace
}  // namespace rille::fs

extern "C" int luaopen_rille_core_file(lua_State* L) {
  using namespace rille;
  const rille_reg none[] = {{nullptr, nullptr, 0}};
  Class<fs::FileHandle>::define(L, none);
  rille_newlib(L, fs::kFunctions);
  return 1;
}
