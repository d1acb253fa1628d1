// Functions of Lua's library that can be stopped, and do what the interpreter's own do.
#include <chrono>
#include <string>
#include <thread>

#include "support/runtime_fixture.hpp"

using rille::Options;
using rille::Runtime;

namespace {

// What would take hours in one call.
const char* const kLong[] = {
    "return text:find(many)",
    "return text:match(many)",
    "return string.match(text, ('.*'):rep(20) .. 'b')",
    "return (text:gsub(many, ''))",
    "return text:gmatch(many)()",
    "for _ in text:gmatch(many) do end",
    "return ('('):rep(1e6):find(('%b()'):rep(1) .. 'x')",
    "return ('a'):rep(3e6):find(('a'):rep(1.5e6) .. 'b' .. ('a'):rep(1.5e6), 1, true) or "
    "text:find(many)",
    "return ('a'):rep(1e6):find('.-b')",
    "return ('x'):rep(1e6):find('(x-)%1%1y')",
    "table.insert({}, -2^31, 1) return text:find(many)",
    "local t = {} for i = 1, 1e5 do t[i] = i end "
    "table.sort(t, function(a, b) return text:find(many) end)",
    "while true do pcall(string.find, text, many) end",
    "return pcall(pcall, string.find, text, many), text:find(many)",
    "local co = coroutine.wrap(function() text:find(many) end) co() text:find(many)",
    // The same table twice in each: a text of as many bytes as there are atoms.
    "local t = {} for i = 1, 60 do t = {t, t} end return require('rille.json').encode(t)",
    "local list, s = {}, ('x'):rep(1e6) for i = 1, 1e6 do list[i] = s end "
    "require('rille.worker').Channel():send(list)",
};

}  // namespace

TEST_CASE("calls that would take hours are stopped", "[guarded][limits]") {
  for (const char* script : kLong) {
    INFO(script);
    Options options = with_slice(0.1);
    options.memory_limit = 1 << 30;
    Runtime runtime(options);
    Outcome outcome = run_script(
        runtime, std::string("local text, many = ('a'):rep(1e4), ('.-'):rep(20) .. 'b' ") + script);
    CHECK(outcome.kind == Outcome::kFailed);
    bool is_stopped = contains(outcome.message, "InterruptedError: the script held the loop up") ||
                      contains(outcome.message, "not enough memory") ||
                      contains(outcome.message, "out of bounds");
    INFO(outcome.message);
    CHECK(is_stopped);
    CHECK(run_script(runtime, "require('rille.async').sleep(0) return 1").kind == Outcome::kDone);
  }
}

TEST_CASE("they are stopped in a sandbox by an interruption, too", "[guarded][limits]") {
  Options options;
  options.permissions = rille::Permissions::none();
  options.on_report = [](const rille::Report&) {};
  Runtime runtime(options);
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    runtime.interrupt("enough of it");
  });
  Outcome outcome = run_script(runtime, "return (('a'):rep(1e4):find(('.-'):rep(20) .. 'b'))");
  other.join();
  CHECK(contains(outcome.message, "enough of it"));
}

