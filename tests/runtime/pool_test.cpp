// The threads of a runtime: who gets one, what comes back, and what is left behind at the end.
#include "pool.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <initializer_list>
#include <lua.hpp>
#include <mutex>
#include <thread>
#include <vector>

#include "support/runtime_fixture.hpp"

using rille::PoolJob;
using rille::PoolKind;
using rille::Pools;

namespace {

// What a job waits for until the test lets it go on.
class Gate {
 public:
  void wait() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    arrived_.notify_all();
    opened_.wait(lock, [this] { return open_; });
  }
  void open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    opened_.notify_all();
  }
  // Until `n` jobs stand before the gate.
  void await(int n) {
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [&] { return waiting_ >= n; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_, arrived_;
  int waiting_ = 0;
  bool open_ = false;
};

class TestJob final : public PoolJob {
 public:
  explicit TestJob(std::function<void()> work) : work_(std::move(work)) {}
  std::function<void(int)> then;
  int calls = 0;
  int status = 1;
  std::thread::id thread, end_thread;

 private:
  void on_pool() override {
    thread = std::this_thread::get_id();
    work_();
  }
  void after_pool(int s) override {
    ++calls;
    status = s;
    end_thread = std::this_thread::get_id();
    if (then) then(s);
  }
  std::function<void()> work_;
};

// Pools on a loop of their own.
struct PoolsFixture {
  uv_loop_t loop;
  std::shared_ptr<Pools> pools;
  PoolsFixture() {
    uv_loop_init(&loop);
    pools = std::make_shared<Pools>(&loop, 2);
  }
  ~PoolsFixture() { close(); }
  void run() { uv_run(&loop, UV_RUN_DEFAULT); }
  void close() {
    if (!pools) return;
    pools->close();
    pools.reset();
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);
  }
};

constexpr PoolKind kKinds[] = {PoolKind::kFiles, PoolKind::kNames, PoolKind::kWork};

}  // namespace

TEST_CASE_METHOD(PoolsFixture, "a job runs on another thread and comes back to the loop's") {
  TestJob job([] {});
  job.submit(*pools, PoolKind::kFiles);
  run();
  CHECK(job.calls == 1);
  CHECK(job.status == 0);
  CHECK(job.thread != std::this_thread::get_id());
  CHECK(job.end_thread == std::this_thread::get_id());
  CHECK(pools->outstanding() == 0);
}

TEST_CASE_METHOD(PoolsFixture, "there is no thread before the first job, and no more than needed") {
  CHECK(pools->threads() == 0);
  for (int i = 0; i < 50; ++i) {
    TestJob job([] {});
    job.submit(*pools, PoolKind::kFiles);
    run();
  }
  CHECK(pools->threads() == 1);
}

TEST_CASE_METHOD(PoolsFixture, "a pool has as many threads as it is large, and the rest waits") {
  Gate gate;
  std::vector<std::unique_ptr<TestJob>> jobs;
  for (int i = 0; i < 10; ++i) {
    jobs.push_back(std::make_unique<TestJob>([&] { gate.wait(); }));
    jobs.back()->submit(*pools, PoolKind::kWork);
  }
  gate.await(2);
  CHECK(pools->threads() == 2);
  CHECK(pools->queued() == 8);
  CHECK(pools->outstanding() == 10);
  gate.open();
  run();
  for (auto& job : jobs) CHECK(job->calls == 1);
  CHECK(pools->queued() == 0);
}

TEST_CASE_METHOD(PoolsFixture, "a pool that is held up does not hold the others up") {
  for (PoolKind free : kKinds) {
    Gate gate;
    std::vector<std::unique_ptr<TestJob>> stuck;
    for (PoolKind kind : kKinds) {
      for (int i = 0; kind != free && i < 5; ++i) {
        stuck.push_back(std::make_unique<TestJob>([&] { gate.wait(); }));
        stuck.back()->submit(*pools, kind);
      }
    }
    gate.await(4);
    TestJob job([] {});
    job.then = [&](int) { gate.open(); };
    job.submit(*pools, free);
    run();
    CHECK(job.status == 0);
    for (auto& other : stuck) CHECK(other->status == 0);
  }
}

