// What hosts write that warn of everything: not a word from the compiler.
#include <rille/rille.hpp>

class Ship {
 public:
  explicit Ship(double at) : at_(at) {}
  double position() const { return at_; }
  void reach(rille::Completion done, double where) { done.resolve(at_ + where); }

 private:
  double at_;
};

std::size_t use_all();
std::size_t use_all() {
  rille::Options some{.debug = true, .slice_limit = 1};
  rille::Runtime runtime(
      {.args = {"a"},
       .memory_limit = 64 << 20,
       .modules = {"rille.async"},
       .permissions = rille::Permissions::none().allow_read(".").allow_env("HOME"),
       .on_report = [](const rille::Report&) {}});
  runtime.define("add", [](double a, double b) { return a + b; });
  runtime.define("count", [n = 0]() mutable { return ++n; });
  runtime.define("game.name", [](const std::string& s, std::optional<int> n) {
    return s + std::to_string(n.value_or(0));
  });
  runtime.define_async("later", [](rille::Completion done, int n) {
    done.on_cancel([] {});
    done.resolve(n, "text", nullptr, true, 1.5f, rille::Value::table());
    done.fail("GameError", "lost");
  });
  runtime.define_class<Ship>("Ship")
      .constructor<double>()
      .method("position", &Ship::position)
      .waiting("reach", &Ship::reach);
  auto results = runtime.run_string("return 1");
  rille::Task task = runtime.spawn(runtime.get("add"), 1, 2.5, "3", nullptr, false, 4L, 5u);
  task.on_done([](rille::Task& t) { t.result(); });
  task.cancel();
  task.cancel("reason");
  runtime.set("x", 1);
  runtime.set("y", "text");
  rille::Value value = nullptr;
  value = true;
  value = 'c';
  value = 1ULL;
  value = std::string("text");
  bool all = value.is<std::string>() && !value.is<bool>() && !value.is<double>() &&
             !value.is<int>() && !value.is<std::nullptr_t>();
  runtime.post([] {});
  runtime.interrupt("reason");
  runtime.run();
  while (runtime.poll()) {
  }
  return results.size() + value.as<std::string>().size() + (all && runtime.poll(0.1) ? 1 : 0) +
         static_cast<std::size_t>(runtime.backend_fd() + static_cast<int>(runtime.timeout()));
}
