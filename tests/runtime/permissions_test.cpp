// Permissions in the form in which they are asked: what is granted, and what only looks like it.
#include "permissions.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

using rille::Access;
using rille::CheckedPath;
using rille::Grants;
using rille::Permissions;
using rille::Refusal;

namespace {

constexpr auto kObject = Access::Last::kObject;
constexpr auto kEntry = Access::Last::kEntry;
constexpr auto kNew = Access::Last::kNew;
constexpr auto kTree = Access::Last::kTree;

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/rille-permissions-XXXXXX";
    REQUIRE(mkdtemp(name));
    path_ = std::filesystem::canonical(name).string();
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }
  void make(const std::string& name) const { std::filesystem::create_directories(*this / name); }
  void write(const std::string& name) const { std::ofstream(*this / name) << name; }
  void link(const std::string& target, const std::string& name) const {
    REQUIRE(symlink(target.c_str(), (*this / name).c_str()) == 0);
  }

 private:
  std::string path_;
};

Grants reading(const std::string& what) { return Grants(Permissions::none().allow_read(what)); }
Grants writing(const std::string& what) { return Grants(Permissions::none().allow_write(what)); }

int check(const Grants& grants, const std::string& path, Access::Last last = kObject,
          unsigned needs = Access::kRead, Refusal* refusal = nullptr) {
  CheckedPath checked;
  Refusal ignored;
  return grants.check_path(path, needs, last, &checked, refusal ? refusal : &ignored);
}

constexpr int kRefused = Access::kRefused;

Grants net(const std::vector<std::string>& hosts) {
  Permissions permissions = Permissions::none();
  for (const std::string& host : hosts) permissions.allow_net(host);
  return Grants(permissions);
}

bool reaches(const Grants& grants, const std::string& ip, int port) {
  Refusal refusal;
  return grants.may_reach(ip, port, &refusal);
}

bool reaches_host(const Grants& grants, const std::string& host, int port) {
  Refusal refusal;
  return grants.may_reach_host(host, port, &refusal);
}

bool looks_up(const Grants& grants, const std::string& host) {
  Refusal refusal;
  return grants.may_look_up(host, &refusal);
}

// What is left of the addresses of a name.
std::vector<std::string> filtered(Grants& grants, const std::string& name,
                                  std::vector<std::string> ips) {
  Refusal refusal;
  bool any = grants.filter_addresses(name, &ips, &refusal);
  CHECK(any == (!ips.empty() || refusal.message.empty()));
  return ips;
}

bool uses(const Grants& grants, const std::string& name) {
  Refusal refusal;
  return grants.may_use_variable(name, &refusal);
}

}  // namespace

// ---- files -------------------------------------------------------------------------------------

TEST_CASE("a folder is granted with what is in it, and not what begins with its name") {
  Folder dir;
  dir.make("a/deep");
  dir.make("ab");
  dir.write("a/file");
  for (const std::string& grant :
       {dir / "a", dir / "a/", dir / "a//", dir / "./a/../a", dir / "ab/../a/."}) {
    INFO(grant);
    Grants grants = reading(grant);
    for (const char* name : {"a", "a/", "a/.", "a/file", "a/deep", "a/deep/..", "ab/../a/file"}) {
      INFO(name);
      CHECK(check(grants, dir / name) == 0);
    }
    for (const char* name : {"ab", "a/..", "a/deep/../..", ".", "a/../ab"}) {
      INFO(name);
      CHECK(check(grants, dir / name) == kRefused);
    }
    CHECK(check(grants, dir / "a/none") == -ENOENT);
    CHECK(check(grants, dir / "a/file/x") == -ENOTDIR);
    // Whether it is there is nobody's business.
    CHECK(check(grants, dir / "none") == kRefused);
    CHECK(check(grants, dir / "a/none/../../none") == kRefused);
    CHECK(check(grants, dir / "a", kObject, Access::kWrite) == kRefused);
  }
}

TEST_CASE("a grant may be of a folder that is not there yet, or behind a link") {
  Folder dir;
  dir.make("real");
  dir.link("real", "link");
  Grants later = writing(dir / "none/../later/deep");
  CHECK(check(later, dir / "later/deep", kTree, Access::kWrite) == 0);
  CHECK(check(later, dir / "later/deep/er/still", kTree, Access::kWrite) == 0);
  CHECK(check(later, dir / "later", kTree, Access::kWrite) == kRefused);
  CHECK(check(later, dir / "later/deeper", kTree, Access::kWrite) == kRefused);

  Grants link = reading(dir / "link");
  CHECK(check(link, dir / "real") == 0);
  std::filesystem::rename(dir / "link", dir / "old");
  dir.link("/", "link");  // what it is when the grant is made counts
  CHECK(check(link, dir / "link/etc/passwd") == kRefused);
}

