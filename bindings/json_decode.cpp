#include "json_decode.h"

#include <algorithm>
#include <cstring>

#include "json_number.h"
#include "json_text.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace rille::json {

namespace {

// Containers up to here stand on Lua's stack, which holds 8000 values for a C function, two for
// each of them; deeper ones wait in a table.
constexpr std::size_t kDepthOnStack = 1500;

constexpr std::size_t kKept = 1 << 16;

// Keys come again and again. Where a text is large enough, the last ones are kept on the stack: to
// push one from there takes a fraction of the time that Lua takes to find its string.
constexpr std::uint32_t kWorthKeys = 300;
constexpr std::size_t kLongestKey = 32;

// More than that grows as it is filled: a text of commas shall not take memory for a table of them.
constexpr std::uint32_t kLargestHint = 1 << 20;

int hint(std::uint32_t size) { return static_cast<int>(std::min(size, kLargestHint)); }

}  // namespace

Decoder::Status Decoder::decode(lua_State* L, const char* text, std::size_t size,
                                const Limits& limits, const Helpers& helpers) {
  switch (index_.build(text, size)) {
    case Index::Status::kDone:
      break;
    case Index::Status::kRefused:
      return Status::kRefused;
    case Index::Status::kNoMemory:
      return Status::kNoMemory;
    case Index::Status::kNoLibrary:
      return Status::kNoLibrary;
  }
  L_ = L;
  text_ = text;
  end_ = text + size;
  limits_ = limits;
  helpers_ = helpers;
  auto* backslash = static_cast<const char*>(std::memchr(text, '\\', size));
  backslash_ = backslash ? backslash : end_;
  if (!measure()) return Status::kRefused;

  std::size_t on_stack = std::min(deepest_, kDepthOnStack) * 2 + kKeys + 10;
  luaL_checkstack(L, static_cast<int>(on_stack), "too little room for nested JSON");
  lua_pushnil(L);
  deep_slot_ = lua_gettop(L);
  deep_count_ = 0;
  first_key_ = 0;
  if (index_.count() >= kWorthKeys) {
    first_key_ = deep_slot_ + 1;
    lua_settop(L, deep_slot_ + kKeys);
    std::fill(std::begin(keys_), std::end(keys_), Key());
  }
  next_size_ = sizes_.data();
  frames_.clear();
  return build() ? Status::kDone : Status::kRefused;
}

void Decoder::shrink() {
  index_.shrink();
  if (sizes_.capacity() > kKept) std::vector<std::uint32_t>().swap(sizes_);
  if (open_.capacity() > kKept) std::vector<Open>().swap(open_);
  if (frames_.capacity() > kKept) std::vector<Frame>().swap(frames_);
  if (buffer_size_ > kKept) {
    buffer_.reset();
    buffer_size_ = 0;
  }
}

// Counts what is in each container, so that its table is made with the right size, and how deep
// they go. Only the numbers of brackets have to fit; the rest of the grammar is for `build`.
bool Decoder::measure() {
  const std::uint32_t* offsets = index_.begin();
  const std::uint32_t count = index_.count();
  sizes_.clear();
  open_.clear();
  deepest_ = 0;
  char before = 0;
  std::uint32_t commas = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    char c = text_[offsets[i]];
    switch (c) {
      case ',':
        ++commas;
        break;
      case '[':
      case '{':
        if (open_.size() >= limits_.depth) return false;
        open_.push_back(Open{static_cast<std::uint32_t>(sizes_.size()), commas});
        deepest_ = std::max(deepest_, open_.size());
        sizes_.push_back(0);
        commas = 0;
        break;
      case ']':
      case '}':
        if (open_.empty()) return false;
        sizes_[open_.back().container] = before == '[' || before == '{' ? 0 : commas + 1;
        commas = open_.back().commas;
        open_.pop_back();
        break;
      default:
        break;
    }
    before = c;
  }
  return open_.empty();
}

