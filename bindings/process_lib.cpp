// rille.core.child: processes that are started here, and what comes out of them.
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "process_capture.h"
#include "process_spawn.h"
#include "stream.h"

namespace rille::process {
namespace {

std::vector<std::string> strings_at(lua_State* L, int index) {
  std::vector<std::string> list;
  for (int i = 1;; ++i) {
    lua_rawgeti(L, index, i);
    std::size_t size;
    const char* text = lua_tolstring(L, -1, &size);
    if (text) list.emplace_back(text, size);
    lua_pop(L, 1);
    if (!text) return list;
  }
}

// Sets up one stream by what Lua says; a negative errno, or 0.
int set_up(lua_State* L, Launch* launch, int stream, int index) {
  if (lua_type(L, index) == LUA_TNUMBER) {
    return launch->give(stream, static_cast<int>(lua_tointeger(L, index)));
  }
  std::string what = lua_tostring(L, index);
  if (what == "null") return launch->give_null(stream);
  if (what == "pipe") return launch->pipe(stream, Launch::Kind::kPipe);
  if (what == "capture") return launch->pipe(stream, Launch::Kind::kCapture);
  if (what == "feed") return launch->pipe(stream, Launch::Kind::kFeed);
  // What was printed before the child started comes before what it puts out.
  if (what == "inherit") put_out_printed(stream);
  return 0;
}

// spawn(args, environment or nil, path or nil, cwd or nil, flags, stdin, stdout, stderr, extra)
//   -> child, pid, stdin, stdout, stderr
// A stream is "inherit", "pipe", "null", "capture" (output), "feed" (input), "stdout" (stderr), or
// a descriptor. Flags are letters: s (session), g (group), h (hold). `extra` is an
// entry of the environment besides, of the runtime's own, or nil.
int spawn(lua_State* L) {
  Launch::Options options;
  options.args = strings_at(L, 1);
  Refusal refusal;
  const std::shared_ptr<const Access> access = options.access = Access::share(L);
  if (access && !access->may_run_name(options.args[0], &refusal)) return push_refusal(L, refusal);
  if (lua_istable(L, 2)) {
    options.environment = strings_at(L, 2);
    for (const std::string& entry : options.environment) {
      std::string name = entry.substr(0, entry.find('='));
      if (access && !access->may_use_variable(name, &refusal)) return push_refusal(L, refusal);
    }
  } else {
    for (char** entry = environ; entry && *entry; ++entry) {
      if (!access || access->is_handed_on(*entry)) options.environment.emplace_back(*entry);
    }
  }
  if (lua_isstring(L, 9)) options.environment.emplace_back(lua_tostring(L, 9));
  const char* path = lua_istable(L, 2) ? lua_tostring(L, 3) : getenv("PATH");
  options.path = path ? path : "/bin:/usr/bin";
  options.has_cwd = !lua_isnil(L, 4);
  if (options.has_cwd) options.cwd = lua_tostring(L, 4);
  std::string flags = lua_tostring(L, 5);
  options.session = flags.find('s') != flags.npos;
  options.group = flags.find('g') != flags.npos;
  options.hold = flags.find('h') != flags.npos;
  options.error_to_output =
      lua_type(L, 8) == LUA_TSTRING && !std::strcmp(lua_tostring(L, 8), "stdout");

  auto launch = std::make_unique<Launch>(std::move(options));
  for (int i = 0; i < 3; ++i) {
    int rc = set_up(L, launch.get(), i, 6 + i);
    if (rc == 0) continue;
    rille_push_os_error(L, rc, "pipe", nullptr, nullptr, nullptr);
    return 1;
  }
  return Launch::run(L, std::move(launch));
}

// descriptor(stream, give) -> number, or nil if a child cannot be given it: it is closed, or TLS.
// With `give`, a child will be.
int descriptor(lua_State* L) {
  Stream* s = Class<Stream>::check(L, 1);
  if (!s->is_open()) return 0;
  if (lua_toboolean(L, 2)) s->transport()->share();
  if (auto* own = dynamic_cast<DescriptorTransport*>(s->transport())) {
    if (own->descriptor() < 0) return 0;
    lua_pushinteger(L, own->descriptor());
  } else if (s->transport()->needs_shutdown()) {
    return 0;
  } else {
    uv_stream_t* handle = s->transport()->handle();
    uv_os_fd_t fd;
    if (!handle || uv_fileno(reinterpret_cast<uv_handle_t*>(handle), &fd) != 0) return 0;
    lua_pushinteger(L, fd);
  }
  lua_pushboolean(L, s->has_input());
  return 2;
}

Child* child_at(lua_State* L) { return Class<ChildHandle>::check(L, 1)->child.get(); }

// child:wait() -> { code =, signal =, ok = }
int wait(lua_State* L) { return child_at(L)->wait(L); }

// child:kill(signal, group) -> err, whether it was still there
int kill_child(lua_State* L) {
  int rc = child_at(L)->kill(static_cast<int>(lua_tointeger(L, 2)), lua_toboolean(L, 3));
  if (rc < 0) {
    rille_push_os_error(L, rc, "kill", nullptr, nullptr, nullptr);
    return 1;
  }
  lua_pushnil(L);
  lua_pushboolean(L, rc);
  return 2;
}

int has_ended(lua_State* L) {
  lua_pushboolean(L, child_at(L)->has_ended());
  return 1;
}

int release(lua_State* L) {
  child_at(L)->release();
  return 0;
}

// finish_launching(): see Children
int finish_launching(lua_State* L) {
  Children::of(L)->finish_launching(rille_loop(L));
  return 0;
}

// adopt(on): see Children
int adopt(lua_State* L) {
  Children::adopt(lua_toboolean(L, 1));
  return 0;
}

// reap_group(pid) -> whether nobody is left in it
int reap_group(lua_State* L) {
  lua_pushboolean(L, Children::reap_group(static_cast<pid_t>(lua_tointeger(L, 1))));
  return 1;
}

int capture_wait(lua_State* L) { return Class<Capture>::check(L, 1)->wait(L); }

int capture_close(lua_State* L) {
  Class<Capture>::check(L, 1)->close();
  return 0;
}

int capture_take(lua_State* L) {
  Class<Capture>::check(L, 1)->take(L);
  return 1;
}

// feed:start(text)
int feed_start(lua_State* L) {
  auto* feed = Class<Feed>::check(L, 1);
  std::size_t size;
  const char* data = lua_tolstring(L, 2, &size);
  // Keeps the text alive for as long as the feed.
  lua_createtable(L, 1, 0);
  lua_pushvalue(L, 2);
  lua_rawseti(L, -2, 1);
  lua_setfenv(L, 1);
  feed->start(data, size);
  return 0;
}

int feed_close(lua_State* L) {
  Class<Feed>::check(L, 1)->close();
  return 0;
}

const rille_reg kChild[] = {{"wait", wait, RILLE_WAITS},
                            {"kill", kill_child, 0},
                            {"has_ended", has_ended, 0},
                            {"release", release, 0},
                            {nullptr, nullptr, 0}};

const rille_reg kCapture[] = {{"wait", capture_wait, RILLE_WAITS},
                              {"close", capture_close, 0},
                              {"take", capture_take, 0},
                              {nullptr, nullptr, 0}};

const rille_reg kFeed[] = {
    {"start", feed_start, 0}, {"close", feed_close, 0}, {nullptr, nullptr, 0}};

const rille_reg kFunctions[] = {
    {"spawn", spawn, RILLE_WAITS}, {"descriptor", descriptor, 0},
    {"adopt", adopt, 0},           {"finish_launching", finish_launching, 0},
    {"reap_group", reap_group, 0}, {nullptr, nullptr, 0}};

// Where the end of a child is ignored, as some parents leave it behind, nobody learns how it ended.
void notice_ends() {
  struct sigaction now;
  if (sigaction(SIGCHLD, nullptr, &now) != 0) return;
  if (now.sa_handler == SIG_IGN || (now.sa_flags & SA_NOCLDWAIT)) {
    signal(SIGCHLD, SIG_DFL);
  }
}

}  // namespace
}  // namespace rille::process

extern "C" int luaopen_rille_core_child(lua_State* L) {
  using namespace rille;
  using namespace rille::process;
  notice_ends();
  Class<ChildHandle>::define(L, kChild);
  Class<Capture>::define(L, kCapture);
  Class<Feed>::define(L, kFeed);
  rille_newlib(L, kFunctions);
  return 1;
}