TEST_CASE("patterns mean what they mean to the interpreter", "[guarded][limits]") {
  Runtime runtime(with_slice(30));
  Outcome outcome = run_script(runtime, R"lua(
    local stock = {}
    for _, name in ipairs { "find", "match", "gmatch", "gsub" } do
      local _, fn = debug.getupvalue(string[name], 1)
      assert(type(fn) == "function" and fn ~= string[name])
      stock[name] = fn
    end
    local function all_matches(gmatch)
      return function(s, p)
        local found = {}
        for a, b in gmatch(s, p) do found[#found + 1] = tostring(a) .. "|" .. tostring(b) end
        return table.concat(found, ",")
      end
    end
    local function show(...)
      local list = { ... }
      for i = 1, select("#", ...) do
        list[i] = type(list[i]) .. " " .. (tostring(list[i]):gsub("^[^ ]*:%d+: ", ""))
      end
      return table.concat(list, "; ")
    end
    local function compare(name, old, new, ...)
      local expected, got = show(pcall(old, ...)), show(pcall(new, ...))
      if expected ~= got then
        error(("%s(%s): %s expected, got %s"):format(name, show(...), expected, got))
      end
    end
    local function check(s, p, init, replacement, most)
      compare("find", stock.find, string.find, s, p, init)
      compare("find", stock.find, string.find, s, p, init, true)
      compare("match", stock.match, string.match, s, p, init)
      compare("gmatch", all_matches(stock.gmatch), all_matches(string.gmatch), s, p)
      compare("gsub", stock.gsub, string.gsub, s, p, replacement, most)
    end

    -- Every character in every class.
    for c = 0, 255 do
      for name = 0, 255 do
        if not string.char(name):find "[bf0-9%z]" then
          compare("find", stock.find, string.find, string.char(c), "%" .. string.char(name))
        end
      end
      check(string.char(c), "[%a%-x]")
      check(string.char(c), "[^%s!-/]")
    end

    -- Faults.
    for _, p in ipairs { "%", "[", "[^", "[]", "[^]", "[a", "[a-", "[%", "[%]", "%b", "%bx", "%f",
      "%fa", "%1", "(%1)", "(a)%2", ")", "(", "((a)", "a)", ("(a)"):rep(33), "%0", "a\0b", "[a\0]",
      "^^a", "a$b$", "$", "^", "^$", "", "()", "(()())", "%g", "[]]", "[^]]", "[a-]", "[-a]",
      "[%a-z]", "[a-%%]", "x-", "x*?", "-", "*", "+", "?", "[a]-$", "%f[%w]%w+", "(a*(.)%w(%s*))" } do
      for _, s in ipairs { "", "a", "ab]c", "a-b", "THE (quick) fox", "aa bb\0cc", "[%]", "^a$" } do
        check(s, p, nil, "<%0>")
        check(s, p, 2, "%1")
        check(s, p, -2, "x%%y", 1)
      end
    end
    for _, r in ipairs { "%", "%2", "%z", "a%0b%1", "%\0", "\0" } do check("abc", "%w", nil, r) end
    for _, r in ipairs { { a = "x", b = false, c = 7 }, function(x) return x == "a" and 1 or nil end,
      function() return {} end, { a = {} }, 12, true } do check("abcd", "%w", nil, r) end
    check("abc", "b", nil)
    for _, most in ipairs { 0, 1, -1, 2.5, 1e12 } do check("aaa", "a", nil, "b", most) end
    for _, init in ipairs { 0, 1, -1, 4, 5, -10, 100, 1.7 } do
      check("abc", "", init, "")
      check("abc", "()b*", init, "")
    end
    compare("match", stock.match, string.match, 12345, 34)
    compare("find", stock.find, string.find, {}, "a")
    compare("find", stock.find, string.find, "a")
    compare("gsub", stock.gsub, string.gsub, "a", "a")

    -- Whatever else.
    local pieces = { "a", "b", ".", "%a", "%d", "%s", "[ab]", "[^a]", "[a-c]", "(", ")", "()", "*",
      "+", "-", "?", "%b()", "%f[a]", "%1", "%2", "$", "^", "%.", "(a", "b)", "[%w_]", " ", "1" }
    local letters = { "a", "b", "c", "(", ")", " ", "1", ".", "_" }
    local seed = 12345
    local function random(n)
      seed = (seed * 1103515245 + 12345) % 2147483648
      return math.floor(seed / 65536) % n + 1
    end
    for _ = 1, 20000 do
      local p, s = {}, {}
      for i = 1, random(7) do p[i] = pieces[random(#pieces)] end
      for i = 1, random(12) do s[i] = letters[random(#letters)] end
      check(table.concat(s), table.concat(p), random(5) - 2, "<%1>")
    end
  )lua");
  INFO(outcome.message);
  CHECK(outcome.kind == Outcome::kDone);
}

TEST_CASE("tables are sorted as the interpreter does it, and stay whole", "[guarded][limits]") {
  Runtime runtime(with_slice(30));
  Outcome outcome = run_script(runtime, R"lua(
    local _, stock = debug.getupvalue(table.sort, 1)
    local function copy(t) return { unpack(t) } end
    for n = 0, 300 do
      local list = {}
      for i = 1, n do list[i] = math.random(n) end
      local a, b, c, d = copy(list), copy(list), copy(list), copy(list)
      stock(a)
      table.sort(b)
      assert(table.concat(a, ",") == table.concat(b, ","))
      local function more(x, y) return x > y end
      stock(c, more)
      table.sort(d, more)
      assert(table.concat(c, ",") == table.concat(d, ","))
    end
    local words = { "b", "a", "ab", "", "B", "\0", "a\0" }
    table.sort(words)
    for i = 2, #words do assert(words[i - 1] <= words[i]) end
    -- Whatever the order says, nothing gets lost; an error leaves all as it was.
    local list = {}
    for i = 1, 100 do list[i] = i end
    table.sort(list, function() return math.random() < 0.5 end)
    table.sort(list, function() return true end)
    local seen = {}
    for i = 1, 100 do seen[list[i]] = true end
    for i = 1, 100 do assert(seen[i]) end
    local mixed = { 3, "x", 1 }
    assert(not pcall(table.sort, mixed))
    assert(mixed[1] == 3 and mixed[2] == "x" and mixed[3] == 1)
    local calls = 0
    local ok = pcall(table.sort, list, function() calls = calls + 1 if calls == 50 then error "x" end end)
    assert(not ok and #list == 100)
    assert(not pcall(table.sort) and not pcall(table.sort, {}, 1))
    local by_meta = {}
    local meta = { __lt = function(x, y) return x.n < y.n end }
    for i = 1, 20 do by_meta[i] = setmetatable({ n = -i }, meta) end
    table.sort(by_meta)
    for i = 2, 20 do assert(by_meta[i - 1].n < by_meta[i].n) end
    -- What takes quicksort a step for each pair of items.
    local t = {}
    for i = 1, 2e5 do t[i] = i % 2 == 0 and i or -i end
    table.sort(t)
    for i = 2, #t do assert(t[i - 1] < t[i]) end

    local function inserted(fn, ...)
      local t = { 1, 2, 3 }
      fn(t, ...)
      return table.concat(t, ",")
    end
    local _, insert = debug.getupvalue(table.insert, 1)
    assert(inserted(insert, 4) == inserted(table.insert, 4))
    assert(inserted(insert, 2, 4) == inserted(table.insert, 2, 4))
    assert(not pcall(table.insert, {}, 1, 2, 3))

    assert(load("return ...")(5) == 5 and loadstring("return 7")() == 7)
    local f, e = load("x =", "=name")
    assert(f == nil and e:find("name:1:"), e)
    assert(load("return x", "=name", "t", { x = 3 })() == 3)
    assert(load("return x", nil, "b") == nil)
    local parts = { "return ", "9" }
    assert(load(function() return table.remove(parts, 1) end)() == 9)
    assert(not pcall(load))
    assert(load(string.dump(function() return 4 end))() == 4)
  )lua");
  INFO(outcome.message);
  CHECK(outcome.kind == Outcome::kDone);
}
