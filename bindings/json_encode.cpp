#include "json_encode.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>

#include "json_number.h"

namespace rille::json {

namespace {

constexpr int kCdata = 10;  // LuaJIT's own type, which lua.h does not name

// Tables up to here stand on Lua's stack, which holds 8000 values for a C function, three for each
// of them; what is around deeper ones waits in a table.
constexpr std::size_t kDepthOnStack = 1500;

constexpr std::size_t kKept = 1 << 12;

// How far up a table is looked for among those around it. Longer cycles end at the depth limit.
constexpr std::size_t kCycleReach = 1000;

// A list may have this many nulls for each item that it has, and some more.
constexpr double kNullsForItem = 10;
constexpr double kNullsForList = 1000;

bool is_index(double n) { return n >= 1 && n <= 2147483647.0 && n == std::floor(n); }

std::string number_text(double n) {
  if (std::isnan(n)) return "nan";
  if (std::isinf(n)) return n > 0 ? "inf" : "-inf";
  char text[kNumberSpace];
  return std::string(text, write_number(text, n));
}

// A string as error messages and paths show it.
std::string quoted(std::string_view text) {
  constexpr std::size_t kLongest = 100;
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out = "\"";
  for (char c : text.substr(0, kLongest)) {
    auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte >= 0x7F) {
      out += "\\x";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 0xF];
    } else {
      out += c;
    }
  }
  return out + (text.size() > kLongest ? "...\"" : "\"");
}

bool is_name(std::string_view text) {
  auto is_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  return !text.empty() && is_letter(text[0]) &&
         std::all_of(text.begin(), text.end(), [&](char c) { return is_letter(c) || is_digit(c); });
}

// A key of a table as error messages show it.
std::string shown_key(lua_State* L, int index) {
  switch (lua_type(L, index)) {
    case LUA_TNUMBER:
      return "key " + number_text(lua_tonumber(L, index));
    case LUA_TSTRING: {
      std::size_t size;
      const char* text = lua_tolstring(L, index, &size);
      return "key " + quoted({text, size});
    }
    case LUA_TBOOLEAN:
      return lua_toboolean(L, index) ? "key true" : "key false";
    default:
      return std::string("a key that is a ") + lua_typename(L, lua_type(L, index));
  }
}

std::string_view string_at(lua_State* L, int index) {
  std::size_t size;
  const char* text = lua_tolstring(L, index, &size);
  return {text, size};
}

}  // namespace

bool Encoder::encode(lua_State* L, const Options& options, const Helpers& helpers) {
  L_ = L;
  options_ = options;
  helpers_ = helpers;
  out_.cut(0);
  std::size_t most = memory_limit_of(L);
  out_.set_most(most > 0 ? std::min(most, Output::kLongest) : Output::kLongest);
  Deadline deadline(L);
  deadline_ = &deadline;
  frames_.clear();
  keys_.clear();
  message_.clear();
  path_.clear();
  luaL_checkstack(L, 10, "too little room for JSON");
  lua_pushnil(L);
  lua_insert(L, -2);
  deep_slot_ = lua_gettop(L) - 1;
  deep_count_ = 0;
  return run();
}

void Encoder::shrink() {
  out_.shrink();
  if (frames_.capacity() > kKept) std::vector<Frame>().swap(frames_);
  if (keys_.capacity() > kKept) std::vector<Key>().swap(keys_);
}

// Writes what is on top; a table's items come on top one after the other.
bool Encoder::run() {
  for (;;) {
    if (!value()) return false;
    for (;;) {
      if (frames_.empty()) return true;
      Step step = next(&frames_.back());
      if (step == Step::kFailed) return false;
      if (step == Step::kItem) break;
      leave();
    }
  }
}

// Writes the value on top and takes it away, or enters it.
bool Encoder::value() {
  switch (lua_type(L_, -1)) {
    case LUA_TSTRING:
      if (!out_.put_string(string_at(L_, -1))) return refuse("a string that is not UTF-8");
      break;
    case LUA_TNUMBER:
      if (!number(lua_tonumber(L_, -1))) return false;
      break;
    case LUA_TBOOLEAN:
      out_.put(lua_toboolean(L_, -1) ? std::string_view("true") : std::string_view("false"));
      break;
    case LUA_TTABLE:
      return enter();
    case LUA_TNIL:  // in a list
      out_.put("null");
      break;
    case LUA_TLIGHTUSERDATA:
      if (lua_touserdata(L_, -1)) return refuse("a light userdata other than json.null");
      out_.put("null");
      break;
    case kCdata:
      if (!integer()) return false;
      break;
    default:
      return refuse(std::string("a ") + lua_typename(L_, lua_type(L_, -1)));
  }
  lua_pop(L_, 1);
  return true;
}

