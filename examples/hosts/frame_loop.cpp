// A game with a main loop of its own: sixty times a second it moves, draws, and gives its scripts a
// part of the frame. Scripts wait for seconds and for the game's events as if they were alone.
#include <chrono>
#include <iostream>
#include <rille/rille.hpp>
#include <string>
#include <thread>
#include <vector>

namespace {

class Ship {
 public:
  explicit Ship(std::string name) : name_(std::move(name)) {}

  void thrust(double speed) { speed_ = speed; }
  double position() const { return position_; }
  const std::string& name() const { return name_; }

  // Waits until the ship has come so far.
  void reach(rille::Completion completion, double position) {
    waiting_.push_back({position, std::move(completion)});
  }

  void move(double seconds) {
    position_ += speed_ * seconds;
    std::erase_if(waiting_, [this](const Wait& wait) {
      if (position_ < wait.position) return false;
      wait.completion.resolve(position_);
      return true;
    });
  }

 private:
  struct Wait {
    double position;
    rille::Completion completion;
  };
  std::string name_;
  double position_ = 0, speed_ = 0;
  std::vector<Wait> waiting_;
};

constexpr const char* kScript = R"lua(
  local async = require "rille.async"
  local ship = game.Ship "Beagle"
  game.launch(ship)
  local beacon = async.spawn(function()
    while true do
      game.log("beep")
      async.sleep(0.05)
    end
  end)
  ship:thrust(100)
  ship:reach(10)
  game.log(ship:name() .. " has passed ten")
  beacon:cancel()
  return ship:position() >= 10
)lua";

}  // namespace

int main() {
  using Clock = std::chrono::steady_clock;
  constexpr double kFrame = 1.0 / 60;

  rille::Runtime runtime;
  std::vector<std::shared_ptr<Ship>> ships;
  runtime.define_class<Ship>("game.Ship")
      .constructor<std::string>()
      .method("thrust", &Ship::thrust)
      .method("position", &Ship::position)
      .method("name", &Ship::name)
      .waiting("reach", &Ship::reach);
  runtime.define("game.launch", [&](std::shared_ptr<Ship> ship) { ships.push_back(ship); });
  runtime.define("game.log", [](std::string_view line) { std::cout << line << "\n"; });

  rille::Task story = runtime.spawn_string(kScript, "=story");
  auto next = Clock::now();
  while (!story.done()) {
    for (auto& ship : ships) ship->move(kFrame);
    runtime.poll(0.002);  // at most two milliseconds of each frame
    next += std::chrono::microseconds(static_cast<int>(kFrame * 1e6));
    std::this_thread::sleep_until(next);
  }
  std::cout << (story.result().at(0).as<bool>() ? "done" : "lost") << "\n";
}
