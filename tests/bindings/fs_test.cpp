// What of rille.fs outlives a script, and a runtime.
#include <sys/inotify.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>

#include "support/runtime_fixture.hpp"

namespace {

namespace stdfs = std::filesystem;

// A fresh folder with some files, as the global `dir` of a script.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/rille-test-XXXXXX";
    path_ = mkdtemp(name);
    for (int i = 0; i < 5000; ++i) std::ofstream(path_ + "/" + std::to_string(i)) << "text";
  }
  ~Folder() { stdfs::remove_all(path_); }

  std::string script(const std::string& code) const {
    return "local dir, async, fs = '" + path_ + "', require 'rille.async', require 'rille.fs'\n" +
           code;
  }

 private:
  std::string path_;
};

int open_descriptors() {
  int count = 0;
  for (const auto& entry : stdfs::directory_iterator("/proc/self/fd")) {
    static_cast<void>(entry);
    ++count;
  }
  return count;
}

}  // namespace

TEST_CASE_METHOD(RuntimeFixture, "a watch does not keep the loop alive", "[fs]") {
  Folder folder;
  run(folder.script("watch = fs.watch(dir, { recursive = true })"));
  CHECK(open_handles() == 0);
  run(folder.script(
      "fs.write_file(dir .. '/new', '') assert(watch().name == 'new') watch:close()"));
  CHECK(open_handles() == 0);
}

TEST_CASE("a runtime that ends closes what its iterators hold", "[fs]") {
  Folder folder;
  int before = open_descriptors();
  for (const char* code : {
           "watch = fs.watch(dir, { recursive = true }) fs.watch(dir)",
           "scan = fs.scandir(dir) scan()",
           "file = fs.open(dir .. '/1') file:read(2) other = fs.mkstemp(dir .. '/tmp')",
           // Operations that are still going on.
           "async.spawn(fs.watch, dir, { recursive = true }) async.sleep(0)",
           "async.spawn(fs.watch(dir)) async.sleep(0)",
           "async.spawn(fs.copy, dir .. '/1', dir .. '/copy') async.sleep(0)",
           "async.spawn(fs.glob, dir .. '/**') async.spawn(fs.walk, dir) async.sleep(0)",
           "async.spawn(fs.remove, dir, { recursive = true }) async.sleep(0)",
       }) {
    INFO(code);
    auto runtime = std::make_unique<rille::Runtime>();
    Outcome outcome = run_script(*runtime, folder.script(code), "=test");
    INFO(outcome.message);
    CHECK(outcome.kind == Outcome::kDone);
    runtime.reset();
    CHECK(open_descriptors() == before);
  }
}

TEST_CASE("two runtimes watch the same folder", "[fs]") {
  Folder folder;
  rille::Runtime one, two;
  const char* start = "watch = fs.watch(dir)";
  CHECK(run_script(one, folder.script(start), "=one").kind == Outcome::kDone);
  CHECK(run_script(two, folder.script(start), "=two").kind == Outcome::kDone);
  CHECK(run_script(one, folder.script("fs.mkdir(dir .. '/new')"), "=one").kind == Outcome::kDone);
  for (rille::Runtime* runtime : {&one, &two}) {
    Outcome outcome = run_script(*runtime, folder.script("assert(watch().name == 'new')"), "=test");
    INFO(outcome.message);
    CHECK(outcome.kind == Outcome::kDone);
  }
}
