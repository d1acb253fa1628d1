// A runtime is opened, used and closed a thousand times, at every stage of its life. Under the
// sanitizers and valgrind this is where a leak or a use after the end shows; descriptors are
// counted everywhere. RILLE_LIFETIMES is how often in all.
#include <dirent.h>
#include <rille/module.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <rille/rille.hpp>
#include <string>
#include <thread>
#include <vector>

using rille::Completion;
using rille::Error;
using rille::Runtime;
using rille::Task;

namespace {

int open_descriptors() {
  DIR* dir = opendir("/proc/self/fd");
  if (!dir) return -1;
  int n = 0;
  while (readdir(dir)) ++n;
  closedir(dir);
  return n;
}

int lifetimes(int parts) {
  const char* text = std::getenv("RILLE_LIFETIMES");
  const char* scale = std::getenv("RILLE_TEST_SCALE");
  double n = text ? std::atof(text) : 1000 * (scale ? std::atof(scale) : 1);
  return std::max(2, static_cast<int>(n / parts));
}

// Starts a script and gives it some turns: it is in the middle of something then.
void begin(Runtime& runtime, const std::string& code, int turns = 3) {
  runtime.spawn_string(code);
  for (int i = 0; i < turns; ++i) runtime.poll();
}

struct Stage {
  const char* name;
  std::function<void(Runtime&)> reach;
  rille::Options options = {};
};

// native.wait(), which a module never completes before the end; native.work(), on a thread.
int open_native(lua_State* L) {
  static const rille_reg functions[] = {
      {"wait",
       [](lua_State* l) {
         auto on_cancel = [](rille_waiter* w, void*) { rille_complete(w, nullptr, nullptr); };
         return rille_park(l, rille_prepare(l, on_cancel, nullptr));
       },
       RILLE_WAITS},
      {"work",
       [](lua_State* l) {
         auto work = [](void* data) {
           std::this_thread::sleep_for(std::chrono::microseconds(*static_cast<int*>(data)));
         };
         return rille_work(
             l, work, nullptr, [](void* data) { delete static_cast<int*>(data); }, new int(500));
       },
       RILLE_WAITS},
      {nullptr, nullptr, 0}};
  static const char kName = 0;
  rille_set_data(L, &kName, new int(1), [](void* data) { delete static_cast<int*>(data); });
  rille_newlib(L, functions);
  lua_setglobal(L, "native");
  return 0;
}

const std::vector<Stage> kStages = {
    {"before it has run", [](Runtime&) {}},
    {"after a script", [](Runtime& r) { r.run_string("return 1"); }},
    {"with a task that has not started", [](Runtime& r) { r.spawn_string("return 1"); }},
    {"with tasks asleep",
     [](Runtime& r) {
       begin(r, R"lua(
         local async = require "rille.async"
         for _ = 1, 10 do async.spawn(async.finally, function() async.sleep(1000) end, function()
           async.sleep(0) end) end
         async.Event():wait()
       )lua");
     }},
    {"with files under way",
     [](Runtime& r) {
       begin(r, R"lua(
         local async, fs = require "rille.async", require "rille.fs"
         async.gather { function() return fs.read_file "/proc/self/maps" end,
           function() return fs.list "/proc" end,
           function() local f = fs.open("/dev/zero") while true do f:read(65536) end end }
       )lua");
     }},
    {"with names and sockets under way",
     [](Runtime& r) {
       begin(r, R"lua(
         local async, net = require "rille.async", require "rille.net"
         local dns = require "rille.dns"
         local listener = net.listen { host = "127.0.0.1", port = 0 }
         async.gather { function() return dns.lookup "localhost" end,
           function() listener:accept():read() end,
           function()
             local s = net.connect { host = "127.0.0.1", port = listener:address().port }
             s:read()
           end }
       )lua");
     }},
    {"with a process under way",
     [](Runtime& r) { begin(r, "require('rille.process').run { 'sleep', '1000' }"); }},
    {"with an exchange of HTTP under way",
     [](Runtime& r) {
       begin(r, R"lua(
         local async, http = require "rille.async", require "rille.http"
         local server = http.serve { port = 0, handler = function() async.sleep(1000) end }
         http.get(("http://127.0.0.1:%d/"):format(server.port))
       )lua");
     }},
    {"with a request of HTTP half sent, and an answer half read",
     [](Runtime& r) {
       begin(r, R"lua(
         local async, http, net = require "rille.async", require "rille.http", require "rille.net"
         local server = http.serve { port = 0, handler = function(req) return #req:body() end }
         local peer = net.listen { host = "127.0.0.1", port = 0 }
         async.gather { function()
             local s = net.connect { host = "127.0.0.1", port = server.port }
             s:write "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"
             s:read()
           end, function()
             local s = peer:accept()
             s:write "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
             s:read() s:read()
           end, function() http.get(("http://127.0.0.1:%d/"):format(peer:address().port)) end }
       )lua",
             8);
     }},
    {"with a websocket open",
     [](Runtime& r) {
       begin(r, R"lua(
         local async, http = require "rille.async", require "rille.http"
         local app = http.App()
         app:websocket("/", function(ws) ws:recv() end)
         local server = app:serve { port = 0 }
         local ws = require("rille.websocket").connect(("ws://127.0.0.1:%d/"):format(server.port))
         ws:recv()
       )lua",
             8);
     }},
    {"with a TLS handshake under way",
     [](Runtime& r) {
       begin(r, R"lua(
         local async, net = require "rille.async", require "rille.net"
         local listener = net.listen { host = "127.0.0.1", port = 0 }
         async.gather { function() listener:accept():read(3) async.sleep(1000) end, function()
           net.connect { host = "127.0.0.1", port = listener:address().port, tls = true } end }
       )lua",
             6);
     }},
    {"with a name server asked",
     [](Runtime& r) {
       begin(r, R"lua(
         local server = require("rille.net").udp { host = "127.0.0.1", port = 0 }
         require("rille.dns").resolve("example.test", "A",
           { servers = { "127.0.0.1:" .. server:address().port } })
       )lua");
     }},
    {"with a folder watched and a signal waited for",
     [](Runtime& r) {
       begin(r, R"lua(
         local async, fs = require "rille.async", require "rille.fs"
         async.gather { function() for _ in fs.watch(fs.tempdir()) do end end,
           function() require("rille.signal").wait "SIGUSR2" end }
       )lua");
     }},
    {"with workers busy",
     [](Runtime& r) {
       begin(r, R"lua(
         local async, worker = require "rille.async", require "rille.worker"
         local channel = worker.Channel()
         async.gather { function() worker.run(function() require("rille.async").sleep(1000) end) end,
           function() worker.run(function(c) c:recv() end, channel) end,
           function() channel:recv() end }
       )lua");
     }},
    {"with a module's waits under way",
     [](Runtime& r) {
       REQUIRE(lua_cpcall(r.lua_state(), open_native, nullptr) == 0);
       begin(r, R"lua(
         local async = require "rille.async"
         local fns = { native.wait, native.wait }
         for _ = 1, 10 do fns[#fns + 1] = native.work end
         async.gather(fns)
       )lua");
     }},
    {"with its memory at its limit",
     [](Runtime& r) {
       CHECK_THROWS_AS(r.run_string("local t = {} for i = 1, 1e9 do t[i] = { i } end"), Error);
       begin(r, R"lua(
         local async = require "rille.async"
         for _ = 1, 100 do async.spawn(async.sleep, 1000) end
         kept = {}
         while true do
           kept[#kept + 1] = ("x"):rep(10000) .. #kept
           if #kept % 50 == 0 then async.sleep(0) end
         end
       )lua");
     },
     [] {
       rille::Options options;
       options.memory_limit = 4 << 20;
       options.on_report = [](const rille::Report&) {};
       return options;
     }()},
    {"after it was stopped",
     [](Runtime& r) {
       std::thread other;
       r.define("started", [&] { other = std::thread([&r] { r.interrupt("enough"); }); });
       CHECK_THROWS_AS(r.run_string("started() while true do end"), Error);
       other.join();
     }},
    {"with the host's own wait",
     [](Runtime& r) {
       auto kept = std::make_shared<std::vector<Completion>>();
       r.define_async("wait", [kept](Completion c) { kept->push_back(c); });
       begin(r, "wait()");
     }},
    {"after an error",
     [](Runtime& r) {
       CHECK_THROWS_AS(r.run_string("error 'x'"), Error);
       CHECK_THROWS_AS(r.run_string("x ="), Error);
     }},
    {"with what a host holds of it",
     [](Runtime& r) {
       static thread_local std::vector<rille::Value> functions;
       functions.clear();
       functions.push_back(r.get("print"));
       r.spawn_string("require('rille.async').sleep(1000)").on_done([](Task& t) {
         CHECK_THROWS_AS(t.result(), Error);
       });
       r.post([] {});
     }},
};

}  // namespace

