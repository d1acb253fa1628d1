#include "fs_job.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace rille::fs {

// ---- Buffer ------------------------------------------------------------------------------------

Buffer::Buffer(Buffer&& other) noexcept { *this = std::move(other); }

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(capacity_, other.capacity_);
  std::swap(charge_, other.charge_);
  other.size_ = 0;
  return *this;
}

Buffer::~Buffer() { std::free(data_); }

void Buffer::release() {
  std::free(data_);
  data_ = nullptr;
  size_ = capacity_ = 0;
  charge_.set(0);
}

void Buffer::drop_front(std::size_t count) {
  if (count == 0) return;
  size_ -= count;
  std::memmove(data_, data_ + count, size_);
}

bool Buffer::reserve(std::size_t capacity) {
  if (capacity <= capacity_) return true;
  if (!charge_.set(capacity)) return false;
  void* data = std::realloc(data_, capacity);
  if (!data) return false;
  data_ = static_cast<char*>(data);
  capacity_ = capacity;
  return true;
}

bool Buffer::append(const char* bytes, std::size_t count) {
  if (count == 0) return true;
  if (count > capacity_ - size_ && !reserve(std::max(size_ + count, capacity_ * 2))) return false;
  std::memcpy(data_ + size_, bytes, count);
  size_ += count;
  return true;
}

// ---- Shared ------------------------------------------------------------------------------------

namespace {

const char kSharedKey = 0;

struct SharedHolder {
  static constexpr char kName[] = "rille.core.FsShared";
  explicit SharedHolder(Charge charge) : shared(std::make_shared<Shared>(std::move(charge))) {}
  std::shared_ptr<Shared> shared;
};

}  // namespace

