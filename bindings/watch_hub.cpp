#include "watch_hub.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace rille::fs {

namespace {

// Events that a watch keeps for a slow script; then it only knows that there were more.
constexpr std::size_t kMostEvents = 65536;

constexpr uint32_t kComesOrGoes = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO;

bool starts_with(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

std::string name_of(const inotify_event* event) { return event->len > 0 ? event->name : ""; }

}  // namespace

// ---- Watch -------------------------------------------------------------------------------------

Watch::~Watch() { hub_->leave(this); }

void Watch::close() {
  hub_->leave(this);
  id_ = 0;
  events_.clear();
  end();
}

std::string Watch::path_of(const std::string& name) const {
  if (name.empty()) return path_;
  return path_.back() == '/' ? path_ + name : path_ + "/" + name;
}

Watch::Event Watch::take_event() {
  Event event = std::move(events_.front());
  events_.pop_front();
  overflown_ = overflown_ && !events_.empty();
  return event;
}

void Watch::add(Type type, std::string name, std::string from) {
  if (ended_ || overflown_) return;
  if (events_.size() >= kMostEvents) {
    type = Type::kOverflow;
    name.clear();
    overflown_ = true;
  }
  // Whoever writes a lot makes many events that say the same.
  if (type == Type::kChange && !events_.empty() && events_.back().type == type &&
      events_.back().name == name) {
    return;
  }
  events_.push_back({type, std::move(name), std::move(from)});
  waiting.wake();
}

void Watch::end() {
  ended_ = true;
  waiting.wake();
}

// ---- jobs --------------------------------------------------------------------------------------

// Returns the descriptor, or a negative errno.
int Hub::begin_job() {
  ++jobs_;
  if (poll_) uv_poll_stop(poll_.get());
  if (fd_ < 0) fd_ = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  return fd_ < 0 ? -errno : fd_;
}

void Hub::end_job() {
  if (--jobs_ > 0) return;
  for (int wd : std::exchange(doubtful_, {})) {
    if (targets_.find(wd) == targets_.end()) inotify_rm_watch(fd_, wd);
  }
  if (watches_.empty()) {
    poll_.reset();
    timer_.reset();
    if (fd_ >= 0) close(std::exchange(fd_, -1));
    input_.release();
    return;
  }
  if (!poll_) {
    poll_.reset(new uv_poll_t);
    uv_poll_init(loop_, poll_.get(), fd_);
    poll_->data = this;
    uv_unref(reinterpret_cast<uv_handle_t*>(poll_.get()));
  }
  work_off();
  if (jobs_ > 0) return;
  uv_poll_start(poll_.get(), UV_READABLE,
                [](uv_poll_t* handle, int, int) { static_cast<Hub*>(handle->data)->read_on(); });
}

// ---- who is told -------------------------------------------------------------------------------

namespace {

const char kHubKey = 0;

struct Holder {
  static constexpr char kName[] = "rille.core.WatchHub";
  explicit Holder(std::shared_ptr<Hub> h) : hub(std::move(h)) {}
  ~Holder() { hub->shut_down(); }
  std::shared_ptr<Hub> hub;
};

}  // namespace

std::shared_ptr<Hub> Hub::of(lua_State* L) {
  void* key = const_cast<char*>(&kHubKey);
  lua_pushlightuserdata(L, key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  auto* holder = static_cast<Holder*>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  if (!holder) {
    const rille_reg none[] = {{nullptr, nullptr, 0}};
    Class<Holder>::define(L, none);
    Class<Handle>::define(L, none);
    lua_pushlightuserdata(L, key);
    holder = Class<Holder>::push(L, std::make_shared<Hub>(L));
    lua_rawset(L, LUA_REGISTRYINDEX);
  }
  return holder->hub;
}

Hub::Hub(lua_State* L) : loop_(rille_loop(L)), access_(Access::share(L)), pools_(&pools_of(L)) {}

Hub::~Hub() {
  if (fd_ >= 0) close(fd_);
}

void Hub::shut_down() {
  gone_ = true;
  poll_.reset();
  timer_.reset();
}

void Hub::enter(Watch* watch) {
  watch->id_ = ++last_id_;
  watches_[watch->id_] = watch;
}

void Hub::leave(Watch* watch) {
  if (gone_ || watch->id_ == 0) return;
  watches_.erase(watch->id_);
  // The last one: all goes at once.
  bool last = watches_.empty() && jobs_ == 0;
  for (const auto& [wd, folder] : watch->folders_) {
    auto it = targets_.find(wd);
    auto& list = it->second;
    list.erase(std::remove(list.begin(), list.end(), watch), list.end());
    if (!list.empty()) continue;
    targets_.erase(it);
    if (!last) drop(wd);
  }
  watch->folders_.clear();
  if (!last) return;
  ++jobs_;
  end_job();
}

// Nobody wants to know of it any more, unless a job that runs has just asked for it.
void Hub::drop(int wd) {
  if (jobs_ > 0) {
    doubtful_.push_back(wd);
  } else {
    inotify_rm_watch(fd_, wd);
  }
}

// A folder is covered. If it is new and appeared later, so are its entries.
void Hub::take(Watch* watch, Covered covered, bool tell) {
  auto [it, is_new] = watch->folders_.try_emplace(covered.wd, covered.folder);
  if (!is_new) {
    it->second = covered.folder;  // it may have been moved
    return;
  }
  targets_[covered.wd].push_back(watch);
  if (!tell) return;
  auto& found = watch->found_[covered.wd];
  for (auto& [name, is_folder] : covered.entries) {
    watch->add(Watch::Type::kCreate, covered.folder + name);
    found.insert(std::move(name));
  }
  int waiting = 0;
  ioctl(fd_, FIONREAD, &waiting);
  watch->found_until_ = input_start_ + input_.size() + static_cast<uint64_t>(waiting);
}

void Hub::forget(Watch* watch, int wd) {
  watch->folders_.erase(wd);
  watch->found_.erase(wd);
  auto it = targets_.find(wd);
  if (it == targets_.end()) return;
  auto& list = it->second;
  list.erase(std::remove(list.begin(), list.end(), watch), list.end());
  if (list.empty()) targets_.erase(it);
}

// A folder has left the watch, with all that is below it.
void Hub::forget_below(Watch* watch, const std::string& folder) {
  std::vector<int> gone;
  for (const auto& [wd, at] : watch->folders_) {
    if (starts_with(at, folder)) gone.push_back(wd);
  }
  for (int wd : gone) {
    forget(watch, wd);
    if (targets_.find(wd) == targets_.end()) drop(wd);
  }
}

void Hub::move_below(Watch* watch, const std::string& from, const std::string& to) {
  for (auto& [wd, at] : watch->folders_) {
    if (starts_with(at, from)) at = to + at.substr(from.size());
  }
}

// ---- events ------------------------------------------------------------------------------------

void Hub::read_on() {
  constexpr std::size_t kRoom = 64 << 10;
  if (!input_.reserve(input_.size() + kRoom)) return;
  ssize_t n = read_some(fd_, input_.data() + input_.size(), kRoom);
  if (n <= 0) return;
  input_.set_size(input_.size() + static_cast<std::size_t>(n));
  work_off();
}

// Works off what was read, up to where something has to be waited for.
void Hub::work_off() {
  std::size_t at = 0;
  while (at < input_.size()) {
    const inotify_event* event = event_at(at);
    std::size_t next = at + sizeof(inotify_event) + event->len;
    const inotify_event* other = nullptr;
    if (event->mask & IN_MOVED_FROM) {
      other = partner(next, event->cookie);
      if (!other && input_start_ + at >= complete_until_) {
        wait_for_partner();
        break;
      }
    }
    current_ = input_start_ + at;
    tell(event, other);
    at = next;
  }
  input_.drop_front(at);
  input_start_ += at;
  submit_jobs();
}

// The two events of a move come one right after the other, but between them it may be read.
void Hub::wait_for_partner() {
  constexpr int kMoment = 2;
  if (!timer_) {
    timer_.reset(new uv_timer_t);
    uv_timer_init(loop_, timer_.get());
    timer_->data = this;
    uv_unref(reinterpret_cast<uv_handle_t*>(timer_.get()));
  }
  if (uv_is_active(reinterpret_cast<uv_handle_t*>(timer_.get()))) return;
  waiting_until_ = input_start_ + input_.size();
  uv_timer_start(
      timer_.get(),
      [](uv_timer_t* handle) {
        Hub* self = static_cast<Hub*>(handle->data);
        self->complete_until_ = self->waiting_until_;
        if (self->jobs_ == 0) self->work_off();
      },
      kMoment, 0);
}

// The second event of a move, if it is there.
const inotify_event* Hub::partner(std::size_t at, uint32_t cookie) const {
  while (at < input_.size()) {
    const inotify_event* event = event_at(at);
    if ((event->mask & IN_MOVED_TO) && event->cookie == cookie) return event;
    at += sizeof(inotify_event) + event->len;
  }
  return nullptr;
}

void Hub::tell(const inotify_event* event, const inotify_event* other) {
  if (event->mask & IN_Q_OVERFLOW) return overflow();
  auto it = targets_.find(event->wd);
  if (it == targets_.end()) return;
  std::vector<Watch*> list = it->second;  // which may change
  for (Watch* watch : list) tell_one(watch, event, other);
}

void Hub::tell_one(Watch* watch, const inotify_event* event, const inotify_event* other) {
  using Type = Watch::Type;
  const uint32_t mask = event->mask;
  const std::string folder = watch->folders_[event->wd];
  bool is_root = event->wd == watch->root_;
  if (mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED)) {
    // Of a folder below the root the one above it tells.
    if (mask & IN_IGNORED) forget(watch, event->wd);
    if (!is_root) return;
    watch->add(mask & IN_MOVE_SELF ? Type::kRename : Type::kDelete, "");
    watch->end();
    return;
  }
  if (watch->ended_) return;
  if (event->len == 0) {
    if (!is_root) return;
    if (mask & IN_ATTRIB && !watch->is_folder_) {
      look_at(watch, "");  // it may have lost its name
    } else {
      watch->add(Type::kChange, "");
    }
    return;
  }

  // It was found by looking, and comes once more.
  std::string name = folder + event->name;
  if (current_ >= watch->found_until_) watch->found_.clear();
  auto found = watch->found_.find(event->wd);
  if (found != watch->found_.end() && mask & kComesOrGoes) {
    if (found->second.erase(event->name) > 0 && mask & (IN_CREATE | IN_MOVED_TO)) return;
  }

  bool deeper = watch->recursive_ && (mask & IN_ISDIR);
  if (mask & IN_CREATE) {
    watch->add(Type::kCreate, name);
    if (deeper) look_at(watch, name + "/");
  } else if (mask & IN_DELETE) {
    watch->add(Type::kDelete, name);
  } else if (mask & IN_MOVED_FROM) {
    auto to = other ? watch->folders_.find(other->wd) : watch->folders_.end();
    if (to == watch->folders_.end()) {
      watch->add(Type::kDelete, name);
      if (deeper) forget_below(watch, name + "/");
      return;
    }
    std::string new_name = to->second + name_of(other);
    if (deeper) {
      move_below(watch, name + "/", new_name + "/");
      look_at(watch, new_name + "/");
    }
    watch->renames_.insert(event->cookie);
    watch->add(Type::kRename, std::move(new_name), std::move(name));
  } else if (mask & IN_MOVED_TO) {
    // Told already, if it was moved within the watch.
    if (watch->renames_.erase(event->cookie) > 0) return;
    watch->add(Type::kCreate, name);
    if (deeper) look_at(watch, name + "/");
  } else {
    watch->add(Type::kChange, name);
  }
}

// The system has lost events: new folders are found by looking.
void Hub::overflow() {
  for (auto& [id, watch] : watches_) {
    watch->add(Watch::Type::kOverflow, "");
    if (watch->recursive_ && watch->is_folder_) look_at(watch, "");
  }
}

void Hub::look_at(Watch* watch, const std::string& folder) {
  to_look_at_.emplace_back(watch->id_, folder);
}

}  // namespace rille::fs