TEST_CASE("a runtime closes at every stage of its life, and leaves nothing") {
  { Runtime first; }  // what a process has but once
  for (const Stage& stage : kStages) {
    DYNAMIC_SECTION(stage.name) {
      {
        Runtime warm(stage.options);  // libraries that are loaded at first use
        stage.reach(warm);
      }
      int before = open_descriptors();
      int n = lifetimes(static_cast<int>(kStages.size()));
      for (int i = 0; i < n; ++i) {
        Runtime runtime(stage.options);
        stage.reach(runtime);
      }
      CHECK(open_descriptors() == before);
    }
  }
}

TEST_CASE("threads complete, post and interrupt while a runtime runs and when it closes") {
  int n = lifetimes(40);
  for (int i = 0; i < n; ++i) {
    std::vector<std::thread> threads;
    std::atomic<bool> stop{false};
    {
      Runtime runtime;
      runtime.define_async("wait",
                           [&](Completion c) { threads.emplace_back([c] { c.resolve(1); }); });
      runtime.define("hello", [] {});
      std::atomic<int> ready{0};
      std::thread poster([&] {
        for (int k = 0; k < 50; ++k) runtime.post([] {});
        ++ready;
        while (!stop) std::this_thread::yield();
      });
      runtime.spawn_string("for _ = 1, 20 do require('rille.async').spawn(wait) hello() end");
      for (int k = 0; k < i % 5; ++k) runtime.poll();
      while (ready == 0) std::this_thread::yield();
      runtime.close();
      stop = true;
      poster.join();
    }
    for (auto& t : threads) t.join();
  }
}
