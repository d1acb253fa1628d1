#include "permissions.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <rille/module.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace rille {

// ---- what the bindings hold --------------------------------------------------------------------

void CheckedPath::release() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

std::string CheckedPath::below() const {
  constexpr std::string_view kLinks = "/proc/self/fd/";  // 12/a/b
  std::size_t at = path_.find('/', kLinks.size());
  return fd_ < 0 || at == path_.npos ? std::string() : path_.substr(at + 1);
}

std::string CheckedPath::shown(const std::string& text) const {
  if (path_.empty() || text.compare(0, path_.size(), path_) != 0) return text;
  return asked_ + text.substr(path_.size());
}

void Access::set(CheckedPath* checked, int fd, std::string path, const std::string& asked) {
  checked->release();
  checked->fd_ = fd;
  checked->path_ = std::move(path);
  checked->asked_ = asked;
}

void Refusal::push(lua_State* L) const {
  rille_push_error(L, "PermissionError", "EACCES", message.c_str());
  auto set = [L](const char* name, const std::string& text) {
    if (text.empty()) return;
    lua_pushlstring(L, text.data(), text.size());
    lua_setfield(L, -2, name);
  };
  set("needs", needs);
  set("path", path);
}

namespace {
const char kAccessKey = 0;
}

Access* Access::of(lua_State* L) {
  lua_pushlightuserdata(L, const_cast<char*>(&kAccessKey));
  lua_rawget(L, LUA_REGISTRYINDEX);
  auto* access = static_cast<Access*>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  return access;
}

void Access::install(lua_State* L, Access* access) {
  lua_pushlightuserdata(L, const_cast<char*>(&kAccessKey));
  lua_pushlightuserdata(L, access);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  bool is_open() const { return fd_ >= 0; }

 private:
  int fd_;
};

// O_PATH opens nothing: a device, a FIFO or a socket does not learn of it.
Descriptor find(const std::string& path, int flags = 0) {
  return Descriptor(open(path.c_str(), O_PATH | O_CLOEXEC | flags));
}

std::string link_to(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

std::string read_link(int directory, const char* name) {
  char target[PATH_MAX];
  ssize_t n = readlinkat(directory, name, target, sizeof target);
  return n < 0 ? std::string() : std::string(target, static_cast<std::size_t>(n));
}

// Where the thing is that a descriptor was opened for; what is in no file system has no "/".
std::string real_path(int fd) { return read_link(AT_FDCWD, link_to(fd).c_str()); }

std::string join(std::string folder, std::string_view name) {
  if (folder.empty() || folder.back() != '/') folder += '/';
  return folder += name;
}

// The folder of a path, as it can be opened, and the last component; slashes at the end are cut.
struct Split {
  std::string folder, name;
  bool slash = false;
};

Split split(std::string path) {
  Split result;
  while (path.size() > 1 && path.back() == '/') {
    path.pop_back();
    result.slash = true;
  }
  std::size_t at = path.rfind('/');
  result.name = at == path.npos ? path : path.substr(at + 1);
  result.folder = at == path.npos ? "." : at == 0 ? "/" : path.substr(0, at);
  return result;
}

bool is_plain(const std::string& name) { return !name.empty() && name != "." && name != ".."; }

// Cuts "." and ".." out of an absolute path; for what does not exist.
std::string normalized(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    std::size_t end = std::min(path.find('/'), path.size());
    std::string_view part = path.substr(0, end);
    path.remove_prefix(std::min(end + 1, path.size()));
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else if (!parts.empty()) {
      parts.pop_back();
    }
  }
  std::string result;
  for (std::string_view part : parts) (result += '/') += part;
  return result.empty() ? "/" : result;
}

// The place of a path without links, also where its end does not exist.
std::string place_of(const std::string& path) {
  std::string rest;
  std::string start = path.empty() ? "." : path;
  for (;;) {
    Descriptor fd = find(start);
    if (fd.is_open()) {
      std::string real = real_path(fd.get());
      return rest.empty() ? real : normalized(join(real, rest));
    }
    if (start == "/" || start == ".") return normalized(join("/", rest));
    Split parts = split(start);
    rest = rest.empty() ? parts.name : join(parts.name, rest);
    start = parts.folder;
  }
}

// Folders of the kernel and of devices: whoever grants the root does not mean them.
bool is_special(std::string_view path) {
  for (std::string_view folder : {"/proc", "/sys", "/dev"}) {
    if (path.substr(0, folder.size()) == folder &&
        (path.size() == folder.size() || path[folder.size()] == '/')) {
      return true;
    }
  }
  return false;
}