bool Encoder::number(double n) {
  if (!std::isfinite(n)) return refuse(std::isnan(n) ? "NaN" : "an infinite number");
  out_.wrote(write_number(out_.room_for(kNumberSpace), n));
  return true;
}

bool Encoder::integer() {
  lua_pushvalue(L_, helpers_.is_signed);
  lua_pushvalue(L_, -2);
  lua_call(L_, 1, 1);
  int type = lua_type(L_, -1);
  bool is_signed = lua_toboolean(L_, -1);
  lua_pop(L_, 1);
  if (type == LUA_TNIL) return refuse("a cdata other than int64_t and uint64_t");
  char* to = out_.room_for(kNumberSpace);
  char* limit = to + kNumberSpace;
  const void* payload = lua_topointer(L_, -1);
  if (is_signed) {
    out_.wrote(std::to_chars(to, limit, *static_cast<const std::int64_t*>(payload)).ptr);
  } else {
    out_.wrote(std::to_chars(to, limit, *static_cast<const std::uint64_t*>(payload)).ptr);
  }
  return true;
}

// ---- tables -------------------------------------------------------------------------------------

// Begins with the table on top.
bool Encoder::enter() {
  // One that stands in several places is written as often, which may never end.
  if (deadline_->passed()) raise_interruption(L_);
  const void* table = lua_topointer(L_, -1);
  std::size_t depth = frames_.size();
  for (std::size_t i = depth; i > 0 && depth - i < kCycleReach; --i) {
    if (frames_[i - 1].table == table) {
      return refuse("a table that contains itself (it is also " + path_of(i - 1) + ")");
    }
  }
  if (depth >= options_.depth) {
    return refuse("anything deeper than " + std::to_string(options_.depth) + " tables");
  }
  luaL_checkstack(L_, 10, "too little room for nested tables");

  Frame frame{};
  frame.table = table;
  frame.start = out_.size();
  frame.mark = mark_of_top();
  frame.kind = frame.mark == Mark::kObject ? Kind::kObject : Kind::kInOrder;
  frame.slot = lua_gettop(L_);
  frame.deep = depth >= kDepthOnStack;
  if (frame.deep) {
    if (lua_isnil(L_, deep_slot_)) {
      lua_newtable(L_);
      lua_replace(L_, deep_slot_);
    }
    // The table takes the place of the one around it, which stands two below with its key.
    frame.slot -= 2;
    lua_pushvalue(L_, frame.slot);
    lua_rawseti(L_, deep_slot_, ++deep_count_);
    lua_replace(L_, frame.slot);
    lua_rawseti(L_, deep_slot_, ++deep_count_);
  }
  frames_.push_back(frame);
  if (frame.kind == Kind::kObject && options_.sort_keys) return collect_keys(&frames_.back());
  lua_pushnil(L_);
  return true;
}

// Ends the innermost table.
void Encoder::leave() {
  Frame& frame = frames_.back();
  lua_settop(L_, frame.slot - 1);
  if (frame.deep) {
    lua_rawgeti(L_, deep_slot_, deep_count_ - 1);
    lua_rawgeti(L_, deep_slot_, deep_count_);
    deep_count_ -= 2;
  }
  if (frame.kind == Kind::kSorted) keys_.resize(frame.first_key);
  frames_.pop_back();
}

Encoder::Mark Encoder::mark_of_top() {
  if (!lua_getmetatable(L_, -1)) return Mark::kNone;
  const void* meta = lua_topointer(L_, -1);
  lua_pop(L_, 1);
  if (meta != helpers_.array_mark && meta != helpers_.object_mark) {
    lua_pushvalue(L_, -1);
    lua_rawget(L_, helpers_.marks);
    meta = lua_topointer(L_, -1);
    lua_pop(L_, 1);
  }
  if (meta == helpers_.array_mark) return Mark::kArray;
  return meta == helpers_.object_mark ? Mark::kObject : Mark::kNone;
}

// Writes all that stands before the next item and pushes that, or writes the table's end.
Encoder::Step Encoder::next(Frame* frame) {
  switch (frame->kind) {
    case Kind::kInOrder:
      return next_in_order(frame);
    case Kind::kList:
      return next_of_list(frame);
    case Kind::kObject:
      return next_pair(frame);
    case Kind::kSorted:
      return next_sorted(frame);
  }
  return Step::kFailed;
}

