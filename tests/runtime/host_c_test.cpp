// rille.h: what a host in C has; examples/hosts/embed.c is one.
#include <rille/rille.h>

#include <catch2/catch.hpp>
#include <cstddef>
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

TEST_CASE_METHOD(Opened, "a class of a host in C has methods, and its objects are freed") {
  static int freed;
  freed = 0;
  static const rille_class counter = {"game.Counter", [](void* object) {
                                        delete static_cast<double*>(object);
                                        ++freed;
                                      }};
  auto make = [](rille_call* call, void*) {
    double n = 0;
    if (rille_call_number(call, 1, &n) != 0) return -1;
    rille_call_return(call, rille_object(&counter, new double(n)));
    return 0;
  };
  auto add = [](rille_call* call, void*) {
    auto* self = static_cast<double*>(rille_call_self(call));
    double n = 0;
    if (rille_call_number(call, 1, &n) != 0) return -1;
    rille_call_return(call, rille_number(*self += n));
    return 0;
  };
  auto later = [](rille_completion* completion, rille_call* call, void*) {
    rille_value* results = rille_table();
    rille_append(results, rille_number(*static_cast<double*>(rille_call_self(call))));
    rille_completion_resolve(completion, results);
    return 0;
  };
  auto read = [](rille_call* call, void*) {
    void* object = nullptr;
    if (rille_call_object(call, 1, &counter, &object) != 0) return -1;
    CHECK(rille_call_self(call) == nullptr);
    rille_call_return(call, rille_number(*static_cast<double*>(object)));
    return 0;
  };
  REQUIRE(rille_define_class(runtime, &counter, make, nullptr, nullptr, &error) == 0);
  REQUIRE(rille_define_method(runtime, &counter, "add", add, nullptr, nullptr, &error) == 0);
  REQUIRE(rille_define_async_method(runtime, &counter, "later", later, nullptr, nullptr, &error) ==
          0);
  REQUIRE(rille_define(runtime, "read", read, nullptr, nullptr, &error) == 0);
  CHECK(number("c = game.Counter(1) c:add(2) return c:later() + read(c)") == 6);
  auto message = [&](const char* code) {
    CHECK(rille_run_string(runtime, code, "=s", &error) == nullptr);
    return std::string(error.message);
  };
  CHECK(message("c.add({}, 1)") == "s:1: calling 'add' on bad self (Counter expected, got table)");
  CHECK(message("local n = read(1)") ==
        "s:1: bad argument #1 to 'read' (Counter expected, got number)");
  rille_value* held = rille_get(runtime, "c", &error);
  CHECK(rille_value_type(held) == RILLE_OBJECT);
  CHECK(*static_cast<double*>(rille_to_object(held, &counter)) == 3);
  static const rille_class other = {"Other", nullptr};
  CHECK(rille_to_object(held, &other) == nullptr);
  number("c = nil collectgarbage() collectgarbage() return 1");
  CHECK(freed == 0);
  rille_value_free(held);
  CHECK(freed == 1);
}

TEST_CASE_METHOD(Opened, "the data of a posted function is freed, called or not") {
  static int called, freed;
  called = freed = 0;
  auto call = [](void*) { ++called; };
  auto free_data = [](void* data) {
    ++freed;
    delete static_cast<int*>(data);
  };
  rille_post(runtime, call, new int(1), free_data);
  CHECK(rille_poll(runtime, 0, &error) >= 0);
  CHECK((called == 1 && freed == 1));
  rille_post(nullptr, call, new int(1), free_data);
  CHECK((called == 1 && freed == 2));
  rille_runtime* second = rille_open(nullptr, &error);
  CHECK(rille_finish(second, &error) == 0);
  rille_post(second, call, new int(1), free_data);
  CHECK(rille_close(second, &error) == 0);
  CHECK(freed == 3);
}

TEST_CASE_METHOD(Opened, "tables have any keys, errors have codes") {
  rille_value* table = rille_table();
  rille_value* key = rille_boolean(1);
  CHECK(rille_set_key(table, key, rille_number(5)) == 0);
  CHECK(rille_to_number(rille_get_key(table, key)) == 5);
  rille_value* missing = rille_number(7);
  CHECK(rille_get_key(table, missing) == nullptr);
  CHECK(rille_set_key(missing, key, rille_number(5)) == -1);
  CHECK(rille_get_key(missing, key) == nullptr);
  rille_value* nil = rille_nil();
  CHECK(rille_set_key(table, nil, rille_number(5)) == -1);
  for (rille_value* v : {table, key, missing, nil}) rille_value_free(v);
  CHECK(rille_run_string(runtime, "require('rille.fs').read_file '/nonexistent'", "=s", &error) ==
        nullptr);
  CHECK(std::string(error.kind) == "OSError");
  CHECK(std::string(error.code) == "ENOENT");
}

