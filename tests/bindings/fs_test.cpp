// Who owns what in rille.fs, and when it goes: descriptors, jobs on the pool, handles of the loop.
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "support/runtime_fixture.hpp"

namespace {

std::ptrdiff_t descriptors() {
  std::filesystem::directory_iterator files("/proc/self/fd");
  return std::distance(begin(files), end(files));
}

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

class FsFixture : public RuntimeFixture {
 public:
  FsFixture() {
    char name[] = "/tmp/rille-fs-test-XXXXXX";
    dir = mkdtemp(name);
    mkfifo((dir + "/fifo").c_str(), 0600);
    std::ofstream(dir + "/file") << std::string(100000, 'x');
    setenv("RILLE_TEST_DIR", dir.c_str(), 1);
  }
  ~FsFixture() {
    runtime.close();
    unsetenv("RILLE_TEST_DIR");
    std::filesystem::remove_all(dir);
  }

  // Runs a script that has `async`, `fs` and the folder `dir`.
  void run(const std::string& code) {
    RuntimeFixture::run(R"lua(
      local async, fs = require "rille.async", require "rille.fs"
      local dir = os.getenv "RILLE_TEST_DIR"
    )lua" + code);
  }

  std::string dir;
};

}  // namespace

TEST_CASE_METHOD(FsFixture, "files and jobs leave no handle and no descriptor", "[fs]") {
  auto before = descriptors();
  run(R"lua(
    assert(#fs.read_file(dir .. "/file") == 100000)
    fs.write_file(dir .. "/other", "text")
    async.with(fs.open(dir .. "/file"), function(file) assert(#file:read "a" == 100000) end)
    assert(#fs.list(dir) == 3)
    assert(not pcall(fs.read_file, dir .. "/none"))
    assert(not pcall(fs.open, dir))
  )lua");
  CHECK(open_handles() == 0);
  CHECK(descriptors() == before);
}

TEST_CASE_METHOD(FsFixture, "a cancelled read of a FIFO closes it and its handle", "[fs][cancel]") {
  auto before = descriptors();
  run(R"lua(
    local reader = async.spawn(fs.read_file, dir .. "/fifo")
    async.sleep(0.01)  -- it waits on the loop
    reader:cancel()
    async.wait { reader }
    assert(reader:cancelled())
    async.sleep(0.01)
  )lua");
  CHECK(open_handles() == 0);
  CHECK(descriptors() == before);
}

TEST_CASE_METHOD(FsFixture,
                 "jobs that are given up as soon as they stand in the queue end by themselves",
                 "[fs][cancel]") {
  auto before = descriptors();
  run(R"lua(
    for _ = 1, 20 do
      local tasks = {}
      for i = 1, 50 do
        tasks[i] = async.spawn(i % 2 == 0 and fs.read_file or fs.open, dir .. "/file")
      end
      async.sleep(0)
      for i = 1, 50 do tasks[i]:cancel() end
      async.wait(tasks)
    end
  )lua");
  runtime.close();
  CHECK(descriptors() < before);  // the loop's own are gone too
}

TEST_CASE_METHOD(FsFixture, "a runtime ends while jobs are on the pool and files are open",
                 "[fs]") {
  rille::Runtime().close();  // what libuv keeps for the process is there
  auto before = descriptors();
  {
    rille::Runtime other;
    rille::Outcome outcome = other.run_string(R"lua(
      local async, fs = require "rille.async", require "rille.fs"
      local dir = os.getenv "RILLE_TEST_DIR"
      for _ = 1, 100 do async.spawn(fs.read_file, dir .. "/file") end
      async.spawn(fs.read_file, dir .. "/fifo")
      async.spawn(function() fs.open(dir .. "/fifo"):read() end)
      async.spawn(fs.write_file, dir .. "/fifo", "nobody reads this")
      file = fs.open(dir .. "/file")
      file:read()
      async.sleep(0)
    )lua",
                                              "=test");
    CHECK(outcome.kind == rille::Outcome::kDone);
  }
  CHECK(descriptors() == before);
}

TEST_CASE_METHOD(FsFixture, "a FIFO that takes no more does not keep a runtime from its end",
                 "[fs][slow]") {
  rille::Outcome outcome = runtime.run_string(R"lua(
    local async, fs = require "rille.async", require "rille.fs"
    file = fs.open(os.getenv "RILLE_TEST_DIR" .. "/fifo", "r+")
    local writer = async.spawn(function() file:write(("x"):rep(1000000)) end)
    async.sleep(0.01)
    writer:cancel()
    async.wait { writer }
    file:write "more"
  )lua",
                                              "=test");
  CHECK(outcome.lost_errors == 1);  // what it would have written is said to be lost
  runtime.close();
}

TEST_CASE_METHOD(FsFixture, "what a file holds back is written when it is collected", "[fs]") {
  run(R"lua(
    fs.open(dir .. "/collected", "w"):write "one"
    collectgarbage()
    collectgarbage()
    dropped = fs.open(dir .. "/dropped", "w"):write "two"
  )lua");
  CHECK(content(dir + "/collected") == "one");
  runtime.close();
  CHECK(content(dir + "/dropped") == "two");
}

TEST_CASE_METHOD(FsFixture,
                 "a write that its task gave up is whole, also for a file that is dropped",
                 "[fs][cancel]") {
  run(R"lua(
    local writer = async.spawn(function()
      fs.open(dir .. "/dropped", "w"):write(("y"):rep(300000))
    end)
    async.sleep(0.01)
    local other = async.spawn(function()
      local file = fs.open(dir .. "/cancelled", "w")
      file:write(("z"):rep(300000))
    end)
    for _ = 1, 1000 do
      async.sleep(0)
      if fs.exists(dir .. "/cancelled") then break end
    end
    other:cancel()
    async.wait { writer, other }
    collectgarbage()
    collectgarbage()
  )lua");
  runtime.close();
  CHECK(content(dir + "/dropped") == std::string(300000, 'y'));
  CHECK(content(dir + "/cancelled").size() % 300000 == 0);
}
