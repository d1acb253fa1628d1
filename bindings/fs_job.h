// What the bindings behind rille.fs are made of: a job that runs on the threads for files while a
// task waits for it.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <rille/access.hpp>
#include <rille/builtin.hpp>
#include <rille/module.hpp>
#include <string>
#include <vector>

namespace rille::fs {

// Bytes that are not cleared before they are written to.
class Buffer {
 public:
  Buffer() = default;
  // What it has counts to a script's memory.
  explicit Buffer(Charge charge) : charge_(std::move(charge)) {}
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  char* data() { return data_; }
  const char* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::size_t capacity() const { return capacity_; }
  bool empty() const { return size_ == 0; }

  // REQUIRES: not more than the capacity.
  void set_size(std::size_t size) { size_ = size; }
  // Drops the first `count` bytes.
  void drop_front(std::size_t count);
  void release();
  // What it has counts to the same memory as that.
  void count_like(const Charge& other) {
    charge_ = other.another();
    charge_.set(capacity_);
  }

  // Both are false when memory has run out.
  bool reserve(std::size_t capacity);
  bool append(const char* bytes, std::size_t count);

 private:
  char* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
  Charge charge_;
};

// What the jobs of one runtime share, and what the last of them frees.
class Shared {
 public:
  static std::shared_ptr<Shared> of(lua_State* L);
  explicit Shared(Charge charge) : charge_(std::move(charge)) { spare_.reserve(kMostSpare); }

  // For bytes of the runtime's.
  const Charge& charge() const { return charge_; }

  // Jobs that write to files on the pool right now, so that the program can wait for them before it
  // ends. `wait_for_writers` gives up after `seconds`, and is false: a broken disk must not keep
  // the program for ever.
  void add_writer();
  void remove_writer();
  bool wait_for_writers(double seconds);

  // Buffers that are used again: memory that one thread takes and another gives back costs much.
  // REQUIRES: the loop's thread.
  Buffer take_buffer();
  void give_back(Buffer buffer);

 private:
  const Charge charge_;  // of nothing
  std::mutex mutex_;
  std::condition_variable none_;
  int writers_ = 0;
  static constexpr std::size_t kMostSpare = 64;
  std::vector<Buffer> spare_;
};

// An operation on files. Owned by a unique_ptr until it is started, then by itself until it has
// ended. What blocks runs in `work`, on a thread of the pool; a file that gives or takes nothing at
// present (a FIFO, a terminal) does not hold that thread up, but is waited for on the loop.
class Job : private PoolJob {
 public:
  // What `work` has come to: its end, or a file to wait for.
  enum class Step { kDone, kReadable, kWritable, kLater };

  explicit Job(std::string path) : path_(std::move(path)) {}
  virtual ~Job();

  // Starts the job and puts the calling task to sleep until it has ended.
  static int run(lua_State* L, std::unique_ptr<Job> job);

  // True once nobody needs the rest of the job.
  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }

 protected:
  // On a thread of the pool, and again after each wait. REQUIRES of those who write it: no Lua.
  virtual Step work() = 0;

  // Pushes the results (not the leading nil) and returns how many.
  virtual int push(lua_State*) { return 0; }

  // Where not everything is granted: whether this is. Called on the pool before `work`; puts paths
  // that were checked in the place of those asked about. Returns 0, or what Access gave.
  virtual int permit(const Access& access) = 0;

  // For `permit`.
  int permit_path(const Access& access, unsigned needs, Access::Last last) {
    return check(access, &path_, needs, last, &checked_->path);
  }
  int permit_dest(const Access& access, unsigned needs, Access::Last last) {
    return check(access, &dest_, needs, last, &checked_->dest);
  }

  // On the loop's thread, before the task learns of the end.
  virtual void ended() {}

  // Nobody has taken the results.
  virtual void dropped() {}

  // The task has given up. The job still has to end by itself.
  virtual void cancelled() { stop(); }

  // For `work`: the end with an error.
  Step fail(const char* syscall, int error = errno);

  // For `work`: the way to wait for `fd`.
  Step block(int fd, Step how) {
    blocked_fd_ = fd;
    return how;
  }

  // For opening a path that was checked as Access::Last::kNew.
  int no_follow() const;
  // A path as the script knows it.
  std::string shown(const std::string& path) const {
    return checked_ ? checked_->shown(path) : path;
  }

  // The three parts of `run`; and instead of the first, for a job that no task waits for.
  rille_waiter* prepare(lua_State* L);
  void submit();
  void prepare_alone(uv_loop_t* loop, Pools* pools) {
    loop_ = loop;
    pools_ = pools;
  }

  // Ends the job as soon as possible, with ECANCELED unless it is done.
  void stop();
  // The same, but what `work` has begun or is about to begin still happens.
  void stop_waiting();
  // The job is not needed any more. True if `work` will not be called.
  bool give_up() {
    stopped_ = true;
    return in_pool_ && withdraw();
  }
  // Ends the wait with an error, and leaves the job alone.
  void dismiss(const char* kind, const std::string& message);

  std::string path_;
  std::string dest_;
  int status_ = 0;  // a negative errno
  const char* syscall_ = "";
  std::shared_ptr<Shared> shared_;
  bool writes_ = false;  // the program waits for it before it ends
  uv_loop_t* loop_ = nullptr;
  Pools* pools_ = nullptr;

  struct Checked {
    CheckedPath path, dest;
    Refusal refusal;
    std::string shown(const std::string& text) const { return dest.shown(path.shown(text)); }
  };
  std::shared_ptr<Checked> checked_;  // null where everything is granted

 private:
  int check(const Access& access, std::string* path, unsigned needs, Access::Last last,
            CheckedPath* checked);
  bool is_permitted();
  void on_pool() override;
  void after_pool(int status) override;
  static int push_results(lua_State* L, void* data);
  void wait_for_file();
  void end_waiting();
  void finish();
  void leave_writers();

  rille_waiter* waiter_ = nullptr;
  uv_any_handle* waiting_ = nullptr;  // on the loop for the file; owned by its close callback
  int blocked_fd_ = -1;
  Step step_ = Step::kDone;
  std::shared_ptr<const Access> access_;  // to be asked before the first `work`
  bool in_pool_ = false;
  bool counted_ = false;
  std::atomic<bool> stopped_{false};
};

// The path of a new file with a random end, as its template was asked for.
inline std::string as_asked(const std::string& asked, const std::string& made) {
  constexpr std::size_t kRandom = 6;
  return asked.substr(0, asked.size() - kRandom) + made.substr(made.size() - kRandom);
}

// open(2) that never waits for another process. Returns the descriptor or a negative errno, and
// fills `st`. ENXIO of a FIFO means that nobody reads it yet.
int open_file(const char* path, int flags, mode_t permissions, struct stat* st);

// read(2) and write(2), again when a signal interrupts them.
ssize_t read_some(int fd, char* data, std::size_t size);
ssize_t write_some(int fd, const char* data, std::size_t size);

// Writes all, holding everything up, as long as the file takes something within `patience_ms`.
// Returns a negative errno, or 0.
int write_all(int fd, const char* data, std::size_t size, int patience_ms);

// True if a FIFO has neither data nor, so far, a writer.
bool is_silent(int fd);

// Strings in LuaJIT are shorter than this.
constexpr std::size_t kMostBytes = 0x7fffff00;

// Pushes the table that fs.stat gives, or its field `type` alone.
void push_stat(lua_State* L, const uv_stat_t& stat);
void push_type(lua_State* L, const uv_stat_t& stat);

}  // namespace rille::fs
