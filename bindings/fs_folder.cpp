// bindings/fs_folder.cpp: what is in a folder: all names, or batch by batch.
#include <errno.h>
#include <fcntl.h>

#include <algorithm>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "fs_calls.h"
#include "fs_directory.h"

namespace rille::fs {
namespace {

void push_names(lua_State* L, const std::vector<std::string>& names) {
  lua_createtable(L, static_cast<int>(names.size()), 0);
  int i = 0;
  for (const std::string& name : names) {
    lua_pushlstring(L, name.data(), name.size());
    lua_rawseti(L, -2, ++i);
  }
}

// A whole folder, sorted: all names, or the folders in it and the rest.
class Folder : public Job {
 public:
  Folder(std::string path, bool apart, bool follow)
      : Job(std::move(path)), apart_(apart), follow_(follow) {}

 protected:
  int permit(const Access& access) override {
    syscall_ = "scandir";
    return permit_path(access, Access::kRead,
                       follow_ ? Access::Last::kObject : Access::Last::kEntry);
  }

  Step work() override {
    Directory directory;
    int rc = directory.open(AT_FDCWD, path_.c_str(), follow_);
    if (rc < 0) return fail("scandir", -rc);
    Directory::Entry entry;
    while ((rc = directory.next(&entry)) > 0) {
      if (stopped()) return fail("readdir", ECANCELED);
      (apart_ && entry.type == DT_DIR ? folders_ : names_).emplace_back(entry.name);
    }
    if (rc < 0) return fail("readdir", -rc);
    std::sort(folders_.begin(), folders_.end());
    std::sort(names_.begin(), names_.end());
    return Step::kDone;
  }

  int push(lua_State* L) override {
    if (apart_) push_names(L, folders_);
    push_names(L, names_);
    return apart_ ? 2 : 1;
  }

 private:
  bool apart_;
  bool follow_;
  std::vector<std::string> folders_;
  std::vector<std::string> names_;
};

class ScanJob;

// A folder that is read a batch at a time. Shared by the userdata and the jobs that read on, one
// after the other; the batch is untouched meanwhile.
struct Scan {
  std::string path;
  Directory directory;
  Buffer batch;  // each entry: its type, its name, a zero
  std::size_t next = 0;
  bool ended = false;
  ScanJob* active = nullptr;
  std::deque<ScanJob*> queue;  // behind one that its task has given up

  bool has_entry() const { return next < batch.size(); }
};

struct ScanHandle {
  static constexpr char kName[] = "rille.core.Scan";
  explicit ScanHandle(std::shared_ptr<Scan> s) : scan(std::move(s)) {}
  std::shared_ptr<Scan> scan;
};

class ScanJob : public Job {
 public:
  ScanJob(std::shared_ptr<Scan> scan, bool first)
      : Job(scan->path), scan_(std::move(scan)), first_(first) {}

  static int run(lua_State* L, std::unique_ptr<ScanJob> job) {
    rille_waiter* waiter = job->prepare(L);
    Scan* scan = job->scan_.get();
    if (scan->active) {
      scan->queue.push_back(job.release());
    } else {
      scan->active = job.get();
      job.release()->submit();
    }
    return rille_park(L, waiter);
  }

 protected:
  int permit(const Access& access) override {
    syscall_ = "scandir";
    // What reads on has the folder open.
    return first_ ? permit_path(access, Access::kRead, Access::Last::kObject) : 0;
  }

  Step work() override {
    Directory& directory = scan_->directory;
    // One that was given up may have brought some.
    if (scan_->has_entry() || scan_->ended) return Step::kDone;
    if (first_) {
      int rc = directory.open(AT_FDCWD, path_.c_str(), true);
      if (rc < 0) return fail("scandir", -rc);
    }
    constexpr int kMost = 4096;
    Buffer& batch = scan_->batch;
    batch.set_size(0);
    scan_->next = 0;
    Directory::Entry entry;
    for (int i = 0; i < kMost; ++i) {
      if (stopped()) return fail("readdir", ECANCELED);
      int rc = directory.next(&entry);
      if (rc < 0) return fail("readdir", -rc);
      if (rc == 0) {
        scan_->ended = true;
        directory.close();
        break;
      }
      char type = static_cast<char>(entry.type);
      if (!batch.append(&type, 1) || !batch.append(entry.name.data(), entry.name.size() + 1)) {
        return fail("readdir", ENOMEM);
      }
    }
    return Step::kDone;
  }

  void ended() override {
    scan_->active = nullptr;
    if (scan_->queue.empty()) return;
    scan_->active = scan_->queue.front();
    scan_->queue.pop_front();
    scan_->active->submit();
  }

  // While it is in the queue it is in no pool, and has to wait for its turn to end.
  void cancelled() override {
    if (scan_->active == this) stop();
  }

  int push(lua_State* L) override {
    if (!first_) return 0;
    Class<ScanHandle>::push(L, std::move(scan_));
    return 1;
  }

 private:
  std::shared_ptr<Scan> scan_;
  bool first_;
};

const std::shared_ptr<Scan>& scan_at(lua_State* L) {
  const std::shared_ptr<Scan>& scan = Class<ScanHandle>::check(L, 1)->scan;
  if (!scan) luaL_argerror(L, 1, "the iterator is closed");
  return scan;
}

}  // namespace

// list(path) -> err, sorted names
int list(lua_State* L) {
  return Job::run(L, std::make_unique<Folder>(to_string(L, 1), false, true));
}

// folder(path, follow) -> err, sorted names of the folders in it, of all else
int folder(lua_State* L) {
  bool follow = lua_toboolean(L, 2);
  return Job::run(L, std::make_unique<Folder>(to_string(L, 1), true, follow));
}

// scan(path) -> err, handle
int scan(lua_State* L) {
  auto scan = std::make_shared<Scan>();
  scan->path = to_string(L, 1);
  return ScanJob::run(L, std::make_unique<ScanJob>(std::move(scan), true));
}

// scan_on(handle) -> err: reads the next batch. REQUIRES: `scan_take` gave true.
int scan_on(lua_State* L) { return ScanJob::run(L, std::make_unique<ScanJob>(scan_at(L), false)); }

// scan_take(handle) -> name, type; nothing at the end; or true if it has to be read on.
int scan_take(lua_State* L) {
  Scan* scan = scan_at(L).get();
  if (scan->active || !scan->has_entry()) {
    if (!scan->active && scan->ended) return 0;
    lua_pushboolean(L, true);
    return 1;
  }
  const char* entry = scan->batch.data() + scan->next;
  std::string_view name(entry + 1);
  lua_pushlstring(L, name.data(), name.size());
  lua_pushstring(L, type_name(static_cast<unsigned char>(*entry)));
  scan->next += name.size() + 2;
  return 2;
}

// scan_close(handle). REQUIRES: it is not used again. A job that reads on lets go at its end.
int scan_close(lua_State* L) {
  Class<ScanHandle>::check(L, 1)->scan.reset();
  return 0;
}

void define_scan(lua_State* L) {
  const rille_reg none[] = {{nullptr, nullptr, 0}};
  Class<ScanHandle>::define(L, none);
}

}  // namespace rille::fs
