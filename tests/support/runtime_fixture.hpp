// A runtime for a test, which must end with no task asleep and no handle open.
#pragma once

#include <uv.h>

#include <catch2/catch.hpp>
#include <rille/rille.hpp>
#include <string>

class RuntimeFixture {
 public:
  rille::Runtime runtime;

  // Runs a script that has to succeed.
  void run(const std::string& code) {
    rille::Outcome outcome = runtime.run_string(code, "=test");
    INFO(outcome.message);
    CHECK(outcome.kind == rille::Outcome::kDone);
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