Encoder::Step Encoder::next_in_order(Frame* frame) {
  if (!lua_next(L_, frame->slot)) {
    return end(frame, frame->count > 0 || frame->mark == Mark::kArray ? "[]" : "{}");
  }
  if (lua_type(L_, -2) == LUA_TNUMBER &&
      lua_tonumber(L_, -2) == static_cast<double>(frame->count + 1)) {
    separate(frame, '[');
    return Step::kItem;
  }
  if (frame->count > 0 || frame->mark == Mark::kArray || lua_type(L_, -2) != LUA_TSTRING) {
    return settle(frame) ? next_of_list(frame) : Step::kFailed;
  }
  lua_settop(L_, frame->slot);
  if (options_.sort_keys) return collect_keys(frame) ? next_sorted(frame) : Step::kFailed;
  frame->kind = Kind::kObject;
  lua_pushnil(L_);
  return next_pair(frame);
}

Encoder::Step Encoder::next_of_list(Frame* frame) {
  if (frame->count == frame->size) return end(frame, "[]");
  separate(frame, '[');
  lua_rawgeti(L_, frame->slot, static_cast<int>(frame->count));
  return Step::kItem;
}

Encoder::Step Encoder::next_pair(Frame* frame) {
  if (!lua_next(L_, frame->slot)) return end(frame, "{}");
  if (!take_key(frame, -2)) return Step::kFailed;
  return write_key(frame) ? Step::kItem : Step::kFailed;
}

Encoder::Step Encoder::next_sorted(Frame* frame) {
  if (frame->first_key + frame->count == keys_.size()) return end(frame, "{}");
  const Key& key = keys_[frame->first_key + frame->count];
  frame->key = key.text;
  lua_rawgeti(L_, frame->slot + 1, -key.position);
  if (lua_isnil(L_, -1)) {
    lua_pop(L_, 1);
    lua_rawgeti(L_, frame->slot + 1, key.position);
  } else {
    frame->key = {};
    frame->number = lua_tonumber(L_, -1);
  }
  if (!write_key(frame)) return Step::kFailed;
  lua_rawget(L_, frame->slot);
  return Step::kItem;
}

Encoder::Step Encoder::end(Frame* frame, std::string_view brackets) {
  if (frame->count == 0) {
    out_.put(brackets);
  } else {
    line(frames_.size() - 1);
    out_.put(brackets[1]);
  }
  return Step::kEnd;
}

// Before an item: the opening bracket or a comma.
void Encoder::separate(Frame* frame, char opening) {
  out_.put(frame->count == 0 ? opening : ',');
  ++frame->count;
  line(frames_.size());
}

void Encoder::line(std::size_t depth) {
  if (!options_.indent.data()) return;
  out_.put('\n');
  for (std::size_t i = 0; i < depth; ++i) out_.put(options_.indent);
}

// ---- keys ---------------------------------------------------------------------------------------

// Looks at all keys of a table that did not give 1, 2, 3 ... in order: it becomes a list if that is
// what they are.
bool Encoder::settle(Frame* frame) {
  lua_settop(L_, frame->slot);
  double largest = 0;
  double total = 0;
  if (!count_items(frame, &largest, &total)) return false;
  if (frame->mark == Mark::kArray) {
    lua_pushliteral(L_, "n");
    lua_rawget(L_, frame->slot);
    if (lua_type(L_, -1) == LUA_TNUMBER) {
      largest = lua_tonumber(L_, -1);
      if (largest != 0 && !is_index(largest)) {
        return refuse_table("an array whose key \"n\" is " + number_text(largest));
      }
    } else if (!lua_isnil(L_, -1)) {
      return refuse_table(std::string("an array whose key \"n\" is a ") +
                          lua_typename(L_, lua_type(L_, -1)));
    } else if (largest > kNullsForItem * total + kNullsForList) {
      return refuse_table("an array of " + number_text(total) + " items that has key " +
                          number_text(largest) + " (set n)");
    }
    lua_pop(L_, 1);
  } else if (largest != total) {
    int missing = 0;
    bool found = true;
    while (found) {
      lua_rawgeti(L_, frame->slot, ++missing);
      found = !lua_isnil(L_, -1);
      lua_pop(L_, 1);
    }
    return refuse_table("a list with a hole: it has key " + number_text(largest) + ", but not " +
                        std::to_string(missing));
  }
  out_.cut(frame->start);
  frame->kind = Kind::kList;
  frame->size = static_cast<std::size_t>(largest);
  frame->count = 0;
  lua_pushnil(L_);
  return true;
}

