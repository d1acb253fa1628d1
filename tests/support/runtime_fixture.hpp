// A runtime for a test, which must end with no task asleep and no handle open.
#pragma once

#include <uv.h>

#include <catch2/catch.hpp>
#include <rille/rille.hpp>
#include <string>

// How a script ended.
struct Outcome {
  enum Kind { kDone, kFailed, kCancelled } kind = kDone;
  std::string message;  // error and traceback, for people
  int lost_errors = 0;  // errors of tasks that nobody took
};

inline Outcome run_script(rille::Runtime& runtime, const std::string& code,
                          const std::string& name = "=test") {
  Outcome outcome;
  int lost_before = runtime.lost_errors();
  try {
    runtime.execute_string(code, name);
  } catch (const rille::Error& e) {
    outcome.kind = e.cancelled() ? Outcome::kCancelled : Outcome::kFailed;
    outcome.message = e.text();
  }
  outcome.lost_errors = runtime.lost_errors() - lost_before;
  return outcome;
}

// The error that f() throws.
template <class F>
rille::Error error_of(F&& f) {
  try {
    f();
  } catch (const rille::Error& e) {
    return e;
  }
  FAIL("nothing was thrown");
  return rille::Error("", "");
}

// A runtime whose scripts may hold the loop for so long, and that prints nothing.
inline rille::Options with_slice(double seconds) {
  rille::Options options;
  options.slice_limit = seconds;
  options.on_report = [](const rille::Report&) {};
  return options;
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

class RuntimeFixture {
 public:
  rille::Runtime runtime;

  // Runs a script that has to succeed.
  void run(const std::string& code) {
    Outcome outcome = run_script(runtime, code);
    INFO(outcome.message);
    CHECK(outcome.kind == Outcome::kDone);
    CHECK(outcome.lost_errors == 0);
  }

  // Handles of scripts that are not closed; the runtime's own are not referenced.
  int open_handles() {
    int n = 0;
    uv_walk(
        runtime.loop(),
        [](uv_handle_t* h, void* count) {
          if (uv_has_ref(h) && !uv_is_closing(h) && uv_is_active(h)) ++*static_cast<int*>(count);
        },
        &n);
    return n;
  }
};
