// The work of watches that may block: to put folders under watch, and to look what is in them.
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "fs_directory.h"
#include "watch_hub.h"

namespace rille::fs {

namespace {

constexpr uint32_t kMask = IN_ATTRIB | IN_CREATE | IN_MODIFY | IN_DELETE | IN_DELETE_SELF |
                           IN_MOVE_SELF | IN_MOVED_FROM | IN_MOVED_TO | IN_EXCL_UNLINK;

// A folder below another one, without any link on the way: what is a folder now may be a link in a
// moment.
class Confined {
 public:
  Confined() = default;
  Confined(const Confined&) = delete;
  Confined& operator=(const Confined&) = delete;
  ~Confined() {
    if (fd_ >= 0) close(fd_);
  }

  bool open(const std::string& root, const std::string& below) {
    int from = ::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (from < 0) return false;
    open_how how{};
    how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
    fd_ = static_cast<int>(::syscall(SYS_openat2, from, below.c_str(), &how, sizeof how));
    close(from);
    return fd_ >= 0;
  }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_ = -1;
};

}  // namespace

// Puts folders under watch that have appeared below the roots of watches, and looks whether roots
// that are files are still the same.
class Hub::Cover : public Job {
 public:
  explicit Cover(std::shared_ptr<Hub> hub) : Job(""), hub_(std::move(hub)) {
    for (auto& [id, folder] : std::exchange(hub_->to_look_at_, {})) {
      auto it = hub_->watches_.find(id);
      if (it == hub_->watches_.end()) continue;
      const Watch* w = it->second;
      tasks_.push_back(
          {id, w->real_path_, std::move(folder), w->is_folder_, w->device_, w->inode_});
    }
  }

  static void start(std::unique_ptr<Cover> job) {
    job->prepare_alone(job->hub_->loop_, job->hub_->pools_);
    job->inotify_ = job->hub_->begin_job();
    job.release()->submit();
  }

 protected:
  int permit(const Access&) override { return 0; }  // see `find`

  Step work() override {
    for (Task& task : tasks_) {
      CheckedPath checked;
      if (task.is_folder) {
        if (!find(task, &checked)) continue;
        // What has gone meanwhile is covered as far as it is there.
        bool is_confined = hub_->access_ != nullptr;
        task.status = cover(inotify_, {is_confined ? checked.path() : task.root, is_confined},
                            task.folder, true, *this, &task.covered);
      } else {
        struct stat st;
        bool same = stat(task.root.c_str(), &st) == 0 && st.st_dev == task.device &&
                    st.st_ino == task.inode;
        task.status = same ? 0 : -ENOENT;
      }
    }
    return Step::kDone;
  }

  void ended() override {
    if (hub_->gone_) return;
    for (Task& task : tasks_) {
      auto it = hub_->watches_.find(task.watch);
      Watch* watch = it == hub_->watches_.end() ? nullptr : it->second;
      if (watch && !task.is_folder) {
        watch->add(task.status == 0 ? Watch::Type::kChange : Watch::Type::kDelete, "");
        if (task.status < 0) watch->end();
      }
      for (Covered& covered : task.covered) {
        if (watch) {
          hub_->take(watch, std::move(covered), true);
        } else {
          hub_->doubtful_.push_back(covered.wd);
        }
      }
      // Such as more folders than a user may watch: their events are missing.
      if (watch && task.is_folder && task.status < 0) watch->add(Watch::Type::kOverflow, "");
    }
    hub_->end_job();
  }

 private:
  struct Task {
    uint64_t watch;
    std::string root;
    std::string folder;
    bool is_folder;
    dev_t device;
    ino_t inode;
    int status = 0;
    std::vector<Covered> covered = {};
  };

  // Where not everything is granted: whether the folder is still what it was. It is not kept open
  // meanwhile, for then its end would not be told.
  bool find(const Task& task, CheckedPath* checked) const {
    if (!hub_->access_) return true;
    Refusal ignored;
    struct stat st;
    return hub_->access_->check_path(task.root, Access::kRead, Access::Last::kObject, checked,
                                     &ignored) == 0 &&
           fstat(checked->descriptor(), &st) == 0 && st.st_dev == task.device &&
           st.st_ino == task.inode;
  }

  std::shared_ptr<Hub> hub_;
  int inotify_ = -1;
  std::vector<Task> tasks_;
};

// Makes a watch, and covers what is there.
class Hub::Start : public Job {
 public:
  explicit Start(std::unique_ptr<Watch> watch)
      : Job(watch->path()), hub_(watch->hub_), watch_(std::move(watch)) {}

