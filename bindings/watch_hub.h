// What the system tells of changes in folders: one inotify instance for all watches of a runtime,
// since a user may have only some of these.
#pragma once

#include <sys/inotify.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "fs_job.h"
#include "wait_point.h"

namespace rille::fs {

class Hub;

// A folder, or a file, that a job has put under the hub's watch. `folder` is its way from the root:
// "" or "a/b/".
struct Covered {
  std::string folder;
  int wd = -1;
  std::vector<std::pair<std::string, bool>> entries;  // names, and whether they are folders
};

// One watch: what it covers, and the events that nobody has taken yet.
class Watch {
 public:
  enum class Type { kCreate, kChange, kDelete, kRename, kOverflow };
  struct Event {
    Type type;
    std::string name;  // the way from the root; empty for the root itself
    std::string from;  // of a rename
  };

  Watch(std::shared_ptr<Hub> hub, std::string path, bool recursive)
      : hub_(std::move(hub)), path_(std::move(path)), recursive_(recursive) {}
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch();

  const std::string& path() const { return path_; }
  // The path of an event's name.
  std::string path_of(const std::string& name) const;

  // An event, or after the last one false.
  bool has_event() const { return !events_.empty(); }
  bool has_ended() const { return ended_; }
  Event take_event();

  // Lets go of all, once and for all; whoever waits is woken.
  void close();

  WaitPoint waiting;

 private:
  friend class Hub;

  void add(Type type, std::string name, std::string from = {});
  void end();

  std::shared_ptr<Hub> hub_;
  std::string path_;
  std::string real_path_;  // also when the working directory is another one
  bool recursive_;
  uint64_t id_ = 0;  // none until it is registered
  int root_ = -1;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  bool is_folder_ = false;
  std::unordered_map<int, std::string> folders_;  // by watch descriptor
  // Entries of new folders that were found by looking: the system may tell of them as well.
  std::unordered_map<int, std::unordered_set<std::string>> found_;
  uint64_t found_until_ = 0;
  std::unordered_set<uint32_t> renames_;  // whose second event is still to come
  std::deque<Event> events_;
  bool overflown_ = false;
  bool ended_ = false;
};

class Hub : public std::enable_shared_from_this<Hub> {
 public:
  // The hub of a runtime; made when it is first asked for.
  static std::shared_ptr<Hub> of(lua_State* L);

  explicit Hub(lua_State* L);
  ~Hub();

  // Starts a watch and puts the calling task to sleep until it is in force.
  static int start(lua_State* L, std::unique_ptr<Watch> watch);
  // The userdata that Lua has, pushed by the above.
  struct Handle {
    static constexpr char kName[] = "rille.core.Watch";
    explicit Handle(std::unique_ptr<Watch> w) : watch(std::move(w)) {}
    std::unique_ptr<Watch> watch;
  };

  // The runtime ends: nothing of the loop's may be touched from here on.
  void shut_down();

 private:
  friend class Watch;
  class Cover;
  class Start;

  // For jobs. While one runs no events are read: they may be of what it covers.
  int begin_job();
  void end_job();
  struct Root {
    const std::string& path;
    bool is_confined;  // nothing outside of it may be met, whatever changes meanwhile
  };
  static int cover(int inotify, const Root& from, const std::string& folder, bool recursive,
                   const Job& job, std::vector<Covered>* covered);

  void enter(Watch* watch);
  void leave(Watch* watch);
  void take(Watch* watch, Covered covered, bool tell);
  void forget(Watch* watch, int wd);
  void drop(int wd);
  void forget_below(Watch* watch, const std::string& folder);
  void move_below(Watch* watch, const std::string& from, const std::string& to);

  void read_on();
  void work_off();
  const inotify_event* partner(std::size_t at, uint32_t cookie) const;
  void tell(const inotify_event* event, const inotify_event* other);
  void tell_one(Watch* watch, const inotify_event* event, const inotify_event* other);
  void overflow();
  void look_at(Watch* watch, const std::string& folder);
  void submit_jobs();
  void wait_for_partner();

  const inotify_event* event_at(std::size_t at) const {
    return reinterpret_cast<const inotify_event*>(input_.data() + at);
  }

  uv_loop_t* loop_;
  std::shared_ptr<const Access> access_;  // null where everything is granted
  Pools* pools_;
  int fd_ = -1;
  bool gone_ = false;
  rille::Handle<uv_poll_t> poll_;
  rille::Handle<uv_timer_t> timer_;

  std::unordered_map<uint64_t, Watch*> watches_;
  uint64_t last_id_ = 0;
  std::unordered_map<int, std::vector<Watch*>> targets_;
  std::vector<int> doubtful_;  // perhaps nobody's any more
  int jobs_ = 0;

  Buffer input_;
  // Places in all that was ever read, in bytes.
  uint64_t input_start_ = 0;
  uint64_t current_ = 0;         // the event that is being told
  uint64_t waiting_until_ = 0;   // the timer is for the moves before this
  uint64_t complete_until_ = 0;  // what has no partner up to here will not get one
  std::vector<std::pair<uint64_t, std::string>> to_look_at_;
};

}  // namespace rille::fs
