// An open file, and the jobs on it, which run one after the other. What is read ahead and what is
// not yet written lives here, so that a file which is collected puts it out.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <deque>
#include <memory>
#include <utility>

#include "fs_job.h"

namespace rille::fs {

constexpr std::size_t kFirstRead = 64 << 10;
constexpr std::size_t kLongestRead = 1 << 20;
constexpr std::size_t kLongestDirect = 128 << 10;
constexpr std::size_t kMostDirect = 4 << 20;  // then others have a turn
constexpr std::size_t kFirstOutput = 4 << 10;
constexpr std::size_t kFullOutput = 64 << 10;

class FileJob;
class ReadEarly;  // in file_state.cpp

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
  // The file is open.
  int permit(const Access&) override { return 0; }

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

// ---- Lua ---------------------------------------------------------------------------------------

struct FileHandle {
  static constexpr char kName[] = "rille.core.File";
  explicit FileHandle(std::shared_ptr<OpenFile> f) : file(std::move(f)) {}
  ~FileHandle() {
    if (file->active) file->active->abandon();
  }
  std::shared_ptr<OpenFile> file;
};

inline const std::shared_ptr<OpenFile>& file_at(lua_State* L, int index) {
  return Class<FileHandle>::check(L, index)->file;
}

// file_take.cpp
int take_line(lua_State* L);
int take_bytes(lua_State* L);
int take_all(lua_State* L);
int take_number(lua_State* L);
int hold(lua_State* L);
int release(lua_State* L);

// file_beneath.cpp

// open_beneath(root, path) -> err, type; of a plain file also the file, its size, the time of its
// last change. `root` is the real path of the folder in which it has to lie, links included.
int open_beneath(lua_State* L);
// adopt(path, descriptor) -> err, file: a plain file that somebody else has open, and keeps open.
int adopt(lua_State* L);

}  // namespace rille::fs
