// Reading streams: tasks that wait for bytes, one after another, and what each of them wants.
#include <algorithm>
#include <cmath>
#include <utility>

#include "stream_methods.h"

namespace rille {

namespace {

constexpr std::size_t kEnough = 262144;  // bytes kept for a reader that does not come
constexpr std::size_t kMostSpare = 16;
constexpr std::size_t kLeast = 16384;      // buffers up to this are kept for the next bytes
constexpr std::size_t kMaxLine = 1 << 20;  // the default limit of lines

// Reads a size at the given index; false, and the error pushed, if it is none.
bool size_argument(lua_State* L, int index, const char* method, lua_Number least,
                   std::size_t* size) {
  if (lua_isnoneornil(L, index) && *size > 0) return true;
  if (!lua_isnumber(L, index)) {
    push_bad_type(L, index - 1, method, "number", index);
    return false;
  }
  lua_Number n = lua_tonumber(L, index);
  if (!(n >= least && n <= 0x7fffff00) || n != std::floor(n)) {
    push_bad(L, index - 1, method,
             least > 0 ? "a whole number of bytes from 1 to 2 GiB expected"
                       : "a whole number of bytes from 0 to 2 GiB expected");
    return false;
  }
  *size = static_cast<std::size_t>(n);
  return true;
}

}  // namespace

// Large buffers that are used again: to have one from the system for every piece of a long stream,
// and to give it back, costs more than the reading. They are the runtime's, and go with it.
struct Stream::Spares {
  static constexpr char kName[] = "rille.Stream.Spares";
  std::vector<std::string> list;

  static Spares* of(lua_State* L) {
    lua_getfield(L, LUA_REGISTRYINDEX, kName);
    lua_getfield(L, -1, "spares");
    auto* spares = static_cast<Spares*>(lua_touserdata(L, -1));
    lua_pop(L, 2);
    return spares;
  }

  void take(std::string* buffer) {
    if (list.empty()) return;
    buffer->swap(list.back());
    list.pop_back();
  }

  void give_back(std::string* buffer) {
    if (list.size() < kMostSpare && buffer->capacity() <= 4 * kEnough) {
      list.push_back(std::move(*buffer));
    }
    std::string().swap(*buffer);
  }
};

// What a read wants.
struct Stream::Request {
  Kind kind;
  std::size_t size = 0;  // bytes, at most or exactly; the limit of what is looked for
  std::string separator;
  std::size_t searched = 0;  // of the input, without finding the separator

  // With so many bytes and no separator among them, it is too late for one.
  std::size_t limit() const { return kind == Kind::kLine ? size + separator.size() : size; }
};

// A task that waits for its read. Belongs to its waiter.
struct Stream::Reader {
  Stream* stream;  // null once that is gone
  Request request;
  rille_waiter* waiter = nullptr;  // null once it has been woken

  ~Reader() {
    if (!stream) return;
    auto& all = stream->readers_;
    all.erase(std::find(all.begin(), all.end(), this));
    stream->serve_readers();
  }

  void wake() { rille_complete(std::exchange(waiter, nullptr), push, this); }

