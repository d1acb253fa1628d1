// Where libFuzzer comes in. The target is named by the environment, so that one program has all.
#include <cstdlib>
#include <string>

#include "fuzz.h"

namespace {

const std::string& target() {
  static const std::string name = [] {
    const char* text = std::getenv("RILLE_FUZZ_TARGET");
    if (!text || !rille::fuzz::is_target(text)) rille::fuzz::fail("no such RILLE_FUZZ_TARGET");
    return std::string(text);
  }();
  return name;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  rille::fuzz::run(target(), {reinterpret_cast<const char*>(data), size});
  return 0;
}