// Makes the values, one after the other; each is put into its container once it is whole. The
// offset behind the last is that of the text's final NUL, which fits nowhere.
bool Decoder::build() {
  const std::uint32_t* at = index_.begin();
  const std::uint32_t* last = at + index_.count();
  for (;;) {
    bool closes = false;
    char c = text_[*at];
    if (c == '[' || c == '{') {
      enter(c == '{');
      ++at;
      closes = text_[*at] == c + 2;  // both closing brackets are two behind theirs in ASCII
      if (!closes) {
        if (c == '{' && !key(&at)) return false;
        continue;
      }
    } else {
      if (!scalar(at)) return false;
      ++at;
    }
    // What is on top goes into its container, and that into its own if it ends there.
    for (;;) {
      bool placed = false;
      if (closes) {
        ++at;
        placed = leave();
      }
      if (frames_.empty()) return at == last;
      Frame& container = frames_.back();
      if (container.object) {
        if (!placed) lua_rawset(L_, container.slot);
      } else if (!placed) {
        lua_rawseti(L_, container.slot, static_cast<int>(++container.count));
      }
      c = text_[*at];
      if (c == ',') {
        ++at;
        if (container.object && !key(&at)) return false;
        break;
      }
      closes = c == (container.object ? '}' : ']');
      if (!closes) return false;
    }
  }
}

// Makes the table of a container that begins.
void Decoder::enter(bool object) {
  int size = hint(*next_size_++);
  lua_createtable(L_, object ? 0 : size, object ? size : 0);
  if (!object) {
    lua_pushvalue(L_, helpers_.array_mark);
    lua_setmetatable(L_, -2);
  }
  if (frames_.size() < kDepthOnStack) {
    frames_.push_back(Frame{lua_gettop(L_), 0, object, false});
  } else {
    enter_deep(object);
  }
}

// The table on top takes the place of its parent on the stack.
void Decoder::enter_deep(bool object) {
  Frame& parent = frames_.back();
  int slot = parent.slot;
  lua_pushvalue(L_, -1);
  if (parent.object) {
    lua_insert(L_, -3);  // below its key
    lua_rawset(L_, slot);
  } else {
    lua_rawseti(L_, slot, static_cast<int>(++parent.count));
  }
  if (lua_isnil(L_, deep_slot_)) {
    lua_newtable(L_);
    lua_replace(L_, deep_slot_);
  }
  lua_pushvalue(L_, slot);
  lua_rawseti(L_, deep_slot_, ++deep_count_);
  lua_replace(L_, slot);
  frames_.push_back(Frame{slot, 0, object, true});
}

// Ends the innermost container. Returns whether it has been put into its own already.
bool Decoder::leave() {
  Frame frame = frames_.back();
  frames_.pop_back();
  if (!frame.deep) return false;
  lua_rawgeti(L_, deep_slot_, deep_count_--);
  lua_replace(L_, frame.slot);
  return true;
}

bool Decoder::key(const std::uint32_t** at) {
  const std::uint32_t* p = *at;
  if (text_[p[0]] != '"' || !key_string(p) || text_[p[1]] != ':') return false;
  *at = p + 2;
  return true;
}

bool Decoder::scalar(const std::uint32_t* at) {
  const char* p = text_ + *at;
  switch (*p) {
    case '"':
      return string(at);
    case 't':
      lua_pushboolean(L_, 1);
      return literal(p, "true", 4);
    case 'f':
      lua_pushboolean(L_, 0);
      return literal(p, "false", 5);
    case 'n':
      lua_pushlightuserdata(L_, nullptr);
      return literal(p, "null", 4);
    default:
      return number(p);
  }
}

// Pushes the string whose opening quote is `at`. The closing one is the last thing before what
// comes next, but for white space.
bool Decoder::string(const std::uint32_t* at) {
  const char* begin = text_ + at[0] + 1;
  const char* end = text_ + at[1] - 1;
  while (*end != '"') --end;
  if (backslash_ < end) return push_unescaped(begin, end);
  lua_pushlstring(L_, begin, static_cast<std::size_t>(end - begin));
  return true;
}