const char* suggestion_folder(const std::string& real, std::string* space) {
  struct stat st;
  bool is_folder = stat(real.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
  *space = is_folder ? real : split(real).folder;
  return space->c_str();
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

// An address in its usual form; an IPv4 address inside of an IPv6 one is that address.
std::string usual_address(std::string text) {
  if (!text.empty() && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
  }
  std::string bare = text.substr(0, text.find('%'));
  in_addr v4;
  in6_addr v6;
  char space[INET6_ADDRSTRLEN];
  if (inet_pton(AF_INET, bare.c_str(), &v4) == 1) {
    return inet_ntop(AF_INET, &v4, space, sizeof space);
  }
  if (inet_pton(AF_INET6, bare.c_str(), &v6) == 1) {
    if (IN6_IS_ADDR_V4MAPPED(&v6)) {
      return inet_ntop(AF_INET, v6.s6_addr + 12, space, sizeof space);
    }
    return inet_ntop(AF_INET6, &v6, space, sizeof space);
  }
  return {};
}

// A name without the dot at its end; an address in its usual form.
std::string usual_host(std::string_view host) {
  std::string text = lower(host);
  std::string address = usual_address(text);
  if (!address.empty()) return address;
  if (text.size() > 1 && text.back() == '.') text.pop_back();
  return text;
}

bool is_loopback(std::string_view ip) { return ip == "::1" || ip.substr(0, 4) == "127."; }

// Addresses that a name elsewhere has no business to stand for: this machine, and what is on its
// own link.
bool is_local(std::string_view ip) {
  bool is_of_link = ip.size() > 4 && ip.substr(0, 2) == "fe" && ip[3] != ':' && ip[4] == ':' &&
                    std::string_view("89ab").find(ip[2]) != std::string_view::npos;
  return is_loopback(ip) || is_of_link || ip == "::" || ip.substr(0, 2) == "0." ||
         ip.substr(0, 8) == "169.254.";
}

bool is_localhost(std::string_view name) {
  constexpr std::string_view kEnd = ".localhost";
  return name == "localhost" ||
         (name.size() > kEnd.size() && name.substr(name.size() - kEnd.size()) == kEnd);
}

std::string host_text(std::string_view host, int port) {
  std::string text(host);
  if (host.find(':') != host.npos) text.insert(0, 1, '[').append("]");
  return port > 0 ? text.append(":").append(std::to_string(port)) : text;
}

bool refuse(Refusal* refusal, std::string what, const char* function, const char* option,
            const std::string& grant, std::string path = {}) {
  refusal->message = std::move(what) + " is not granted (" + function + " \"" + grant + "\", " +
                     option + "=" + grant + ")";
  refusal->needs = std::string(option) + "=" + grant;
  refusal->path = std::move(path);
  return false;
}

// "host", "host:port", "[v6]:port", "v6".
std::pair<std::string, int> parse_host(const std::string& grant) {
  if (!usual_address(grant).empty()) return {usual_address(grant), -1};
  std::size_t colon = grant.rfind(':');
  int port = -1;
  constexpr int kNone = -2;  // what is no port is not any port
  std::string host = grant;
  if (colon != grant.npos && grant.find_first_not_of("0123456789", colon + 1) == grant.npos &&
      colon + 1 < grant.size()) {
    auto end = grant.data() + grant.size();
    auto [_, error] = std::from_chars(grant.data() + colon + 1, end, port);
    if (error != std::errc() || port > 65535) port = kNone;
    host = grant.substr(0, colon);
  } else if (colon != grant.npos && grant.substr(colon) == ":*") {
    host = grant.substr(0, colon);
  }
  return {usual_host(host), port};
}

}  // namespace

// ---- what is granted ---------------------------------------------------------------------------

bool Grants::Paths::covers(std::string_view path) const {
  if (all) return true;
  if (path.empty() || path[0] != '/') return false;
  for (const std::string& folder : list) {
    if (is_special(path) && !is_special(folder)) continue;
    if (folder == "/") return true;
    if (path.substr(0, folder.size()) == folder &&
        (path.size() == folder.size() || path[folder.size()] == '/')) {
      return true;
    }
  }
  return false;
}

bool Grants::Names::has(std::string_view name) const {
  return std::find(list.begin(), list.end(), name) != list.end();
}

Grants::Paths Grants::make_paths(const std::vector<std::string>& grants) {
  Paths paths;
  for (const std::string& grant : grants) {
    if (grant == "*") {
      paths.all = true;
    } else if (!grant.empty()) {  // a variable of a shell's that is not set grants nothing
      paths.list.push_back(place_of(grant));
    }
  }
  return paths;
}

Grants::Names Grants::make_names(const std::vector<std::string>& grants) {
  Names names;
  for (const std::string& grant : grants) {
    if (grant == "*") names.all = true;
    if (!grant.empty()) names.list.push_back(grant);
  }
  return names;
}

namespace {

// A program by the folder that it is really in and by its own name: one file may be several
// commands, by the names of links to it.
std::string program_place(int directory, const std::string& path) {
  Split parts = split(path);
  Descriptor folder(openat(directory, parts.folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  return folder.is_open() ? join(real_path(folder.get()), parts.name) : std::string();
}

std::string find_in_path(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::string_view rest = path ? path : "/bin:/usr/bin";
  while (!rest.empty()) {
    std::size_t end = std::min(rest.find(':'), rest.size());
    std::string candidate = join(std::string(rest.substr(0, end)), name);
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return {};
}

}  // namespace

Grants::Grants(const Permissions& permissions, bool owns_process)
    : read_(make_paths(permissions.read())),
      write_(make_paths(permissions.write())),
      commands_(make_names(permissions.run())),
      variables_(make_names(permissions.env())),
      owns_process_(owns_process) {
  for (const std::string& grant : permissions.net()) {
    if (grant.empty()) continue;
    auto [host, port] = parse_host(grant);
    hosts_.push_back({std::move(host), port});
  }
  for (const std::string& grant : commands_.list) {
    std::string path = grant.find('/') == grant.npos ? find_in_path(grant) : grant;
    if (!path.empty()) programs_.push_back(program_place(AT_FDCWD, path));
  }
  if (permissions.everything()) {
    read_.all = write_.all = commands_.all = variables_.all = true;
    hosts_.push_back({"*", -1});
  }
}

// What names have been found to stand for is written to by another thread meanwhile.
Grants::Grants(const Grants& other)
    : read_(other.read_),
      write_(other.write_),
      hosts_(other.hosts_),
      commands_(other.commands_),
      variables_(other.variables_),
      programs_(other.programs_),
      owns_process_(other.owns_process_) {}

// ---- files -------------------------------------------------------------------------------------

int Grants::check_real(const std::string& asked, const std::string& real, unsigned needs,
                       Refusal* refusal) const {
  std::string space;
  if ((needs & kRead) && !read_.covers(real)) {
    refuse(refusal, "read access to '" + asked + "'", "allow_read", "--allow-read",
           suggestion_folder(real, &space), asked);
    return kRefused;
  }
  if ((needs & kWrite) && !write_.covers(real)) {
    refuse(refusal, "write access to '" + asked + "'", "allow_write", "--allow-write",
           suggestion_folder(real, &space), asked);
    return kRefused;
  }
  return 0;
}

// What is not there, or cannot be seen: whether it is, is for those to know who may look there.
int Grants::check_missing(const std::string& path, int error, unsigned needs,
                          Refusal* refusal) const {
  if (path.empty()) return -error;
  int rc = check_real(path, place_of(path), needs, refusal);
  return rc < 0 ? rc : -error;
}

int Grants::check_object(const std::string& path, unsigned needs, CheckedPath* checked,
                         Refusal* refusal) const {
  Descriptor fd = find(path);
  if (!fd.is_open()) return check_missing(path, errno, needs, refusal);
  int rc = check_real(path, real_path(fd.get()), needs, refusal);
  if (rc < 0) return rc;
  int number = fd.release();
  set(checked, number, link_to(number), path);
  return 0;
}

int Grants::check_new(std::string path, unsigned needs, CheckedPath* checked,
                      Refusal* refusal) const {
  const std::string asked = path;
  constexpr int kMostLinks = 40;
  for (int links = 0; links <= kMostLinks; ++links) {
    Split parts = split(path);
    if (!is_plain(parts.name) || parts.slash) return check_object(path, needs, checked, refusal);
    Descriptor folder = find(parts.folder, O_DIRECTORY);
    if (!folder.is_open()) return check_missing(asked, errno, needs, refusal);
    std::string real = real_path(folder.get());
    std::string target = read_link(folder.get(), parts.name.c_str());
    if (!target.empty()) {
      path = target[0] == '/' ? target : join(real, target);
      continue;
    }
    int rc = check_real(asked, join(real, parts.name), needs, refusal);
    if (rc < 0) return rc;
    int number = folder.release();
    set(checked, number, join(link_to(number), parts.name), asked);
    return 0;
  }
  return -ELOOP;
}

int Grants::check_tree(const std::string& path, unsigned needs, CheckedPath* checked,
                       Refusal* refusal) const {
  std::string start = path;
  std::string rest;
  for (;;) {
    Descriptor fd = find(start);
    if (fd.is_open()) {
      if (rest.empty()) return check_object(path, needs, checked, refusal);
      std::string place = join(real_path(fd.get()), rest);
      // Where nothing is yet, ".." has nothing to go up from.
      if (normalized(place) != place) return check_missing(path, ENOENT, needs, refusal);
      int rc = check_real(path, place, needs, refusal);
      if (rc < 0) return rc;
      int number = fd.release();
      set(checked, number, join(link_to(number), rest), path);
      return 0;
    }
    if (errno != ENOENT || start == "/" || start == ".") {
      return check_missing(path, errno, needs, refusal);
    }
    Split parts = split(start);
    if (!is_plain(parts.name)) return check_missing(path, ENOENT, needs, refusal);
    rest = rest.empty() ? parts.name : join(parts.name, rest);
    start = parts.folder;
  }
}

int Grants::check_path(const std::string& path, unsigned needs, Last last, CheckedPath* checked,
                       Refusal* refusal) const {
  if (path.empty()) return -ENOENT;
  if (path.find('\0') != path.npos) return -EINVAL;
  if (last == Last::kObject) return check_object(path, needs, checked, refusal);
  if (last == Last::kNew) return check_new(path, needs, checked, refusal);
  if (last == Last::kTree) return check_tree(path, needs, checked, refusal);

  Split parts = split(path);
  bool is_name = is_plain(parts.name);
  Descriptor folder = find(is_name ? parts.folder : path, O_DIRECTORY);
  if (!folder.is_open()) return check_missing(path, errno, needs, refusal);
  std::string real = real_path(folder.get());
  if (is_name && parts.slash) {
    // A slash at the end asks for a folder, and follows a link.
    struct stat st;
    if (fstatat(folder.get(), parts.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) {
      if (S_ISLNK(st.st_mode)) {
        is_name = false;
        folder = find(join(parts.folder, parts.name));
        if (!folder.is_open()) return check_missing(path, errno, needs, refusal);
        real = real_path(folder.get());
        if (fstat(folder.get(), &st) == 0 && !S_ISDIR(st.st_mode)) {
          int rc = check_real(path, real, needs, refusal);
          return rc < 0 ? rc : -ENOTDIR;
        }
      } else if (!S_ISDIR(st.st_mode)) {
        int rc = check_real(path, join(real, parts.name), needs, refusal);
        return rc < 0 ? rc : -ENOTDIR;
      }
    }
  }
  int rc = check_real(path, is_name ? join(real, parts.name) : real, needs, refusal);
  if (rc < 0) return rc;
  int number = folder.release();
  set(checked, number, join(link_to(number), is_name ? parts.name : "."), path);
  return 0;
}

// ---- the network -------------------------------------------------------------------------------

bool Grants::names_address(std::string_view ip, int port) const {
  for (const Host& host : hosts_) {
    if (host.port != -1 && port > 0 && host.port != port) continue;
    if (host.port != -1 && host.port != 0 && port == 0) continue;
    if (host.name == "*" || host.name == ip) return true;
    if (is_localhost(host.name) && is_loopback(ip)) return true;
  }
  return false;
}

bool Grants::may_look_up(std::string_view text, Refusal* refusal) const {
  std::string name = usual_host(text);
  for (const Host& host : hosts_) {
    if (host.name == "*" || host.name == name) return true;
    if (is_localhost(name) && is_loopback(host.name)) return true;
  }
  return refuse(refusal, "network access to '" + name + "'", "allow_net", "--allow-net", name);
}

bool Grants::filter_addresses(std::string_view text, std::vector<std::string>* ips,
                              Refusal* refusal) {
  std::string name = usual_host(text);
  std::vector<int> ports;
  for (const Host& host : hosts_) {
    if (host.name == name) ports.push_back(host.port);
  }
  std::string refused;
  auto is_refused = [&](const std::string& text) {
    std::string ip = usual_address(text);
    bool by_address = std::any_of(hosts_.begin(), hosts_.end(), [&](const Host& host) {
      return host.name == "*" || host.name == ip || (is_localhost(host.name) && is_loopback(ip));
    });
    if (by_address) return false;
    if (!ports.empty() && !is_local(ip)) {
      std::vector<int>& known = found_[ip];
      for (int port : ports) {
        if (std::find(known.begin(), known.end(), port) == known.end()) known.push_back(port);
      }
      return false;
    }
    refused = ip;
    return true;
  };
  ips->erase(std::remove_if(ips->begin(), ips->end(), is_refused), ips->end());
  if (!ips->empty() || refused.empty()) return true;
  return refuse(refusal, "network access to '" + name + "', which is " + refused + " here,",
                "allow_net", "--allow-net", host_text(refused, 0));
}

bool Grants::may_reach(std::string_view text, int port, Refusal* refusal) const {
  std::string ip = usual_address(std::string(text));
  if (names_address(ip, port)) return true;
  if (auto known = found_.find(ip); known != found_.end()) {
    for (int granted : known->second) {
      if (granted == -1 || granted == port) return true;
    }
  }
  std::string grant = host_text(ip, port);
  return refuse(refusal, "network access to '" + grant + "'", "allow_net", "--allow-net", grant);
}

bool Grants::may_reach_host(std::string_view text, int port, Refusal* refusal) const {
  std::string name = usual_host(text);
  if (!usual_address(name).empty()) return may_reach(name, port, refusal);
  for (const Host& host : hosts_) {
    if (host.port != -1 && port > 0 && host.port != port) continue;
    if (host.name == "*" || host.name == name) return true;
    if (is_localhost(name) && (is_localhost(host.name) || is_loopback(host.name))) return true;
  }
  std::string grant = host_text(name, port);
  return refuse(refusal, "network access to '" + grant + "'", "allow_net", "--allow-net", grant);
}

bool Grants::may_reach_all(std::string_view what, Refusal* refusal) const {
  for (const Host& host : hosts_) {
    if (host.name == "*" && host.port == -1) return true;
  }
  return refuse(refusal, std::string(what), "allow_net", "--allow-net", "*");
}

// ---- processes ---------------------------------------------------------------------------------

bool Grants::may_run_name(const std::string& name, Refusal* refusal) const {
  if (commands_.all) return true;
  std::string last = split(name).name;
  for (const std::string& program : programs_) {
    if (split(program).name == last) return true;
  }
  return refuse(refusal, "running '" + name + "'", "allow_run", "--allow-run", name);
}

bool Grants::may_run(int directory, std::string* program, const std::string& name,
                     Refusal* refusal) const {
  if (commands_.all) return true;
  std::string place = program_place(directory, *program);
  if (std::find(programs_.begin(), programs_.end(), place) != programs_.end()) {
    *program = std::move(place);
    return true;
  }
  return refuse(refusal, "running '" + name + "'", "allow_run", "--allow-run",
                place.empty() ? name : place);
}

bool Grants::may_signal(Refusal* refusal) const {
  return commands_.all ||
         refuse(refusal, "sending signals to processes", "allow_run", "--allow-run", "*");
}

// ---- the environment ---------------------------------------------------------------------------

bool Grants::may_use_variable(std::string_view name, Refusal* refusal) const {
  // What the loader of programs and the C library read would make any command another one, and
  // OpenSSL's would load code into this process.
  static constexpr std::string_view kLoaders[] = {
      "GLIBC_TUNABLES", "GCONV_PATH", "GETCONF_DIR", "HOSTALIASES", "LOCALDOMAIN",
      "LOCPATH",        "NLSPATH",    "NIS_PATH",    "RES_OPTIONS", "RESOLV_HOST_CONF"};
  auto begins = [&](std::string_view with) { return name.substr(0, with.size()) == with; };
  bool is_loaders = begins("LD_") || begins("MALLOC_") || begins("OPENSSL_") ||
                    std::find(std::begin(kLoaders), std::end(kLoaders), name) != std::end(kLoaders);
  if ((variables_.all && !is_loaders) || variables_.has(name)) return true;
  return refuse(refusal, "the variable '" + std::string(name) + "' of the environment", "allow_env",
                "--allow-env", std::string(name));
}

bool Grants::may_list_variables(Refusal* refusal) const {
  if (!variables_.list.empty() || variables_.all) return true;
  return refuse(refusal, "the environment", "allow_env", "--allow-env", "*");
}

bool Grants::is_handed_on(std::string_view entry) const {
  std::string_view name = entry.substr(0, entry.find('='));
  Refusal ignored;
  return name == "PATH" || may_use_variable(name, &ignored);
}

bool Grants::may_change_process(std::string_view what, Refusal* refusal) const {
  refusal->message = std::string(what) + " is not granted (it is the whole process's)";
  return false;
}

bool Grants::may_steer_process(std::string_view what, Refusal* refusal) const {
  return owns_process_ || commands_.all ||
         refuse(refusal, std::string(what), "allow_run", "--allow-run", "*");
}

}  // namespace rille
