// What happens when memory runs out, wherever that is.
#include <sys/resource.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "scheduler.h"
#include "script_limits.h"
#include "support/runtime_fixture.hpp"

using rille::Options;
using rille::Runtime;

namespace {

struct Limited {
  std::string reports;
  Runtime runtime;

  explicit Limited(std::size_t bytes) : runtime(options(bytes, &reports)) {}

  static Options options(std::size_t bytes, std::string* reports) {
    Options options;
    options.memory_limit = bytes;
    options.on_report = [reports](const rille::Report& report) { *reports += report.text + "\n"; };
    return options;
  }
};

// What only a fault of the runtime's would make it say.
bool is_internal(const std::string& text) {
  for (const char* part : {"attempt to", "error in the runtime", "error between two tasks",
                           "bad argument", "deadlock", "nothing can", "fatal"}) {
    if (contains(text, part)) return true;
  }
  return false;
}

const char* const kModules =
    "for _, name in ipairs { 'async', 'fs', 'json', 'net', 'http', 'worker', 'errors' } do "
    "require('rille.' .. name) end "
    "local http = require 'rille.http' local app = http.App() app:get('/', function() "
    "return 'x' end) local server = app:serve() "
    "local s = http.Session() s:get('http://127.0.0.1:' .. server.port .. '/'):text() s:close() "
    "server:close()";

// Uses what there is, and takes care of what it opens.
const char* const kProgram = R"lua(
  local async, fs, json = require "rille.async", require "rille.fs", require "rille.json"
  local net, http = require "rille.net", require "rille.http"

  local function tasks()
    local sum = 0
    local list = {}
    for i = 1, 5 do
      list[i] = function() async.sleep(0) sum = sum + i return i, i end
    end
    local results = async.gather(list)
    assert(results[5] == 5)
    pcall(async.gather, { function() error "one" end, function() async.sleep(5) end })
    async.map({ 1, 2, 3 }, function(n) async.sleep(0) return n end, { limit = 2 })
    local a, b = async.spawn(async.sleep, 0), async.spawn_eager(async.sleep, 5)
    b:cancel "enough"
    async.wait { a, b }
    pcall(async.wait_for, async.sleep, 0.001, 10)
    pcall(async.timeout, 0.001, function() async.sleep(10) end)
    local future = async.Future()
    async.call_soon(function() future:set_result(1, 2) end)
    future:await()
    local co = coroutine.wrap(function() async.sleep(0) coroutine.yield(1) end)
    co()
    local lock, event = async.Lock(), async.Event()
    async.group(function(g)
      g:spawn(function() lock:with(function() async.sleep(0) end) event:set() end)
      g:spawn(function() lock:with(function() async.sleep(0) end) end)
      g:spawn(function() event:wait() end)
    end)
  end

  local function queues()
    local q = async.Queue(1)
    async.group(function(g)
      g:spawn(function()
        async.finally(function() for i = 1, 3 do q:put(i) end end, function() q:shutdown() end)
      end)
      g:spawn(function() for _ in q:iter() do async.sleep(0) end end)
    end)
  end

  local function files()
    local path = fs.mkdtemp()
    async.finally(function()
      fs.write_file(path .. "/x", json.encode { a = { 1, 2, 3 } })
      assert(json.decode(fs.read_file(path .. "/x")).a[3] == 3)
      for name in fs.scandir(path) do assert(name == "x") end
      local f = fs.open(path .. "/x")
      async.finally(function() f:read "*a" end, function() f:close() end)
    end, function() fs.remove(path, { recursive = true }) end)
  end

  local function streams()
    local listener = net.listen { port = 0 }
    async.finally(function()
      local client = async.spawn(net.connect, { host = "127.0.0.1",
        port = listener:address().port })
      local stream = listener:accept()
      local other
      async.finally(function()
        other = client:await()
        other:write "line\n"
        assert(stream:read_until "\n" == "line\n")
      end, function()
        stream:close()
        if other then other:close() end
      end)
    end, function() listener:close() end)
  end

  local function web()
    local app = http.App()
    app:get("/", function(req) return { hello = "world" } end)
    local server = app:serve()
    async.finally(function()
      local session = http.Session()
      async.finally(function()
        local r = session:get("http://127.0.0.1:" .. server.port .. "/")
        assert(r:json().hello == "world")
      end, function() session:close() end)
    end, function() server:close(0) end)
  end

  local parts = { tasks = tasks, queues = queues, files = files, streams = streams, web = web }
  return parts[...]()
)lua";