TEST_CASE("relative paths of grants are those of the moment when they are made") {
  Folder dir;
  dir.make("inner");
  std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(dir / "inner");
  Grants here = reading(".");
  Grants above = reading("..");
  std::filesystem::current_path("/");
  CHECK(check(here, dir / "inner") == 0);
  CHECK(check(here, dir.path()) == kRefused);
  CHECK(check(above, dir.path()) == 0);
  CHECK(check(here, ".") == kRefused);
  std::filesystem::current_path(before);
}

TEST_CASE("empty grants and paths are none") {
  Grants grants(
      Permissions::none().allow_read("").allow_write("").allow_net("").allow_run("").allow_env(""));
  CHECK(check(grants, ".") == kRefused);
  CHECK(check(grants, ".", kObject, Access::kWrite) == kRefused);
  CHECK(check(grants, "") == -ENOENT);
  CHECK(check(reading("*"), "") == -ENOENT);
  CHECK(check(reading("*"), std::string("a\0b", 3)) == -EINVAL);
  CHECK_FALSE(looks_up(grants, ""));
  CHECK_FALSE(reaches(grants, "127.0.0.1", 80));
  CHECK_FALSE(uses(grants, ""));
  Refusal refusal;
  CHECK_FALSE(grants.may_list_variables(&refusal));
  CHECK_FALSE(grants.may_run_name("", &refusal));
}

TEST_CASE("the root is not the kernel's folders and those of devices") {
  Grants root = reading("/");
  CHECK(check(root, "/etc") == 0);
  for (const char* path : {"/proc", "/proc/self/environ", "/dev/null", "/sys",
                           "/proc/self/root/dev", "/proc/self/fd/0", "/dev/fd/0"}) {
    INFO(path);
    CHECK(check(root, path) == kRefused);
  }
  CHECK(check(root, "/processes") == -ENOENT);
  CHECK(check(reading("/dev"), "/dev/null") == 0);
  CHECK(check(reading("*"), "/dev/null") == 0);
}

TEST_CASE("what is checked stays what it is, whatever takes its name") {
  Folder dir;
  dir.make("in");
  dir.make("out");
  dir.write("in/file");
  Grants grants = reading(dir / "in");
  CheckedPath checked;
  Refusal refusal;
  REQUIRE(grants.check_path(dir / "in/file", Access::kRead, kObject, &checked, &refusal) == 0);
  std::filesystem::rename(dir / "in/file", dir / "in/old");
  dir.link("/etc/passwd", "in/file");
  std::ifstream opened(checked.path());
  std::string text;
  opened >> text;
  CHECK(text == "in/file");
  CHECK(checked.below().empty());
  CHECK(checked.shown(checked.path() + "/x") == dir / "in/file/x");
}

TEST_CASE("a new file is made in the folder that was checked, and by its own name") {
  Folder dir;
  dir.make("in/deep");
  dir.make("out");
  dir.link("../out/new", "in/dangling");
  dir.link("deep", "in/link");
  dir.link("loop", "in/loop");
  Grants grants = writing(dir / "in");
  CheckedPath checked;
  Refusal refusal;
  auto check_new = [&](const std::string& name) {
    return grants.check_path(dir / name, Access::kWrite, kNew, &checked, &refusal);
  };
  CHECK(check_new("in/new") == 0);
  CHECK(checked.below() == "new");
  CHECK(check_new("in/link/new") == 0);
  CHECK(check_new("in/dangling") == kRefused);
  CHECK(check_new("in/../out/new") == kRefused);
  CHECK(check_new("in/loop") == -ELOOP);
  CHECK(check_new("in/none/new") == -ENOENT);
  CHECK(check_new("in/..") == kRefused);
  CHECK(check(grants, dir / "in", kEntry, Access::kWrite) == 0);
  CHECK(check(grants, dir / "in/link", kEntry, Access::kWrite) == 0);
  CHECK(check(grants, dir / "in/..", kEntry, Access::kWrite) == kRefused);
}

// ---- the network -------------------------------------------------------------------------------

