// A dumped function becomes a factory of its closures. LuaJIT's dump lists functions after those
// that they contain, each with its length. What makes a closure of the last one is taken from the
// dump of a function of our own with as many locals as there are upvalues, so that no instruction
// needs to be known here, only where a function's upvalues stand.
#include <rille/module.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker_codec.h"

namespace rille::worker {

namespace {

constexpr unsigned kStripped = 2;             // of a dump: without names and lines
constexpr std::uint16_t kImmutable = 0x4000;  // of an upvalue: never assigned to

class Dump {
 public:
  explicit Dump(std::string_view code) : code_(code) { ok_ = parse(); }

  bool ok() const { return ok_; }
  unsigned flags() const { return flags_; }
  char version() const { return code_[3]; }
  std::string_view header() const { return code_.substr(0, header_); }
  // All functions, with their lengths.
  std::string_view functions() const {
    return code_.substr(header_, functions_.back().end - header_);
  }
  // One of them, from the last one on: 0 is the outermost.
  std::string_view function(std::size_t i) const {
    const Part& p = functions_[functions_.size() - 1 - i];
    return code_.substr(p.begin, p.end - p.begin);
  }
  std::size_t count() const { return functions_.size(); }
  // Where its upvalues stand in the dump, and how many there are.
  struct Upvalues {
    std::size_t at = 0;
    int count = 0;
  };
  std::optional<Upvalues> upvalues(std::size_t i) {
    const Part& p = functions_[functions_.size() - 1 - i];
    at_ = p.body;
    if (p.end - at_ < 4) return {};
    int count = static_cast<unsigned char>(code_[at_ + 3]);
    at_ += 4;
    number();
    number();
    std::size_t instructions = number();
    if (!(flags_ & kStripped) && number() > 0) {
      number();
      number();
    }
    at_ += instructions * 4;
    if (!ok_ || at_ > p.end || p.end - at_ < static_cast<std::size_t>(count) * 2) return {};
    return Upvalues{at_, count};
  }

 private:
  struct Part {
    std::size_t begin, body, end;
  };

  bool parse() {
    if (code_.size() < 6 || code_.substr(0, 3) != "\x1bLJ") return false;
    at_ = 4;
    ok_ = true;
    flags_ = static_cast<unsigned>(number());
    if (!(flags_ & kStripped)) {
      std::size_t size = number();
      if (size > code_.size()) return false;
      at_ += size;
    }
    header_ = at_;
    for (;;) {
      std::size_t begin = at_;
      std::size_t size = number();
      if (!ok_) return false;
      if (size == 0) return !functions_.empty() && at_ == code_.size();
      if (at_ > code_.size() || size > code_.size() - at_) return false;
      functions_.push_back({begin, at_, at_ + size});
      at_ += size;
    }
  }

  std::size_t number() {
    std::size_t n = 0;
    for (int shift = 0; shift < 35; shift += 7) {
      if (at_ >= code_.size()) break;
      auto b = static_cast<unsigned char>(code_[at_++]);
      n |= static_cast<std::size_t>(b & 0x7f) << shift;
      if (b < 0x80) return n;
    }
    ok_ = false;
    return 0;
  }

  std::string_view code_;
  std::size_t at_ = 0;
  std::size_t header_ = 0;
  unsigned flags_ = 0;
  bool ok_ = false;
  std::vector<Part> functions_;
};

// Pushes the dump of a function that returns a function with so many upvalues.
void push_template(lua_State* L, int count) {
  std::string names;
  for (int i = 1; i <= count; ++i) names += (i > 1 ? ",u" : "u") + std::to_string(i);
  std::string source = count > 0 ? "local " + names + " return function() return " + names + " end"
                                 : "return function() end";
  if (luaL_loadbuffer(L, source.data(), source.size(), "=rille/worker") != 0) lua_error(L);
  std::string dump;
  lua_dump(
      L,
      [](lua_State*, const void* part, std::size_t size, void* to) {
        static_cast<std::string*>(to)->append(static_cast<const char*>(part), size);
        return 0;
      },
      &dump);
  lua_pop(L, 1);
  lua_pushlstring(L, dump.data(), dump.size());
}

}  // namespace

void push_factory(lua_State* L, const char* code, std::size_t size, int count) {
  push_template(L, count);
  std::size_t template_size;
  const char* template_code = lua_tolstring(L, -1, &template_size);
  Dump maker({template_code, template_size});
  Dump made({code, size});
  auto from = maker.ok() && maker.count() == 2 ? maker.upvalues(1) : std::nullopt;
  auto to = made.ok() ? made.upvalues(0) : std::nullopt;
  bool fits = from && to && from->count == count && to->count == count &&
              maker.version() == made.version() &&
              (maker.flags() & kStripped) == (made.flags() & kStripped);
  if (!fits) {
    rille_push_error(L, "WorkerError", nullptr,
                     "a function that was sent to a worker is malformed");
    lua_error(L);
  }

  std::string whole(code, size - 1);  // but for the end
  for (int i = 0; i < count; ++i) {
    std::size_t at = to->at + static_cast<std::size_t>(i) * 2;
    std::uint16_t own, local;
    std::memcpy(&own, code + at, 2);
    std::memcpy(&local, template_code + from->at + static_cast<std::size_t>(i) * 2, 2);
    local = static_cast<std::uint16_t>((local & ~kImmutable) | (own & kImmutable));
    std::memcpy(whole.data() + at, &local, 2);
  }
  whole.append(maker.function(0));
  whole.push_back('\0');
  if (luaL_loadbuffer(L, whole.data(), whole.size(), "=worker") != 0) lua_error(L);
  lua_remove(L, -2);
}

}  // namespace rille::worker