// How many allocations a part makes under the ceiling is not known: until none fails any more.
void fail_everywhere(const std::string& part, bool is_refused, std::size_t first_step,
                     double growth) {
  std::string code = "return (function(...) " + std::string(kProgram) + " end)('" + part + "')";
  std::size_t failures = 0;
  double n = 1;
  for (bool hit = true; hit; n += std::max<double>(first_step, n * growth)) {
    Limited limited(256 << 20);
    REQUIRE(run_script(limited.runtime, kModules).kind == Outcome::kDone);
    lua_State* L = limited.runtime.lua_state();
    rille::Memory* memory = rille::Scheduler::of(L)->limits->memory();
    memory->fail_after(static_cast<std::size_t>(n), is_refused);
    Outcome outcome = run_script(limited.runtime, code);
    hit = memory->has_failed_on_purpose();
    memory->fail_after(0);
    failures += hit;
    INFO(part << " " << n << ": " << outcome.message << "\nreports: " << limited.reports);
    CHECK_FALSE(is_internal(outcome.message));
    CHECK_FALSE(is_internal(limited.reports));
    CHECK(run_script(limited.runtime, "require('rille.async').sleep(0) return {}").kind ==
          Outcome::kDone);
    limited.runtime.close();
  }
  CHECK(failures > 5);
}

long resident_kib() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.rfind("VmRSS:", 0) == 0) return std::atol(line.c_str() + 6);
  }
  return 0;
}

}  // namespace

TEST_CASE("memory may run out at any point: tasks", "[memory]") {
  fail_everywhere("tasks", false, 1, 0.01);
}
TEST_CASE("memory may run out at any point: queues", "[memory]") {
  fail_everywhere("queues", false, 1, 0.01);
}
TEST_CASE("memory may run out at any point: files", "[memory]") {
  fail_everywhere("files", false, 1, 0.01);
}
TEST_CASE("memory may run out at any point: streams", "[memory]") {
  fail_everywhere("streams", false, 1, 0.01);
}
TEST_CASE("memory may run out at any point: http", "[memory]") {
  fail_everywhere("web", false, 3, 0.02);
}

// What a script makes others hold.
TEST_CASE("bytes outside of the interpreter are kept under the ceiling", "[memory][limits]") {
  const char* const scripts[] = {
      // Writes that their tasks have given up.
      "local l = net.listen { port = 0 } "
      "local s = net.connect { host = '127.0.0.1', port = l:address().port } local p = l:accept() "
      "local big, failed = ('x'):rep(4e6) "
      "for i = 1, 100 do local t = async.spawn_eager(function() "
      "local ok, e = pcall(s.write, s, big) failed = failed or not ok and e.code == 'ENOMEM' end) "
      "t:cancel() async.sleep(0) end assert(failed)",
      "local l = net.listen { port = 0 } "
      "async.spawn(function() local s, b = l:accept(), ('x'):rep(1e6) "
      "while pcall(s.write, s, b) do end end) "
      "local s = net.connect { host = '127.0.0.1', port = l:address().port } "
      "local ok, e = pcall(s.read_exactly, s, 5e8) assert(not ok and e.code == 'ENOMEM') s:close()",
      "local ok, e = pcall(process.run, { 'head', '-c', '500000000', '/dev/zero' }) "
      "assert(not ok and e.code == 'ENOMEM', tostring(e))",
      "local ok, e = pcall(process.run, { 'sh', '-c', 'yes' }) "
      "assert(not ok and e.code == 'ENOMEM', tostring(e))",
      "local ok, e = pcall(process.run, { 'sh', '-c', 'head -c 500000000 /dev/zero >&2' }) "
      "assert(not ok and e.code == 'ENOMEM', tostring(e))",
      "local c = worker.Channel() local ok, e = pcall(function() while true do c:send(1) end end) "
      "assert(not ok and tostring(e):find 'not enough memory')",
      "local list, s = {}, ('x'):rep(1e6) for i = 1, 1e4 do list[i] = s end "
      "assert(not pcall(worker.Channel().send, worker.Channel(), list))",
      "local t = {} for i = 1, 40 do t = { t, t } end assert(not pcall(json.encode, t))",
  };
  [[maybe_unused]] long before = resident_kib();
  for (const char* script : scripts) {
    INFO(script);
    Limited limited(16 << 20);
    Outcome outcome = run_script(
        limited.runtime, std::string("local async, net, process = require 'rille.async', require "
                                     "'rille.net', require 'rille.process' "
                                     "local worker, json = require 'rille.worker', require "
                                     "'rille.json' ") +
                             script);
    INFO(outcome.message);
    CHECK(outcome.kind == Outcome::kDone);
  }
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  CHECK(resident_kib() - before < 150 << 10);
#endif
}