TEST_CASE("options of a program that was compiled with another version are understood") {
  Exception error;
  struct Later {
    rille_options options;
    void* more;
  } later{};
  later.options.memory_limit = 64 << 20;
  auto* options = reinterpret_cast<const rille_options*>(&later);
  rille_runtime* runtime = rille_open_sized(options, sizeof later, &error);
  REQUIRE(runtime);
  CHECK(rille_close(runtime, &error) == 0);
  later.more = &later;
  CHECK(rille_open_sized(options, sizeof later, &error) == nullptr);
  CHECK(std::string(error.message).find("not known to Rille") != std::string::npos);
  // One from before the last options.
  later.options.uninterruptible = 1;
  runtime = rille_open_sized(options, offsetof(rille_options, uninterruptible), &error);
  REQUIRE(runtime);
  CHECK(rille_has_libraries(runtime) == 0);
  CHECK(rille_lost_errors(runtime) == 0);
  CHECK(rille_exit_status(runtime) == -1);
  CHECK(rille_lua_state(runtime) != nullptr);
  CHECK(rille_close(runtime, &error) == 0);
}

TEST_CASE("without a runtime, a task or a completion there is an error, or nothing") {
  Exception error;
  auto fails = [&](bool failed) {
    CHECK(failed);
    CHECK(std::string(error.message).find("expected, got NULL") != std::string::npos);
    rille_exception_clear(&error);
  };
  auto nothing = [](rille_call*, void*) { return 0; };
  fails(rille_run_string(nullptr, "return 1", nullptr, &error) == nullptr);
  fails(rille_run_file(nullptr, "x", nullptr, &error) == nullptr);
  fails(rille_spawn_string(nullptr, "return 1", nullptr, &error) == nullptr);
  fails(rille_spawn(nullptr, nullptr, nullptr, &error) == nullptr);
  fails(rille_task_result(nullptr, &error) == nullptr);
  fails(rille_task_cancel(nullptr, nullptr, &error) == -1);
  fails(rille_get(nullptr, "x", &error) == nullptr);
  fails(rille_set(nullptr, "x", rille_nil(), &error) == -1);
  fails(rille_define(nullptr, "x", nothing, nullptr, nullptr, &error) == -1);
  fails(rille_define_class(nullptr, nullptr, nullptr, nullptr, nullptr, &error) == -1);
  fails(rille_run(nullptr, &error) == -1);
  fails(rille_poll(nullptr, 0, &error) == -1);
  fails(rille_finish(nullptr, &error) == -1);
  fails(rille_cancel(nullptr, nullptr, &error) == -1);
  CHECK(rille_close(nullptr, nullptr) == 0);
  CHECK(rille_task_done(nullptr) == 1);
  rille_task_on_done(nullptr, nullptr, nullptr);
  rille_task_free(nullptr);
  CHECK(rille_backend_fd(nullptr) == -1);
  CHECK(rille_timeout(nullptr) == -1);
  CHECK(rille_uv_loop(nullptr) == nullptr);
  CHECK(rille_lua_state(nullptr) == nullptr);
  rille_interrupt(nullptr, nullptr);
  rille_completion_resolve(nullptr, rille_nil());
  rille_completion_fail(nullptr, nullptr, nullptr);
  rille_completion_drop(nullptr);
  rille_completion_on_cancel(nullptr, nullptr, nullptr);
  CHECK(rille_completion_cancelled(nullptr) == 0);
  rille_exception_clear(nullptr);
  rille_value* empty = rille_bytes(nullptr, 0);
  CHECK(rille_value_type(empty) == RILLE_STRING);
  rille_value_free(empty);
  rille_runtime* runtime = rille_open(nullptr, &error);
  fails(rille_define(runtime, "x", nullptr, nullptr, nullptr, &error) == -1);
  fails(rille_define_async(runtime, "x", nullptr, nullptr, nullptr, &error) == -1);
  CHECK(rille_close(runtime, &error) == 0);
}