TEST_CASE_METHOD(PoolsFixture, "jobs that one thread would do one after the other get two") {
  pools->stay_awake();  // the loop calls the second thread only before it polls
  Gate gate;
  TestJob first([&] { gate.wait(); });
  first.submit(*pools, PoolKind::kFiles);
  gate.await(1);
  TestJob second([&] { gate.open(); });
  second.submit(*pools, PoolKind::kFiles);
  CHECK(pools->threads() == 1);
  pools->call_threads();
  pools->sleep();
  run();
  CHECK(first.status == 0);
  CHECK(second.status == 0);
}

TEST_CASE_METHOD(PoolsFixture, "a job that has not begun can be withdrawn, any other cannot",
                 "[cancel]") {
  Gate gate;
  TestJob running[] = {TestJob([&] { gate.wait(); }), TestJob([&] { gate.wait(); })};
  for (auto& job : running) job.submit(*pools, PoolKind::kFiles);
  gate.await(2);
  bool ran = false;
  TestJob first([&] { ran = true; }), middle([] {}), last([&] { ran = true; });
  for (auto* job : {&first, &middle, &last}) job->submit(*pools, PoolKind::kFiles);
  CHECK(first.withdraw());
  CHECK(last.withdraw());
  CHECK_FALSE(last.withdraw());
  CHECK_FALSE(running[0].withdraw());
  CHECK(pools->queued() == 1);
  CHECK(first.calls == 0);  // not from within
  gate.open();
  run();
  CHECK(first.status == UV_ECANCELED);
  CHECK(last.status == UV_ECANCELED);
  CHECK(middle.status == 0);
  CHECK_FALSE(ran);
  CHECK_FALSE(middle.withdraw());
}

TEST_CASE_METHOD(PoolsFixture, "a job can be submitted again when it has come back") {
  TestJob job([] {});
  job.then = [&](int) {
    if (job.calls < 100) job.submit(*pools, PoolKind::kNames);
  };
  job.submit(*pools, PoolKind::kNames);
  run();
  CHECK(job.calls == 100);
}

TEST_CASE_METHOD(PoolsFixture, "many jobs from a loop that does not sleep all come back") {
  constexpr int kJobs = 20000;
  std::atomic<int> ran = 0;
  int back = 0;
  std::vector<std::unique_ptr<TestJob>> jobs;
  pools->stay_awake();
  for (int i = 0; i < kJobs; ++i) {
    jobs.push_back(std::make_unique<TestJob>([&] { ++ran; }));
    jobs.back()->then = [&](int status) { back += status == 0; };
    jobs.back()->submit(*pools, kKinds[i % 3]);
    if (i % 7 == 0) jobs[static_cast<std::size_t>(i / 2)]->withdraw();
    if (i % 100 == 0) {
      pools->call_threads();
      pools->deliver();
    }
  }
  pools->call_threads();
  pools->sleep();
  run();
  CHECK(ran == back);
  for (auto& job : jobs) CHECK(job->calls == 1);
}

TEST_CASE_METHOD(PoolsFixture, "waiting for all runs the queue dry without the loop") {
  std::vector<std::unique_ptr<TestJob>> jobs;
  for (int i = 0; i < 100; ++i) {
    jobs.push_back(std::make_unique<TestJob>([] {}));
    jobs.back()->submit(*pools, PoolKind::kFiles);
  }
  CHECK(pools->wait_for_all(Pools::Clock::now() + std::chrono::seconds(60)));
  for (auto& job : jobs) CHECK(job->status == 0);
}

