// The smallest host: runs a script, as the executable does.
#include <cstdio>
#include <rille/rille.hpp>

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  rille::Runtime runtime;
  try {
    runtime.execute_file(argv[1], {argv + 2, argv + argc});
  } catch (const rille::Error& e) {
    std::fprintf(stderr, "%s\n", e.text().c_str());
    return 1;
  }
}