  static int push(lua_State* L, void* data) {
    std::unique_ptr<Reader> self(static_cast<Reader*>(data));
    return L ? self->stream->push_result(L, &self->request) : 0;
  }
};

void Stream::received(const char* data, std::size_t size) {
  if (input_.empty() && size > kLeast && spares_) spares_->take(&input_);
  input_.append(data, size);
  if (input_.size() > kEnough && !input_charge_.set(input_.capacity())) {
    transport_->pause();
    Failure failure;
    failure.status = UV_ENOMEM;
    ended(failure);
    return;
  }
  serve_readers();
  bool wanted = !readers_.empty() && readers_.front()->waiter;
  if (!wanted && input().size() > kEnough) {
    reading_ = false;
    transport_->pause();
  }
}

void Stream::ended(const Failure& failure) {
  reading_ = false;
  end_ = failure;
  serve_readers();
}

void Stream::take(std::size_t size) {
  taken_ += size;
  if (taken_ == input_.size()) {
    taken_ = 0;
    input_.clear();
    if (input_.capacity() > kLeast && spares_) spares_->give_back(&input_);
    input_charge_.set(0);
  } else if (taken_ > kReadSize && taken_ > input_.size() / 2) {
    input_.erase(0, taken_);
    taken_ = 0;
  }
}

// Wakes the first reader, if there is something to tell it. It takes what it wants when its task
// resumes; until then the others have to wait.
void Stream::serve_readers() {
  if (readers_.empty()) return;
  Reader* first = readers_.front();
  if (first->waiter && is_ready(&first->request)) {
    first->wake();
  } else if (first->waiter && !reading_) {
    reading_ = true;
    transport_->read(this);
  }
}

bool Stream::is_ready(Request* request) const {
  if (!transport_ || end_) return true;
  std::string_view in = input();
  switch (request->kind) {
    case Kind::kSome:
      return !in.empty();
    case Kind::kExactly:
      return in.size() >= request->size;
    case Kind::kUntil:
    case Kind::kLine: {
      const std::string& s = request->separator;
      std::size_t at = in.find(s, request->searched);
      if (at != in.npos) {
        request->searched = at;
        return true;
      }
      // The separator may have begun at the end.
      request->searched = in.size() < s.size() ? 0 : in.size() - s.size() + 1;
      return in.size() >= request->limit();
    }
  }
  return true;
}

// Pushes nil and what the request gets, or its error. REQUIRES: it is ready.
int Stream::push_result(lua_State* L, Request* request) {
  std::string_view in = input();
  std::size_t size = request->size;
  std::size_t skipped = 0;
  switch (request->kind) {
    case Kind::kSome:
      if (in.empty()) return push_end(L, *request);
      size = std::min(size, in.size());
      break;
    case Kind::kExactly:
      if (in.size() < size) return push_end(L, *request);
      break;
    case Kind::kUntil:
    case Kind::kLine: {
      std::size_t at = in.find(request->separator, request->searched);
      bool is_line = request->kind == Kind::kLine;
      bool is_last = is_line && at == in.npos && end_.status == UV_EOF && !in.empty();
      if (at == in.npos && !is_last && in.size() < request->limit()) return push_end(L, *request);
      skipped = is_last || !is_line ? 0 : request->separator.size();
      std::size_t found = is_last         ? in.size()
                          : at == in.npos ? in.npos
                                          : at + (is_line ? 0 : request->separator.size());
      if (found > size) {
        return push_raw_error(L, "LimitOverrunError",
                              std::string(is_line ? "the line" : "what is read") +
                                  " is longer than " + std::to_string(size) + " bytes: " + name_);
      }
      size = found;
      break;
    }
  }
  lua_pushnil(L);
  lua_pushlstring(L, in.data(), size);
  take(size + skipped);
  return 2;
}

// There is less than the request wants, and nothing more comes.
int Stream::push_end(lua_State* L, const Request& request) {
  if (!transport_) return push_closed(L, name_);
  if (end_.status != UV_EOF) {
    end_.push(L, "read", name_);
    return 1;
  }
  if (request.kind == Kind::kSome || request.kind == Kind::kLine) {
    lua_pushnil(L);
    lua_pushnil(L);
    return 2;
  }
  std::string_view in = input();
  bool is_count = request.kind == Kind::kExactly;
  std::string wanted = is_count ? std::to_string(request.size) + " bytes" : "the separator";
  push_raw_error(L, "IncompleteReadError",
                 "the stream " + name_ + " ended after " + std::to_string(in.size()) +
                     " bytes, before " + wanted);
  lua_pushlstring(L, in.data(), in.size());
  lua_setfield(L, -2, "partial");
  if (is_count) {
    lua_pushnumber(L, static_cast<lua_Number>(request.size));
    lua_setfield(L, -2, "expected");
  }
  take(in.size());
  return 1;
}

int Stream::read(lua_State* L, Request request) {
  if (!spares_) {
    spares_ = Spares::of(L);
    input_charge_ = Charge(L);
  }
  if (readers_.empty() && is_ready(&request)) return push_result(L, &request);
  std::unique_ptr<Reader> reader(new Reader{nullptr, std::move(request)});
  reader->waiter = rille_prepare(
      L,
      [](rille_waiter* w, void* data) {
        static_cast<Reader*>(data)->waiter = nullptr;
        rille_complete(w, Reader::push, data);
      },
      reader.get());
  rille_waiter* waiter = reader->waiter;
  reader->stream = this;
  readers_.push_back(reader.release());
  serve_readers();
  return rille_park(L, waiter);
}

void Stream::wake_readers() {
  // Those who were given their bytes still get them.
  for (Reader* r : readers_) {
    if (r->waiter) r->wake();
  }
}

void Stream::forget_readers() {
  for (Reader* r : readers_) r->stream = nullptr;
}

// ---- methods ------------------------------------------------------------------------------------

void StreamMethods::define_spares(lua_State* L) {
  using Spares = Stream::Spares;
  const rille_reg none[] = {{nullptr, nullptr, 0}};
  Class<Spares>::define(L, none);
  luaL_getmetatable(L, Spares::kName);
  Class<Spares>::push(L);
  lua_setfield(L, -2, "spares");
  lua_pop(L, 1);
}

// read(stream [, max=65536]) -> bytes, or nil at the end
int StreamMethods::read(lua_State* L) {
  Stream* s = self(L, "read");
  std::size_t max = kReadSize;
  if (!s || !size_argument(L, 2, "read", 1, &max)) return 1;
  return s->read(L, {Kind::kSome, max, {}});
}

// read_exactly(stream, n) -> bytes
int StreamMethods::read_exactly(lua_State* L) {
  Stream* s = self(L, "read_exactly");
  std::size_t n = 0;
  if (!s || !size_argument(L, 2, "read_exactly", 0, &n)) return 1;
  return s->read(L, {Kind::kExactly, n, {}});
}

// read_until(stream, separator [, max]) -> bytes
int StreamMethods::read_until(lua_State* L) {
  Stream* s = self(L, "read_until");
  if (!s) return 1;
  if (!lua_isstring(L, 2)) return push_bad_type(L, 1, "read_until", "string", 2);
  std::size_t size;
  const char* separator = lua_tolstring(L, 2, &size);
  if (size == 0) return push_bad(L, 1, "read_until", "the separator is empty");
  std::size_t max = kMaxLine;
  if (!size_argument(L, 3, "read_until", 1, &max)) return 1;
  return s->read(L, {Kind::kUntil, max, std::string(separator, size)});
}

// read_line(stream [, max]) -> the line without its end, or nil at the end
int StreamMethods::read_line(lua_State* L) {
  Stream* s = self(L, "read_line");
  std::size_t max = kMaxLine;
  if (!s || !size_argument(L, 2, "read_line", 1, &max)) return 1;
  return s->read(L, {Kind::kLine, max, "\n"});
}

}  // namespace rille