TEST_CASE_METHOD(PoolsFixture,
                 "a thread that hangs is left behind, and frees its job when it comes to an end") {
  Gate gate, freed;
  auto* stuck = new TestJob([&] { gate.wait(); });
  auto* queued = new TestJob([] {});
  auto* blocker = new TestJob([&] { gate.wait(); });
  std::atomic<int> ended = 0;
  int queued_status = 0;
  for (auto* job : {stuck, blocker}) {
    job->then = [&, job](int status) {
      if (status == UV_ECANCELED) ++ended;
      Gate& last = freed;
      bool is_last = ended == 2;
      delete job;  // and what this function has captured
      if (is_last) last.open();
    };
    job->submit(*pools, PoolKind::kFiles);
  }
  gate.await(2);
  queued->then = [&](int status) {
    queued_status = status;
    delete queued;
  };
  queued->submit(*pools, PoolKind::kFiles);
  CHECK_FALSE(pools->wait_for_all(Pools::Clock::now()));
  std::weak_ptr<Pools> left = pools;
  close();
  CHECK(queued_status == UV_ECANCELED);
  CHECK(ended == 0);
  CHECK_FALSE(left.expired());
  gate.open();
  freed.wait();
  CHECK(ended == 2);
  while (!left.expired()) std::this_thread::yield();
}

TEST_CASE("runtimes have threads of their own") {
  rille::Runtime one, two;
  Pools* first = &rille::pools_of(one.lua_state());
  Pools* second = &rille::pools_of(two.lua_state());
  CHECK(first != second);
  TestJob job([] {});
  job.submit(*first, PoolKind::kFiles);
  uv_run(one.loop(), UV_RUN_DEFAULT);
  CHECK(first->threads() == 1);
  CHECK(second->threads() == 0);
}

TEST_CASE("a runtime that is closed waits for its jobs and ends its threads") {
  TestJob job([] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); });
  std::weak_ptr<Pools> pools;
  {
    rille::Runtime runtime;
    Pools& p = rille::pools_of(runtime.lua_state());
    pools = p.weak_from_this();
    job.submit(p, PoolKind::kWork);
  }
  CHECK(job.status == 0);
  CHECK(pools.expired());
}

TEST_CASE("the environment sets the size of each pool, and nonsense in it is ignored") {
  auto size = [](const char* text) {
    setenv("RILLE_POOL_SIZE", text, 1);
    rille::Runtime runtime;
    return rille::pools_of(runtime.lua_state()).size();
  };
  unsetenv("RILLE_POOL_SIZE");
  rille::Runtime runtime;
  int normal = rille::pools_of(runtime.lua_state()).size();
  CHECK(normal >= 4);
  CHECK(size("1") == 1);
  CHECK(size("17") == 17);
  CHECK(size("1024") == 1024);
  for (const char* wrong :
       {"", "0", "-3", "1025", "4x", " 4", "many", "1e3", "99999999999999999999"}) {
    INFO(wrong);
    CHECK(size(wrong) == normal);
  }
  unsetenv("RILLE_POOL_SIZE");
}

namespace {

// Holds all threads of the pools of `kinds`, and a job more in each queue, until it is opened.
class Hold {
 public:
  Hold(rille::Runtime& runtime, std::initializer_list<PoolKind> kinds) : runtime_(runtime) {
    Pools& pools = rille::pools_of(runtime.lua_state());
    int running = 0;
    for (PoolKind kind : kinds) {
      for (int i = 0; i <= pools.size(); ++i) {
        jobs_.push_back(std::make_unique<TestJob>([this] { gate_.wait(); }));
        jobs_.back()->submit(pools, kind);
      }
      running += pools.size();
    }
    gate_.await(running);
  }
  ~Hold() {
    open();
    for (auto& job : jobs_) {
      while (job->calls == 0) uv_run(runtime_.loop(), UV_RUN_ONCE);
    }
  }
  void open() { gate_.open(); }

 private:
  rille::Runtime& runtime_;
  Gate gate_;
  std::vector<std::unique_ptr<TestJob>> jobs_;
};

// What `hold.open()` in a script opens.
void define_open(lua_State* L, Hold* hold) {
  lua_pushlightuserdata(L, hold);
  lua_pushcclosure(
      L,
      [](lua_State* l) {
        static_cast<Hold*>(lua_touserdata(l, lua_upvalueindex(1)))->open();
        return 0;
      },
      1);
  lua_setglobal(L, "open");
}

}  // namespace