TEST_CASE("hosts are granted with a port, or with all of them") {
  Grants one = net({"10.0.0.1:80", "[2001:db8::1]:443", "2001:db8::2", "[2001:db8::3]"});
  CHECK(reaches(one, "10.0.0.1", 80));
  CHECK_FALSE(reaches(one, "10.0.0.1", 81));
  CHECK_FALSE(reaches(one, "10.0.0.1", 0));
  CHECK_FALSE(reaches(one, "10.0.0.11", 80));
  CHECK(reaches(one, "2001:db8::1", 443));
  CHECK(reaches(one, "2001:DB8:0:0::1", 443));
  CHECK_FALSE(reaches(one, "2001:db8::1", 80));
  CHECK(reaches(one, "2001:db8::2", 1));
  CHECK(reaches(one, "2001:db8::3", 1));
  CHECK(reaches(one, "::ffff:10.0.0.1", 80));
  CHECK(reaches(net({"::ffff:10.0.0.1"}), "10.0.0.1", 80));
  CHECK(reaches(net({"*:80"}), "10.0.0.1", 80));
  CHECK_FALSE(reaches(net({"*:80"}), "10.0.0.1", 81));
  CHECK(reaches(net({"10.0.0.1:*"}), "10.0.0.1", 81));
  CHECK(reaches(net({"*"}), "::1", 0));
  for (const char* wrong : {"10.0.0.1:", "10.0.0.1:80x", "10.0.0.1:99999", "10.0.0", "10.0.0.*",
                            ":80", "http://10.0.0.1", "10.0.0.1/32", "[10.0.0.1", " 10.0.0.1"}) {
    INFO(wrong);
    CHECK_FALSE(reaches(net({wrong}), "10.0.0.1", 80));
  }
}

TEST_CASE("names are compared without regard to case and to a dot at the end") {
  Grants grants = net({"Example.COM:443", "other.org."});
  for (const char* name : {"example.com", "EXAMPLE.com", "example.com.", "Other.Org"}) {
    INFO(name);
    CHECK(looks_up(grants, name));
    CHECK(reaches_host(grants, name, 443));
  }
  CHECK_FALSE(reaches_host(grants, "example.com", 80));
  CHECK(reaches_host(grants, "other.org", 80));
  for (const char* name :
       {"www.example.com", "example.com.evil.org", "xample.com", "example.com..", "com", "", "."}) {
    INFO(name);
    CHECK_FALSE(looks_up(grants, name));
    CHECK_FALSE(reaches_host(grants, name, 443));
  }
}

TEST_CASE("the loopback addresses and their name stand for each other") {
  CHECK(reaches(net({"localhost"}), "127.0.0.1", 80));
  CHECK(reaches(net({"LOCALHOST:80"}), "::1", 80));
  CHECK_FALSE(reaches(net({"localhost:80"}), "::1", 81));
  CHECK(looks_up(net({"127.0.0.1:80"}), "localhost"));
  CHECK(looks_up(net({"::1"}), "a.localhost"));
  CHECK_FALSE(looks_up(net({"127.0.0.1"}), "notlocalhost"));
  CHECK_FALSE(looks_up(net({"127.0.0.1"}), "localhost.example.com"));
  CHECK_FALSE(reaches(net({"localhost"}), "128.0.0.1", 80));
  CHECK_FALSE(reaches(net({"127.0.0.1"}), "127.0.0.2", 80));
  CHECK_FALSE(reaches(net({"127.0.0.1"}), "0.0.0.0", 80));
}

TEST_CASE("a name stands for where it leads to, but not for this machine and its link") {
  Grants grants = net({"example.com:443"});
  std::vector<std::string> local = {"127.0.0.1",   "127.1.2.3", "::1",     "0.0.0.0",         "::",
                                    "169.254.1.1", "fe80::1",   "febf::1", "::ffff:127.0.0.1"};
  CHECK(filtered(grants, "example.com", local).empty());
  for (const std::string& ip : local) {
    INFO(ip);
    CHECK_FALSE(reaches(grants, ip, 443));
  }
  CHECK_FALSE(reaches(grants, "93.184.216.34", 443));  // nobody has said so yet
  std::vector<std::string> mixed = {"93.184.216.34", "127.0.0.1", "fe8::1"};
  CHECK(filtered(grants, "EXAMPLE.com.", mixed) ==
        std::vector<std::string>{"93.184.216.34", "fe8::1"});
  CHECK(reaches(grants, "93.184.216.34", 443));
  CHECK_FALSE(reaches(grants, "93.184.216.34", 80));
  // Another runtime looks for itself.
  CHECK_FALSE(reaches(Grants(grants), "93.184.216.34", 443));
  Grants both = net({"example.com", "localhost"});
  CHECK(filtered(both, "example.com", {"127.0.0.1"}).size() == 1);
}

