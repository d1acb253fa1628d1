// What the bindings that come with Rille ask before they reach outside of the interpreter: whether
// a script may. Where everything is granted there is nothing to ask.
#pragma once

#include <lua.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace rille {

// A path as the system may be given it once it was checked: it leads to the checked place whatever
// is renamed or linked meanwhile, for as long as this lives.
class CheckedPath {
 public:
  CheckedPath() = default;
  CheckedPath(const CheckedPath&) = delete;
  CheckedPath& operator=(const CheckedPath&) = delete;
  ~CheckedPath() { release(); }

  const std::string& path() const { return path_; }
  // What that goes through: the folder, or for Access::Last::kObject the object itself.
  int descriptor() const { return fd_; }
  // The part of the path that is found from there; empty for the object itself.
  std::string below() const;
  // The path that was asked about, where `text` begins with the checked one.
  std::string shown(const std::string& text) const;
  void release();

 private:
  friend class Access;
  int fd_ = -1;
  std::string path_;
  std::string asked_;
};

// Why something is not granted, and what would grant it.
struct Refusal {
  std::string message;
  std::string needs;  // the option that would grant it; empty if none would
  std::string path;   // or empty

  // Pushes the PermissionError.
  void push(lua_State* L) const;
};

// What a runtime's scripts may reach. Files and commands may be asked about on any thread, all else
// on the loop's.
class Access : public std::enable_shared_from_this<Access> {
 public:
  // Null where everything is granted. Lives as long as the runtime; who needs it longer shares it.
  static Access* of(lua_State* L);
  static std::shared_ptr<const Access> share(lua_State* L) {
    Access* access = of(L);
    return access ? access->shared_from_this() : nullptr;
  }
  // Done once, when the runtime starts.
  static void install(lua_State* L, Access* access);

  enum Need : unsigned { kRead = 1, kWrite = 2 };
  enum class Last {
    kObject,  // what is there, behind links
    kEntry,   // the name itself: to remove it, to make a folder or a link
    kNew,     // the file that writing to this path would make or fill, behind links: open it with
              // O_NOFOLLOW
    kTree,    // a folder that is made together with those above it
  };
  // The result of a check that was refused; other failures are negative numbers of errno.
  static constexpr int kRefused = -1000000;

  virtual int check_path(const std::string& path, unsigned needs, Last last, CheckedPath* checked,
                         Refusal* refusal) const = 0;

  // Hosts by their names or addresses. A name may be looked up if it is granted with some port.
  virtual bool may_look_up(std::string_view host, Refusal* refusal) const = 0;
  // Of what a name stands for, what may be reached; takes note of it.
  virtual bool filter_addresses(std::string_view host, std::vector<std::string>* ips,
                                Refusal* refusal) = 0;
  // `ip` is an IP address. Port 0 is any.
  virtual bool may_reach(std::string_view ip, int port, Refusal* refusal) const = 0;
  // A host as the script gave it, before it is looked up.
  virtual bool may_reach_host(std::string_view host, int port, Refusal* refusal) const = 0;
  // Everything of the network: sockets without a path or an address.
  virtual bool may_reach_all(std::string_view what, Refusal* refusal) const = 0;

  // A command as the child is to find it, relative to the folder `directory` is open for. Puts the
  // path that was checked, in which no link is left, in its place.
  virtual bool may_run(int directory, std::string* program, const std::string& name,
                       Refusal* refusal) const = 0;
  // Whether there is any grant under this name, before it is looked for.
  virtual bool may_run_name(const std::string& name, Refusal* refusal) const = 0;
  // Whether every command may be run, and so other processes be sent signals.
  virtual bool may_signal(Refusal* refusal) const = 0;

  virtual bool may_use_variable(std::string_view name, Refusal* refusal) const = 0;
  // Without variables granted there is nothing to list.
  virtual bool may_list_variables(Refusal* refusal) const = 0;
  // A child's environment when the script gives none: what is granted, and PATH.
  virtual bool is_handed_on(std::string_view entry) const = 0;

  // What belongs to the whole process: its title.
  virtual bool may_change_process(std::string_view what, Refusal* refusal) const = 0;
  // What a program may do with its own process, and a script not with its host's: to go to another
  // folder, to take its signals.
  virtual bool may_steer_process(std::string_view what, Refusal* refusal) const = 0;

 protected:
  virtual ~Access() = default;
  static void set(CheckedPath* checked, int fd, std::string path, const std::string& asked);
};

// Pushes the PermissionError and returns 1: the error of a waiting function, or to be raised.
inline int push_refusal(lua_State* L, const Refusal& refusal) {
  refusal.push(L);
  return 1;
}

}  // namespace rille
