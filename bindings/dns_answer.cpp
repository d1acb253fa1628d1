#include "dns_answer.h"

#include <ares.h>
#include <uv.h>

#include <memory>
#include <string>

namespace rille::dns {

namespace {

// Reads a message from front to back. After a fault everything is empty.
class Reader {
 public:
  explicit Reader(std::string_view message) : message_(message), end_(message.size()) {}

  bool failed() const { return failed_; }
  void fail() { failed_ = true; }
  std::size_t position() const { return at_; }
  std::size_t left() const { return failed_ ? 0 : end_ - at_; }

  // Nothing behind the next `size` bytes is read until `leave`.
  std::size_t enter(std::size_t size) {
    if (size > left()) fail();
    std::size_t outer = end_;
    if (!failed_) end_ = at_ + size;
    return outer;
  }
  void leave(std::size_t outer) {
    if (!failed_) at_ = end_;
    end_ = outer;
  }

  std::string_view bytes(std::size_t size) {
    if (size > left()) {
      fail();
      return {};
    }
    at_ += size;
    return message_.substr(at_ - size, size);
  }

  unsigned number(std::size_t size) {
    unsigned n = 0;
    for (char c : bytes(size)) n = n << 8 | static_cast<unsigned char>(c);
    return n;
  }

  // A name, whose end may stand elsewhere in the message.
  std::string name() {
    auto* start = reinterpret_cast<const unsigned char*>(message_.data());
    char* text = nullptr;
    long size = 0;
    if (left() == 0 || ares_expand_name(start + at_, start, static_cast<int>(message_.size()),
                                        &text, &size) != ARES_SUCCESS) {
      fail();
      return {};
    }
    std::unique_ptr<char, void (*)(void*)> owner(text, ares_free_string);
    bytes(static_cast<std::size_t>(size));
    return *text ? text : ".";
  }

 private:
  std::string_view message_;
  std::size_t at_ = 0;
  std::size_t end_;
  bool failed_ = false;
};

void push_text(lua_State* L, std::string_view text) {
  lua_pushlstring(L, text.data(), text.size());
}

void set_number(lua_State* L, const char* key, unsigned value) {
  lua_pushinteger(L, static_cast<lua_Integer>(value));
  lua_setfield(L, -2, key);
}

void set_text(lua_State* L, const char* key, std::string_view value) {
  push_text(L, value);
  lua_setfield(L, -2, key);
}

void push_address(lua_State* L, int family, std::size_t size, Reader* r) {
  char text[INET6_ADDRSTRLEN] = "";
  std::string_view bytes = r->bytes(size);
  if (!r->failed()) uv_inet_ntop(family, bytes.data(), text, sizeof text);
  lua_pushstring(L, text);
}

// Pushes one record, which ends where the reader does.
void push_record(lua_State* L, int type, Reader* r) {
  switch (type) {
    case kA:
      push_address(L, AF_INET, 4, r);
      break;
    case kAaaa:
      push_address(L, AF_INET6, 16, r);
      break;
    case kNs:
    case kCname:
    case kPtr:
      push_text(L, r->name());
      break;
    case kMx:
      lua_createtable(L, 0, 2);
      set_number(L, "priority", r->number(2));
      set_text(L, "exchange", r->name());
      break;
    case kSrv:
      lua_createtable(L, 0, 4);
      set_number(L, "priority", r->number(2));
      set_number(L, "weight", r->number(2));
      set_number(L, "port", r->number(2));
      set_text(L, "name", r->name());
      break;
    case kTxt: {
      // One text, however it is cut.
      std::string text;
      if (r->left() == 0) r->fail();
      while (r->left() > 0) text.append(r->bytes(r->number(1)));
      push_text(L, text);
      break;
    }
    case kCaa:
      lua_createtable(L, 0, 3);
      set_number(L, "flags", r->number(1));
      set_text(L, "tag", r->bytes(r->number(1)));
      set_text(L, "value", r->bytes(r->left()));
      break;
    default:
      r->fail();
      lua_pushnil(L);
  }
}

}  // namespace

int push_answer(lua_State* L, std::string_view message, int type) {
  Reader r(message);
  r.bytes(4);
  unsigned questions = r.number(2), answers = r.number(2);
  r.bytes(4);
  for (; questions > 0 && !r.failed(); --questions) {
    r.name();
    r.bytes(4);
  }

  lua_newtable(L);
  int n = 0;
  for (; answers > 0 && !r.failed(); --answers) {
    r.name();
    auto its_type = static_cast<int>(r.number(2));
    unsigned its_class = r.number(2);
    r.bytes(4);
    std::size_t outer = r.enter(r.number(2));
    if (its_type == type && its_class == 1 && !r.failed()) {
      push_record(L, type, &r);
      if (r.left() > 0) r.fail();
      lua_rawseti(L, -2, ++n);
    }
    r.leave(outer);
  }
  if (!r.failed()) return n;
  lua_pop(L, 1);
  return -1;
}

}  // namespace rille::dns
