// What decoding and encoding leave behind when memory runs out or Lua raises an error within.
#include <lua.hpp>

#include "support/runtime_fixture.hpp"

namespace {

// An allocator that refuses everything from a certain call on.
struct Limit {
  lua_Alloc alloc;
  void* data;
  long left = -1;  // negative: no limit

  static void* call(void* self, void* block, std::size_t before, std::size_t after) {
    auto* limit = static_cast<Limit*>(self);
    if (after > before) {
      if (limit->left == 0) return nullptr;
      if (limit->left > 0) --limit->left;
    }
    return limit->alloc(limit->data, block, before, after);
  }
};

class JsonFixture : public RuntimeFixture {
 public:
  lua_State* L = runtime.lua_state();
  Limit limit{};

  JsonFixture() {
    limit.alloc = lua_getallocf(L, &limit.data);
    lua_setallocf(L, Limit::call, &limit);
  }
  ~JsonFixture() { lua_setallocf(L, limit.alloc, limit.data); }

  // Runs the function of that name, refusing memory ever later, until it succeeds. Returns how
  // often it did not.
  int starve(const char* function) {
    for (int failures = 0;; ++failures) {
      lua_getglobal(L, function);
      limit.left = failures;
      int status = lua_pcall(L, 0, 1, 0);
      limit.left = -1;
      if (status == 0) {
        CHECK(lua_toboolean(L, -1));
        lua_pop(L, 1);
        return failures;
      }
      REQUIRE(status == LUA_ERRMEM);
      lua_pop(L, 1);
      // What is given up was taken from Lua's own objects: they are whole.
      lua_gc(L, LUA_GCCOLLECT, 0);
    }
  }
};

}  // namespace

TEST_CASE_METHOD(JsonFixture, "decode without memory is an error, and leaks nothing", "[json]") {
  run(R"lua(
    local json = require "rille.json"
    local text = '{"list":[1,2.5,"a\\n",[],{}],"big":[9007199254740993,18446744073709551615],'
      .. '"nested":' .. ('['):rep(1600) .. '{"k":"v"}' .. (']'):rep(1600) .. '}'
    function decode_all()
      local value = json.decode(text, { depth = 2000 })
      return value.list[3] == "a\n" and value.big[1] == 9007199254740993LL
    end
    assert(decode_all())
  )lua");
  CHECK(starve("decode_all") > 100);
}

TEST_CASE_METHOD(JsonFixture, "encode without memory is an error, and leaks nothing", "[json]") {
  run(R"lua(
    local json = require "rille.json"
    local value = { list = { 1, 2.5, "a\n", json.array {}, 9007199254740993LL }, b = { a = 1 } }
    for _ = 1, 1600 do value = { value, x = nil } end
    local text = json.encode(value, { depth = 2000, sort_keys = true })
    function encode_all()
      return json.encode(value, { depth = 2000, sort_keys = true }) == text
    end
  )lua");
  CHECK(starve("encode_all") > 5);
}

TEST_CASE_METHOD(JsonFixture, "errors of Lua's own go through a decode and an encode", "[json]") {
  // Nothing that Lua reports while values are made is lost or caught on the way.
  run(R"lua(
    local json, binding = require "rille.json", require "rille.core.json"
    local function raise() error("raised within", 0) end
    local decode, encode = binding.functions {
      make_signed = raise, make_unsigned = raise, is_signed = raise, array_mark = {},
      object_mark = {}, marks = {},
    }
    for _ = 1, 1000 do
      local ok, err = pcall(decode, '{"a":["\\n",{"b":[9007199254740993]}]}', 1000, 0)
      assert(not ok and err == "raised within")
      ok, err = pcall(encode, { a = { "text", { 5LL } } }, 1000, nil, true)
      assert(not ok and err == "raised within")
    end
    assert(json.encode(json.decode '{"a":[1]}') == '{"a":[1]}')
  )lua");
}
