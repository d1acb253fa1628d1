// rille.core.cached_file: files of a folder that the system has in its cache. What it would have to
// fetch, or does not know, is left to rille.fs.
#include "cached_file.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <lua.hpp>
#include <rille/access.hpp>

namespace rille {

namespace {

constexpr std::size_t kLook = 262144;    // of so many bytes one is looked at whether it is there
constexpr std::size_t kPiece = 1048576;  // is sent by one call

ssize_t read_now(int fd, char* to, std::size_t size, off_t at) {
  iovec part = {to, size};
  ssize_t n;
  do n = ::preadv2(fd, &part, 1, at, RWF_NOWAIT);
  while (n < 0 && errno == EINTR);
  return n;
}

Socket open_now(int folder, const char* path, int flags, std::uint64_t resolve) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.resolve = resolve | RESOLVE_CACHED;
  return Socket(static_cast<int>(::syscall(SYS_openat2, folder, path, &how, sizeof how)));
}

}  // namespace

bool CachedFile::read(off_t at, std::size_t size, std::string* data) const {
  data->resize(size);
  std::size_t done = 0;
  while (done < size) {
    ssize_t n =
        read_now(descriptor(), data->data() + done, size - done, at + static_cast<off_t>(done));
    if (n <= 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

bool CachedFile::is_there(off_t at, std::size_t size) const {
  char byte;
  for (std::size_t i = 0; i < size; i += kLook) {
    if (read_now(descriptor(), &byte, 1, at + static_cast<off_t>(i)) != 1) return false;
  }
  return read_now(descriptor(), &byte, 1, at + static_cast<off_t>(size) - 1) == 1;
}

ssize_t CachedFile::send(int socket, off_t at, std::size_t size) const {
  std::size_t done = 0;
  while (done < size) {
    std::size_t piece = std::min(size - done, kPiece);
    off_t first = at + static_cast<off_t>(done);
    // A page that is not there would hold the loop up.
    if (!is_there(first, piece)) {
      piece = std::min(piece, kLook);
      if (!is_there(first, piece)) break;
    }
    ssize_t n = ::sendfile(socket, descriptor(), &first, piece);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) return -errno;
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
    if (static_cast<std::size_t>(n) < piece) break;
  }
  return static_cast<ssize_t>(done);
}

namespace {

// A file within a folder. That is not kept open: another one may take its place.
Socket open_within(const std::string& root, const char* path) {
  constexpr int kFlags = O_RDONLY | O_NONBLOCK | O_NOCTTY;
  // Where nothing on the way is a link, one call says so.
  if (!std::strstr(path, "..")) {
    Socket file = open_now(AT_FDCWD, (root + "/" + path).c_str(), kFlags, RESOLVE_NO_SYMLINKS);
    if (file.is_open() || errno != ELOOP) return file;
  }
  Socket folder = open_now(AT_FDCWD, root.c_str(), O_PATH | O_DIRECTORY, 0);
  if (!folder.is_open()) return folder;
  return open_now(folder.get(), path, kFlags, RESOLVE_BENEATH);
}

// A file by its path alone, which may be that of a device: to open that may do something.
Socket open_anywhere(const char* path) {
  Socket place = open_now(AT_FDCWD, path, O_PATH, 0);
  struct stat st;
  bool is_file = place.is_open() && ::fstat(place.get(), &st) == 0 && S_ISREG(st.st_mode);
  return is_file ? open_now(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0) : Socket();
}

// take(root | nil, path, most) -> size, time of the last change, content: a string if it has at
// most `most` bytes, else a CachedFile; nothing if the file is not there, is none, does not lie in
// the folder, or if finding that out would take time. So it is where not everything is granted:
// rille.fs asks for each file.
int take(lua_State* L) {
  const char* root = luaL_optstring(L, 1, nullptr);
  std::size_t size;
  const char* path = luaL_checklstring(L, 2, &size);
  auto most = static_cast<std::size_t>(luaL_checknumber(L, 3));
  if (Access::of(L) || std::strlen(path) != size) return 0;
  Socket file = root ? open_within(root, path) : open_anywhere(path);
  struct stat st;
  if (!file.is_open() || ::fstat(file.get(), &st) != 0 || !S_ISREG(st.st_mode)) return 0;
  CachedFile cached(std::move(file));
  size = static_cast<std::size_t>(st.st_size);
  lua_pushnumber(L, static_cast<double>(st.st_size));
  lua_pushnumber(
      L, static_cast<double>(st.st_mtim.tv_sec) + static_cast<double>(st.st_mtim.tv_nsec) * 1e-9);
  if (size > most) {
    Class<CachedFile>::push(L, std::move(cached));
    return 3;
  }
  std::string data;
  if (!cached.read(0, size, &data)) return 0;
  lua_pushlstring(L, data.data(), data.size());
  return 3;
}

// file:read(at, size) -> data; nothing if that would take time, or there is less
int read(lua_State* L) {
  auto* file = Class<CachedFile>::check(L, 1);
  std::string data;
  auto at = static_cast<off_t>(luaL_checknumber(L, 2));
  if (!file->read(at, static_cast<std::size_t>(luaL_checknumber(L, 3)), &data)) return 0;
  lua_pushlstring(L, data.data(), data.size());
  return 1;
}

int descriptor(lua_State* L) {
  lua_pushinteger(L, Class<CachedFile>::check(L, 1)->descriptor());
  return 1;
}

int close(lua_State* L) {
  Class<CachedFile>::check(L, 1)->close();
  return 0;
}

const rille_reg kMethods[] = {
    {"read", read, 0}, {"descriptor", descriptor, 0}, {"close", close, 0}, {nullptr, nullptr, 0}};

const rille_reg kFunctions[] = {{"take", take, 0}, {nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille

extern "C" int luaopen_rille_core_cached_file(lua_State* L) {
  rille::Class<rille::CachedFile>::define(L, rille::kMethods);
  rille_newlib(L, rille::kFunctions);
  return 1;
}