// ---- the rest ----------------------------------------------------------------------------------

TEST_CASE("variables are granted one by one, and those of the loader only by name") {
  Grants one(Permissions::none().allow_env("HOME"));
  CHECK(uses(one, "HOME"));
  for (const char* name : {"home", "HOME2", "HOM", "", "HOME=x"}) CHECK_FALSE(uses(one, name));
  CHECK(one.is_handed_on("HOME=/root"));
  CHECK(one.is_handed_on("PATH=/bin"));
  CHECK_FALSE(one.is_handed_on("SECRET=x"));
  Grants all(Permissions::none().allow_env("*"));
  CHECK(uses(all, "ANYTHING"));
  for (const char* name : {"LD_PRELOAD", "LD_LIBRARY_PATH", "GCONV_PATH", "GLIBC_TUNABLES",
                           "OPENSSL_CONF", "OPENSSL_MODULES", "HOSTALIASES", "MALLOC_TRACE"}) {
    INFO(name);
    CHECK_FALSE(uses(all, name));
    CHECK(uses(Grants(Permissions::none().allow_env(name)), name));
  }
}

TEST_CASE("a command is the file that its name stood for, by whatever path") {
  Folder dir;
  dir.make("bin");
  dir.write("bin/tool");
  chmod((dir / "bin/tool").c_str(), 0755);
  dir.link("bin", "link");
  dir.link("tool", "bin/other");
  Grants grants(Permissions::none().allow_run(dir / "link/tool"));
  Refusal refusal;
  auto run = [&](std::string path) {
    bool granted = grants.may_run(AT_FDCWD, &path, path, &refusal);
    return granted ? path : "";
  };
  CHECK(run(dir / "bin/tool") == dir / "bin/tool");
  CHECK(run(dir / "link/tool") == dir / "bin/tool");
  CHECK(run(dir / "link/../bin/./tool") == dir / "bin/tool");
  // One file may be several commands, by its names.
  CHECK(run(dir / "bin/other").empty());
  CHECK(refusal.needs == "--allow-run=" + (dir / "bin/other"));
  CHECK(run(dir / "none/tool").empty());
  CHECK(refusal.needs == "--allow-run=" + (dir / "none/tool"));
  CHECK(grants.may_run_name("tool", &refusal));
  CHECK_FALSE(grants.may_run_name("sh", &refusal));
  CHECK(Grants(Permissions::none().allow_run("*")).may_run_name("sh", &refusal));
  CHECK_FALSE(Grants(Permissions::none().allow_run("*")).may_change_process("x", &refusal));
}

TEST_CASE("a guest does not steer the process that it is in") {
  Refusal refusal;
  CHECK_FALSE(Grants(Permissions::none()).may_steer_process("to go elsewhere", &refusal));
  CHECK(refusal.needs == "--allow-run=*");
  CHECK(Grants(Permissions::none(), true).may_steer_process("to go elsewhere", &refusal));
  CHECK(Grants(Permissions::none().allow_run("*")).may_steer_process("to go elsewhere", &refusal));
}

TEST_CASE("a refusal names what was asked for, and what would grant it") {
  Folder dir;
  dir.write("file");
  dir.make("folder");
  Refusal refusal;
  Grants none(Permissions::none());
  REQUIRE(check(none, dir / "./file", kObject, Access::kRead, &refusal) == kRefused);
  CHECK(refusal.message == "read access to '" + (dir / "./file") +
                               "' is not granted (allow_read \"" + dir.path() +
                               "\", --allow-read=" + dir.path() + ")");
  CHECK(refusal.needs == "--allow-read=" + dir.path());
  CHECK(refusal.path == dir / "./file");
  REQUIRE(check(none, dir / "folder", kEntry, Access::kWrite, &refusal) == kRefused);
  CHECK(refusal.needs == "--allow-write=" + (dir / "folder"));
  REQUIRE_FALSE(none.may_reach("::1", 80, &refusal));
  CHECK(refusal.needs == "--allow-net=[::1]:80");
  CHECK(reaches(net({"[::1]:80"}), "::1", 80));
  REQUIRE_FALSE(none.may_look_up("Example.com.", &refusal));
  CHECK(refusal.needs == "--allow-net=example.com");
  REQUIRE_FALSE(none.may_use_variable("HOME", &refusal));
  CHECK(refusal.needs == "--allow-env=HOME");
  CHECK(refusal.message ==
        "the variable 'HOME' of the environment is not granted (allow_env \"HOME\", "
        "--allow-env=HOME)");
}