TEST_CASE_METHOD(RuntimeFixture,
                 "files are read and written while names and others' work hold all their threads") {
  Hold hold(runtime, {PoolKind::kNames, PoolKind::kWork});
  define_open(runtime.lua_state(), &hold);
  run(R"lua(
    local async, fs = require "rille.async", require "rille.fs"
    local lookup = async.spawn(require("rille.dns").lookup, "localhost")
    local path = fs.tempdir() .. "/rille-pool-test-" .. require("rille.process").pid()
    async.finally(function()
      for i = 1, 50 do
        fs.write_file(path, ("x"):rep(i))
        assert(#fs.read_file(path) == i)
      end
    end, function() fs.remove(path) end)
    assert(not lookup:done())
    open()
    assert(#lookup:await() >= 1)
  )lua");
}

TEST_CASE_METHOD(RuntimeFixture, "names are looked up while files hold all their threads") {
  Hold hold(runtime, {PoolKind::kFiles, PoolKind::kWork});
  define_open(runtime.lua_state(), &hold);
  run(R"lua(
    local async = require "rille.async"
    local reader = async.spawn(require("rille.fs").read_file, "/dev/null")
    for _ = 1, 20 do assert(#require("rille.dns").lookup "localhost" >= 1) end
    assert(not reader:done())
    open()
    assert(reader:await() == "")
  )lua");
}

TEST_CASE_METHOD(RuntimeFixture, "stats tell how large a pool is, what waits and what runs on",
                 "[cancel]") {
  Pools& pools = rille::pools_of(runtime.lua_state());
  Hold hold(runtime, {PoolKind::kFiles});
  define_open(runtime.lua_state(), &hold);
  lua_pushinteger(runtime.lua_state(), pools.size());
  lua_setglobal(runtime.lua_state(), "size");
  run(R"lua(
    local async, fs = require "rille.async", require "rille.fs"
    local function expect(queued, abandoned)
      local s = async.stats()
      assert(s.pool_size == size and s.pool_queued == queued and s.abandoned == abandoned,
        ("%d queued, %d abandoned"):format(s.pool_queued, s.abandoned))
    end
    expect(1, 0)
    local readers = {}
    for i = 1, 10 do readers[i] = async.spawn(fs.read_file, "/dev/null") end
    async.sleep(0)
    expect(11, 0)
    for i = 1, 5 do readers[i]:cancel() end  -- what has not begun never will
    expect(6, 5)
    async.sleep(0.001)
    expect(6, 0)
    open()
    for i = 6, 10 do readers[i]:await() end
    expect(0, 0)
  )lua");
}

TEST_CASE("a runtime is closed while jobs on files hang and others wait behind them",
          "[cancel][fs]") {
  auto runtime = std::make_unique<rille::Runtime>();
  Pools& pools = rille::pools_of(runtime->lua_state());
  std::weak_ptr<Pools> left = pools.weak_from_this();
  Gate gate;
  std::vector<TestJob*> stuck;
  for (int i = 0; i < pools.size(); ++i) {
    auto* job = stuck.emplace_back(new TestJob([&] { gate.wait(); }));
    job->then = [job](int) { delete job; };
    job->submit(pools, PoolKind::kFiles);
  }
  gate.await(pools.size());
  run_script(*runtime, R"lua(
    local async, fs = require "rille.async", require "rille.fs"
    for _ = 1, 20 do async.spawn(fs.read_file, "/dev/null") end
    async.spawn(fs.write_file, "/dev/null", ("x"):rep(100000))
    file = fs.open  -- not even begun
    async.sleep(0)
  )lua",
             "=test");
  std::thread late([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    gate.open();
  });
  runtime.reset();
  late.join();
  CHECK(left.expired());
}