// Whether two short strings of the text are the same.
bool Decoder::same(const char* a, const char* b, std::size_t size) const {
#ifdef __SSE2__
  if (size <= 16 && end_ - b >= 16) {  // `a` stands before `b`
    __m128i equal = _mm_cmpeq_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a)),
                                   _mm_loadu_si128(reinterpret_cast<const __m128i*>(b)));
    unsigned differ = ~static_cast<unsigned>(_mm_movemask_epi8(equal));
    return (differ & ((1U << size) - 1)) == 0;
  }
#endif
  return std::memcmp(a, b, size) == 0;
}

// The same for a key.
bool Decoder::key_string(const std::uint32_t* at) {
  const char* begin = text_ + at[0] + 1;
  const char* end = text_ + at[1] - 1;
  while (*end != '"') --end;
  auto size = static_cast<std::size_t>(end - begin);
  if (first_key_ == 0 || size > kLongestKey || size == 0 || backslash_ < end) return string(at);
  // Keys that differ often do so at one of their ends.
  auto first = static_cast<unsigned char>(*begin);
  auto middle = static_cast<unsigned char>(begin[size / 2]);
  auto last = static_cast<unsigned char>(end[-1]);
  auto place = (size * 7 + first * 3 + middle * 5 + last * 11) % kKeys;
  Key& key = keys_[place];
  int slot = first_key_ + static_cast<int>(place);
  if (key.size == size && same(key.text, begin, size)) {
    lua_pushvalue(L_, slot);
    return true;
  }
  lua_pushlstring(L_, begin, size);
  lua_pushvalue(L_, -1);
  lua_replace(L_, slot);
  key = Key{begin, size};
  return true;
}

// A string that may have escapes.
bool Decoder::push_unescaped(const char* begin, const char* end) {
  auto size = static_cast<std::size_t>(end - begin);
  if (buffer_size_ < size + kUnescapeSlack) {
    std::size_t larger = std::max(size + kUnescapeSlack, 2 * buffer_size_);
    buffer_ = std::make_unique_for_overwrite<char[]>(larger);
    buffer_size_ = larger;
  }
  char* stop = unescape(begin, end, buffer_.get());
  if (!stop) return false;
  lua_pushlstring(L_, buffer_.get(), static_cast<std::size_t>(stop - buffer_.get()));
  auto* next = static_cast<const char*>(std::memchr(end, '\\', end_ - end));
  backslash_ = next ? next : end_;
  return true;
}

bool Decoder::number(const char* p) {
  Number n = read_number(p);
  if (!ends_at(n.end)) return false;
  switch (n.kind) {
    case Number::kDouble:
      lua_pushnumber(L_, n.as_double);
      return true;
    case Number::kSigned:
      push_integer(helpers_.make_signed, static_cast<std::uint64_t>(n.as_signed));
      return true;
    case Number::kUnsigned:
      push_integer(helpers_.make_unsigned, n.as_unsigned);
      return true;
    case Number::kTooLarge:
      if (limits_.big == Big::kDouble) {
        lua_pushnumber(L_, n.as_double);
      } else {
        lua_pushlstring(L_, p, static_cast<std::size_t>(n.end - p));
      }
      return limits_.big != Big::kError;
    case Number::kMalformed:
      return false;
  }
  return false;
}

// Doubles cannot carry all of it, but each half.
void Decoder::push_integer(int maker, std::uint64_t bits) {
  lua_pushvalue(L_, maker);
  if (maker == helpers_.make_signed) {
    lua_pushnumber(L_, static_cast<std::int32_t>(bits >> 32));
  } else {
    lua_pushnumber(L_, static_cast<std::uint32_t>(bits >> 32));
  }
  lua_pushnumber(L_, static_cast<std::uint32_t>(bits));
  lua_call(L_, 2, 1);
}

bool Decoder::literal(const char* p, const char* word, std::size_t size) {
  return static_cast<std::size_t>(end_ - p) >= size && std::memcmp(p, word, size) == 0 &&
         ends_at(p + size);
}

// Numbers and literals reach up to a bracket, a comma, a colon, white space or the end.
bool Decoder::ends_at(const char* p) const {
  switch (*p) {
    case ',':
    case ']':
    case '}':
    case ' ':
    case '\n':
    case '\r':
    case '\t':
      return true;
    default:
      return p == end_;
  }
}

}  // namespace rille::json