// The largest of the keys, which have to be positive integers, and how many there are.
bool Encoder::count_items(Frame* frame, double* largest, double* total) {
  bool marked = frame->mark == Mark::kArray;
  lua_pushnil(L_);
  while (lua_next(L_, frame->slot)) {
    lua_pop(L_, 1);
    if (lua_type(L_, -1) == LUA_TNUMBER && is_index(lua_tonumber(L_, -1))) {
      *largest = std::max(*largest, lua_tonumber(L_, -1));
      *total += 1;
    } else if (!marked || lua_type(L_, -1) != LUA_TSTRING || string_at(L_, -1) != "n") {
      std::string key = shown_key(L_, -1);
      if (marked) return refuse_table("an array that has " + key);
      double index = std::max(*largest, static_cast<double>(frame->count));
      if (index > 0) {
        return refuse_table("a table with mixed keys: key " + number_text(index) + " and " + key);
      }
      return refuse_table("a table that has " + key);
    }
  }
  return true;
}

// Reads the key at the stack's `index` into the frame.
bool Encoder::take_key(Frame* frame, int index) {
  if (lua_type(L_, index) == LUA_TSTRING) {
    frame->key = string_at(L_, index);
    return true;
  }
  if (lua_type(L_, index) != LUA_TNUMBER) {
    return refuse_table("an object that has " + shown_key(L_, index));
  }
  if (frame->mark != Mark::kObject) {
    return refuse_table("a table with mixed keys: key " + quoted(frame->key) + " and " +
                        shown_key(L_, index));
  }
  frame->key = {};
  frame->number = lua_tonumber(L_, index);
  if (std::isinf(frame->number)) return refuse_table("an object that has an infinite key");
  std::string text = number_text(frame->number);
  lua_pushlstring(L_, text.data(), text.size());
  lua_rawget(L_, frame->slot);
  bool twice = !lua_isnil(L_, -1);
  lua_pop(L_, 1);
  return !twice || refuse_table("an object that has key " + text + " both as number and as string");
}

// Reads all keys of the table on top and puts them in order. Their texts go into a table, and those
// that are numbers to the same places below 0.
bool Encoder::collect_keys(Frame* frame) {
  frame->kind = Kind::kSorted;
  frame->first_key = keys_.size();
  lua_newtable(L_);
  int collected = lua_gettop(L_);
  int position = 0;
  lua_pushnil(L_);
  while (lua_next(L_, frame->slot)) {
    lua_pop(L_, 1);
    if (!take_key(frame, -1)) return false;
    ++position;
    lua_pushvalue(L_, -1);
    if (!frame->key.data()) {
      lua_rawseti(L_, collected, -position);
      std::string text = number_text(frame->number);
      lua_pushlstring(L_, text.data(), text.size());
    }
    keys_.push_back(Key{string_at(L_, -1), position});
    lua_rawseti(L_, collected, position);
  }
  std::sort(keys_.begin() + static_cast<std::ptrdiff_t>(frame->first_key), keys_.end(),
            [](const Key& a, const Key& b) { return a.text < b.text; });
  return true;
}

bool Encoder::write_key(Frame* frame) {
  separate(frame, '{');
  bool is_text = true;
  if (frame->key.data()) {
    is_text = out_.put_string(frame->key);
  } else {
    out_.put('"');
    out_.wrote(write_number(out_.room_for(kNumberSpace), frame->number));
    out_.put('"');
  }
  out_.put(':');
  if (options_.indent.data()) out_.put(' ');
  return is_text || refuse("a key that is not UTF-8");
}

// ---- errors -------------------------------------------------------------------------------------

// The value that is being written cannot be.
bool Encoder::refuse(const std::string& what) {
  message_ = "cannot encode " + what;
  path_ = path_of(frames_.size());
  return false;
}

// The innermost table cannot be written.
bool Encoder::refuse_table(const std::string& what) {
  message_ = "cannot encode " + what;
  path_ = path_of(frames_.size() - 1);
  return false;
}

// Where the item stands that is being written `frames` deep, as Lua would reach it from `$`.
std::string Encoder::path_of(std::size_t frames) const {
  std::string path = "$";
  for (std::size_t i = 0; i < frames; ++i) {
    const Frame& frame = frames_[i];
    if (frame.kind == Kind::kInOrder || frame.kind == Kind::kList) {
      path += '[' + std::to_string(frame.count) + ']';
    } else if (!frame.key.data()) {
      path += '[' + number_text(frame.number) + ']';
    } else if (is_name(frame.key)) {
      path += '.';
      path += frame.key;
    } else {
      path += '[' + quoted(frame.key) + ']';
    }
  }
  return path;
}

}  // namespace rille::json