  static int run(lua_State* L, std::unique_ptr<Start> job) {
    rille_waiter* waiter = job->prepare(L);
    job->recursive_ = job->watch_->recursive_;
    job->inotify_ = job->hub_->begin_job();
    if (job->inotify_ < 0) job->early_error_ = -job->inotify_;
    job.release()->submit();
    return rille_park(L, waiter);
  }

 protected:
  int permit(const Access& access) override {
    syscall_ = "inotify_add_watch";
    return permit_path(access, Access::kRead, Access::Last::kObject);
  }

  Step work() override {
    if (early_error_ != 0) return fail("inotify_init", early_error_);
    root_ = inotify_add_watch(inotify_, path_.c_str(), kMask);
    if (root_ < 0) return fail("inotify_add_watch");
    if (stat(path_.c_str(), &st_) < 0) return fail("stat");
    std::unique_ptr<char, void (*)(void*)> real(realpath(path_.c_str(), nullptr), std::free);
    if (!real) return fail("realpath");
    real_path_ = real.get();
    covered_.push_back({"", root_, {}});
    if (!recursive_ || !S_ISDIR(st_.st_mode)) return Step::kDone;
    covered_.clear();
    int rc = cover(inotify_, {path_, checked_ != nullptr}, "", true, *this, &covered_);
    if (rc < 0) return fail(rc == -ENOSPC ? "inotify_add_watch" : "opendir", -rc);
    return Step::kDone;
  }

  void ended() override {
    if (hub_->gone_) return;
    if (status_ == 0 && !stopped()) {
      watch_->real_path_ = std::move(real_path_);
      watch_->root_ = root_;
      watch_->is_folder_ = S_ISDIR(st_.st_mode);
      watch_->device_ = st_.st_dev;
      watch_->inode_ = st_.st_ino;
      hub_->enter(watch_.get());
      for (Covered& covered : covered_) hub_->take(watch_.get(), std::move(covered), false);
    } else {
      if (root_ >= 0) hub_->doubtful_.push_back(root_);
      for (const Covered& covered : covered_) hub_->doubtful_.push_back(covered.wd);
    }
    hub_->end_job();
  }

  int push(lua_State* L) override {
    Class<Handle>::push(L, std::move(watch_));
    return 1;
  }

 private:
  std::shared_ptr<Hub> hub_;
  std::unique_ptr<Watch> watch_;
  bool recursive_ = false;
  int inotify_ = -1;
  int early_error_ = 0;
  int root_ = -1;
  std::string real_path_;
  struct stat st_ {};
  std::vector<Covered> covered_;
};

// Covers a folder and, if it is to be so, those below it. Returns 0 or a negative errno; what has
// gone meanwhile is left out. Links are followed only at the root.
int Hub::cover(int inotify, const Root& from, const std::string& folder, bool recursive,
               const Job& job, std::vector<Covered>* covered) {
  const std::string& root = from.path;
  std::string prefix = root.back() == '/' ? root : root + "/";
  std::vector<std::string> open{folder};
  while (!open.empty()) {
    if (job.stopped()) return -ECANCELED;
    std::string at = std::move(open.back());
    open.pop_back();
    bool is_root = at.empty();
    std::string below = at.substr(0, at.size() - (is_root ? 0 : 1));
    std::string path = is_root ? root : prefix + below;
    Confined place;
    bool is_confined = from.is_confined && !is_root;
    if (is_confined) {
      if (!place.open(root, below)) continue;
      path = place.path();
    }
    uint32_t mask = kMask | IN_ONLYDIR | (is_root || is_confined ? 0 : IN_DONT_FOLLOW);
    int wd = inotify_add_watch(inotify, path.c_str(), mask);
    if (wd < 0) {
      if (errno == ENOSPC || errno == ENOMEM || is_root) return -errno;
      continue;
    }
    Covered result{at, wd, {}};
    Directory directory;
    int rc = directory.open(AT_FDCWD, path.c_str(), is_root || is_confined);
    Directory::Entry entry;
    while (rc == 0 && (rc = directory.next(&entry)) > 0) {
      rc = 0;
      bool is_folder = entry.type == DT_DIR;
      result.entries.emplace_back(std::string(entry.name), is_folder);
      if (is_folder && recursive) open.push_back(at + std::string(entry.name) + "/");
    }
    covered->push_back(std::move(result));
    if (rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM || (rc < 0 && is_root)) return rc;
  }
  return 0;
}

int Hub::start(lua_State* L, std::unique_ptr<Watch> watch) {
  return Start::run(L, std::make_unique<Start>(std::move(watch)));
}

void Hub::submit_jobs() {
  if (to_look_at_.empty()) return;
  Cover::start(std::make_unique<Cover>(shared_from_this()));
}

}  // namespace rille::fs