std::shared_ptr<Shared> Shared::of(lua_State* L) {
  void* key = const_cast<char*>(&kSharedKey);
  lua_pushlightuserdata(L, key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  auto* holder = static_cast<SharedHolder*>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  if (!holder) {
    const rille_reg none[] = {{nullptr, nullptr, 0}};
    Class<SharedHolder>::define(L, none);
    lua_pushlightuserdata(L, key);
    holder = Class<SharedHolder>::push(L, Charge(L));
    lua_rawset(L, LUA_REGISTRYINDEX);
  }
  return holder->shared;
}

void Shared::add_writer() {
  std::lock_guard lock(mutex_);
  ++writers_;
}

void Shared::remove_writer() {
  std::lock_guard lock(mutex_);
  if (--writers_ == 0) none_.notify_all();
}

bool Shared::wait_for_writers(double seconds) {
  std::unique_lock lock(mutex_);
  return none_.wait_for(lock, std::chrono::duration<double>(seconds),
                        [this] { return writers_ == 0; });
}

Buffer Shared::take_buffer() {
  if (spare_.empty()) return Buffer(charge_.another());
  Buffer buffer = std::move(spare_.back());
  spare_.pop_back();
  buffer.count_like(charge_);
  return buffer;
}

void Shared::give_back(Buffer buffer) {
  constexpr std::size_t kLargest = 16 << 10;
  if (buffer.capacity() > kLargest || spare_.size() >= kMostSpare) return;
  buffer.set_size(0);
  buffer.count_like(Charge());
  spare_.push_back(std::move(buffer));
}

// ---- Job ---------------------------------------------------------------------------------------

Job::~Job() = default;

Job::Step Job::fail(const char* syscall, int error) {
  status_ = -error;
  syscall_ = syscall;
  return Step::kDone;
}

rille_waiter* Job::prepare(lua_State* L) {
  loop_ = rille_loop(L);
  pools_ = &pools_of(L);
  access_ = Access::share(L);
  waiter_ = rille_prepare(
      L, [](rille_waiter*, void* data) { static_cast<Job*>(data)->cancelled(); }, this);
  return waiter_;
}

int Job::run(lua_State* L, std::unique_ptr<Job> job) {
  rille_waiter* waiter = job->prepare(L);
  job.release()->submit();
  return rille_park(L, waiter);
}

void Job::submit() {
  if (writes_ && !counted_) {
    shared_->add_writer();
    counted_ = true;
  }
  in_pool_ = true;
  PoolJob::submit(*pools_, PoolKind::kFiles);
}

void Job::leave_writers() {
  if (std::exchange(counted_, false)) shared_->remove_writer();
}

int Job::no_follow() const { return checked_ ? O_NOFOLLOW : 0; }

int Job::check(const Access& access, std::string* path, unsigned needs, Access::Last last,
               CheckedPath* checked) {
  int rc = access.check_path(*path, needs, last, checked, &checked_->refusal);
  if (rc == 0) *path = checked->path();
  return rc;
}

bool Job::is_permitted() {
  checked_ = std::make_shared<Checked>();
  std::shared_ptr<const Access> access = std::exchange(access_, nullptr);
  int rc = permit(*access);
  if (rc == 0) return true;
  status_ = rc;
  if (rc != Access::kRefused) fail(*syscall_ ? syscall_ : "open", -rc);
  return false;
}

void Job::on_pool() {
  try {
    step_ = !access_ || is_permitted() ? work() : Step::kDone;
  } catch (const std::bad_alloc&) {
    step_ = fail("malloc", ENOMEM);
  }
  leave_writers();
}

void Job::after_pool(int status) {
  in_pool_ = false;
  if (status == 0 && step_ == Step::kDone) return finish();
  if (status == 0 && !stopped()) return wait_for_file();
  if (status == UV_EAGAIN) {
    fail("pthread_create", EAGAIN);
  } else {
    fail("cancel", ECANCELED);
  }
  finish();
}

// Waits on the loop until the file has something, or a moment has gone by; then goes on in the
// pool.
void Job::wait_for_file() {
  waiting_ = new uv_any_handle;
  int rc;
  if (step_ == Step::kLater) {
    constexpr int kPauseMs = 10;  // nothing tells when a FIFO gets a reader
    rc = uv_timer_init(loop_, &waiting_->timer);
    waiting_->timer.data = this;
    uv_timer_start(
        &waiting_->timer, [](uv_timer_t* t) { static_cast<Job*>(t->data)->end_waiting(); },
        kPauseMs, 0);
  } else {
    rc = uv_poll_init(loop_, &waiting_->poll, blocked_fd_);
    if (rc == 0) {
      waiting_->poll.data = this;
      uv_poll_start(&waiting_->poll, step_ == Step::kReadable ? UV_READABLE : UV_WRITABLE,
                    [](uv_poll_t* p, int, int) { static_cast<Job*>(p->data)->end_waiting(); });
    }
  }
  if (rc < 0) {
    delete std::exchange(waiting_, nullptr);
    fail("poll", -rc);
    finish();
  }
}

void Job::end_waiting() {
  uv_handle_t* handle = &std::exchange(waiting_, nullptr)->handle;
  uv_close(handle, [](uv_handle_t* h) {
    std::unique_ptr<uv_any_handle> owner(reinterpret_cast<uv_any_handle*>(h));
    Job* self = static_cast<Job*>(h->data);
    if (!self->stopped()) return self->submit();
    self->fail("cancel", ECANCELED);
    self->finish();
  });
}

void Job::stop() {
  if (stopped_.exchange(true)) return;
  if (waiting_) {
    end_waiting();
  } else if (in_pool_) {
    // If it has not begun, it never will.
    if (withdraw()) leave_writers();
  }
}

void Job::stop_waiting() {
  stopped_ = true;
  if (waiting_) end_waiting();
}

void Job::finish() {
  leave_writers();
  ended();
  if (waiter_) {
    rille_complete(std::exchange(waiter_, nullptr), push_results, this);
  } else {
    push_results(nullptr, this);
  }
}

void Job::dismiss(const char* kind, const std::string& message) {
  if (waiter_) rille_fail(std::exchange(waiter_, nullptr), kind, nullptr, message.c_str());
}

int Job::push_results(lua_State* L, void* data) {
  std::unique_ptr<Job> self(static_cast<Job*>(data));
  if (!L) {
    self->dropped();
    return 0;
  }
  if (self->status_ < 0) {
    if (self->status_ == Access::kRefused) return push_refusal(L, self->checked_->refusal);
    std::string path = self->shown(self->path_);
    std::string dest = self->shown(self->dest_);
    rille_push_os_error(L, self->status_, self->syscall_, path.c_str(),
                        dest.empty() ? nullptr : dest.c_str(), nullptr);
    return 1;
  }
  lua_pushnil(L);
  return 1 + self->push(L);
}

// ---- system calls ------------------------------------------------------------------------------

int open_file(const char* path, int flags, mode_t permissions, struct stat* st) {
  flags |= O_CLOEXEC | O_NOCTTY;
  int fd;
  do {
    fd = open(path, flags | O_NONBLOCK, permissions);
    // Somebody has a lease on the file, which is taken back within a limit.
    if (fd < 0 && errno == EWOULDBLOCK) fd = open(path, flags, permissions);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) {
    int error = errno;
    st->st_mode = 0;
    if (error == ENXIO) stat(path, st);
    return -error;
  }
  if (fstat(fd, st) < 0) {
    int error = errno;
    close(fd);
    return -error;
  }
  return fd;
}

ssize_t read_some(int fd, char* data, std::size_t size) {
  ssize_t n;
  do n = read(fd, data, size);
  while (n < 0 && errno == EINTR);
  return n;
}

ssize_t write_some(int fd, const char* data, std::size_t size) {
  ssize_t n;
  do n = write(fd, data, size);
  while (n < 0 && errno == EINTR);
  return n;
}

int write_all(int fd, const char* data, std::size_t size, int patience_ms) {
  while (size > 0) {
    ssize_t n = write_some(fd, data, size);
    if (n < 0) {
      int error = errno;
      pollfd p{fd, POLLOUT, 0};
      if (error != EAGAIN || patience_ms == 0 || poll(&p, 1, patience_ms) <= 0) return -error;
      continue;
    }
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return 0;
}

bool is_silent(int fd) {
  pollfd p{fd, POLLIN, 0};
  return poll(&p, 1, 0) == 0;
}

// ---- stat --------------------------------------------------------------------------------------

namespace {

const char* type_name(uint64_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "file";
    case S_IFDIR:
      return "directory";
    case S_IFLNK:
      return "link";
    case S_IFIFO:
      return "fifo";
    case S_IFSOCK:
      return "socket";
    case S_IFCHR:
      return "char";
    case S_IFBLK:
      return "block";
    default:
      return "unknown";
  }
}

}  // namespace

void push_type(lua_State* L, const uv_stat_t& s) { lua_pushstring(L, type_name(s.st_mode)); }

void push_stat(lua_State* L, const uv_stat_t& s) {
  lua_createtable(L, 0, 16);
  auto number = [L](const char* name, double value) {
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
  };
  auto time = [&](const char* name, const uv_timespec_t& t) {
    number(name, static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9);
  };
  push_type(L, s);
  lua_setfield(L, -2, "type");
  number("size", static_cast<double>(s.st_size));
  number("mode", static_cast<double>(s.st_mode & 07777));
  number("uid", static_cast<double>(s.st_uid));
  number("gid", static_cast<double>(s.st_gid));
  number("ino", static_cast<double>(s.st_ino));
  number("dev", static_cast<double>(s.st_dev));
  number("rdev", static_cast<double>(s.st_rdev));
  number("nlink", static_cast<double>(s.st_nlink));
  number("blocks", static_cast<double>(s.st_blocks));
  number("blksize", static_cast<double>(s.st_blksize));
  time("atime", s.st_atim);
  time("mtime", s.st_mtim);
  time("ctime", s.st_ctim);
  time("birthtime", s.st_birthtim);
}

}  // namespace rille::fs
