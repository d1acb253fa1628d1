// A runtime is opened, used and closed a thousand times, at every stage of its life. Under the
// sanitizers and valgrind this is where a leak or a use after the end shows; descriptors are
// counted everywhere. RILLE_LIFETIMES is how often in all.
#include <dirent.h>

#include <atomic>
#include <catch2/catch.hpp>
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
void begin(Runtime& runtime, const std::string& code) {
  runtime.spawn_string(code);
  for (int i = 0; i < 3; ++i) runtime.poll();
}

struct Stage {
  const char* name;
  std::function<void(Runtime&)> reach;
};

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
        Runtime warm;  // libraries that are loaded at first use
        stage.reach(warm);
      }
      int before = open_descriptors();
      int n = lifetimes(static_cast<int>(kStages.size()));
      for (int i = 0; i < n; ++i) {
        Runtime runtime;
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
