// rille.h: what a host in C has; examples/hosts/embed.c is one.
#include <rille/rille.h>

#include <catch2/catch.hpp>
#include <string>

namespace {

// An error that is empty at first, and freed.
struct Exception : rille_exception {
  Exception() : rille_exception{} {}
  ~Exception() { rille_exception_clear(this); }
};

struct Opened {
  Exception error;
  rille_runtime* runtime = rille_open(nullptr, &error);
  ~Opened() { CHECK(rille_close(runtime, &error) == 0); }

  double number(const char* code) {
    rille_value* results = rille_run_string(runtime, code, nullptr, &error);
    REQUIRE(results);
    double n = rille_to_number(rille_at(results, 1));
    rille_value_free(results);
    return n;
  }
};

}  // namespace

TEST_CASE_METHOD(Opened, "values of every kind go to a script and back") {
  rille_value* t = rille_table();
  CHECK(rille_append(t, rille_number(1)) == 0);
  CHECK(rille_append(t, rille_bytes("a\0b", 3)) == 0);
  CHECK(rille_set_field(t, "flag", rille_boolean(1)) == 0);
  CHECK(rille_set_field(t, "none", rille_nil()) == 0);
  rille_value* number = rille_number(1);
  CHECK(rille_append(number, rille_nil()) == -1);
  rille_value_free(number);
  REQUIRE(rille_set(runtime, "game.t", t, &error) == 0);
  CHECK(this->number("assert(game.t[2] == 'a\\0b' and game.t.flag) return #game.t") == 2);
  rille_value* back = rille_get(runtime, "game.t", &error);
  size_t size = 0;
  CHECK(std::string(rille_to_string(rille_at(back, 2), &size)) == "a");
  CHECK(size == 3);
  CHECK(rille_to_boolean(rille_field(back, "flag")) == 1);
  CHECK(rille_field_count(back) == 1);
  const rille_value* key = nullptr;
  CHECK(rille_value_type(rille_field_at(back, 0, &key)) == RILLE_BOOLEAN);
  CHECK(std::string(rille_to_string(key, nullptr)) == "flag");
  CHECK(rille_at(back, 3) == nullptr);
  rille_value_free(back);
}

TEST_CASE_METHOD(Opened, "an error fills in what the host gave for it") {
  CHECK(rille_run_string(runtime, "error(require('rille.errors').new('GameError', 'lost'))", "=g",
                         &error) == nullptr);
  CHECK(std::string(error.kind) == "GameError");
  CHECK(std::string(error.message) == "lost");
  CHECK(std::string(error.text).find("GameError: lost") == 0);
  CHECK(rille_run_string(runtime, "x =", nullptr, nullptr) == nullptr);
}

TEST_CASE_METHOD(Opened, "a text that is missing is an error") {
  auto fails = [&](bool failed) {
    CHECK(failed);
    CHECK(std::string(error.kind) == "TypeError");
    rille_exception_clear(&error);
  };
  auto nothing = [](rille_call*, void*) { return 0; };
  fails(rille_run_string(runtime, nullptr, nullptr, &error) == nullptr);
  fails(rille_run_file(runtime, nullptr, nullptr, &error) == nullptr);
  fails(rille_spawn_string(runtime, nullptr, nullptr, &error) == nullptr);
  fails(rille_spawn_file(runtime, nullptr, nullptr, &error) == nullptr);
  fails(rille_spawn(runtime, nullptr, nullptr, &error) == nullptr);
  fails(rille_get(runtime, nullptr, &error) == nullptr);
  fails(rille_set(runtime, nullptr, rille_string("x"), &error) == -1);
  fails(rille_define(runtime, nullptr, nothing, nullptr, nullptr, &error) == -1);
  rille_value* table = rille_table();
  CHECK(rille_set_field(table, nullptr, rille_number(1)) == -1);
  CHECK(rille_field(table, nullptr) == nullptr);
  rille_value_free(table);
}

TEST_CASE_METHOD(Opened, "functions of a host in C fail as they say") {
  static int freed;
  freed = 0;
  auto fail = [](rille_call* call, void*) { return rille_call_fail(call, "GameError", "no"); };
  auto many = [](rille_call* call, void* data) {
    for (int i = 0; i < rille_call_count(call); ++i) {
      rille_call_return(call, rille_value_copy(rille_call_argument(call, i + 1)));
    }
    rille_call_return(call, rille_number(*static_cast<int*>(data)));
    return 0;
  };
  static int seven = 7;
  CHECK(rille_define(runtime, "fail", fail, nullptr, nullptr, &error) == 0);
  CHECK(rille_define(
            runtime, "many", many, &seven, [](void*) { ++freed; }, &error) == 0);
  CHECK(number("return (select('#', many(1, nil)))") == 3);
  CHECK(number("return select(3, many(1, nil))") == 7);
  CHECK(number("local ok, e = pcall(fail) return e.kind == 'GameError' and 1 or 0") == 1);
  CHECK(freed == 0);
  rille_define(runtime, "many", fail, nullptr, nullptr, &error);
  number("collectgarbage() collectgarbage() return 1");
  CHECK(freed == 1);
}

TEST_CASE_METHOD(Opened, "waits of a host in C end, fail and are told of a cancellation") {
  static rille_completion* kept;
  static int cancelled;
  cancelled = 0;
  auto wait = [](rille_completion* completion, rille_call*, void*) {
    kept = completion;
    rille_completion_on_cancel(
        completion, [](void*) { ++cancelled; }, nullptr);
    return 0;
  };
  auto fail = [](rille_completion* completion, rille_call*, void*) {
    rille_completion_fail(completion, "NetError", "gone");
    return 0;
  };
  rille_define_async(runtime, "wait", wait, nullptr, nullptr, &error);
  rille_define_async(runtime, "fail", fail, nullptr, nullptr, &error);
  CHECK(number("local ok, e = pcall(fail) return e.kind == 'NetError' and 1 or 0") == 1);

  rille_task* task = rille_spawn_string(runtime, "return wait()", nullptr, &error);
  rille_poll(runtime, 0, &error);
  rille_value* results = rille_table();
  rille_append(results, rille_number(5));
  rille_completion_resolve(kept, results);
  static int told;
  told = 0;
  rille_task_on_done(
      task, [](rille_task* t, void*) { told += t != nullptr; }, nullptr);
  results = rille_task_result(task, &error);
  CHECK(rille_to_number(rille_at(results, 1)) == 5);
  rille_value_free(results);
  rille_run(runtime, &error);
  CHECK(told == 1);
  rille_task_free(task);

  task = rille_spawn_string(runtime, "wait()", nullptr, &error);
  rille_poll(runtime, 0, &error);
  CHECK(!rille_task_done(task));
  rille_task_cancel(task, "enough", &error);
  CHECK(rille_task_result(task, &error) == nullptr);
  CHECK(error.cancelled == 1);
  rille_poll(runtime, 0, &error);
  CHECK(cancelled == 1);
  rille_completion_resolve(kept, nullptr);
  rille_task_free(task);
}
