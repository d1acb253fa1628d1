// Tries every file of a folder once: what the fuzzers have found, and what they begin with.
// Usage: rille_replay TARGET FOLDER|FILE...
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz.h"

int main(int argc, char** argv) {
  if (argc < 3 || !rille::fuzz::is_target(argv[1])) rille::fuzz::fail("no such target");
  std::vector<std::filesystem::path> files;
  for (int i = 2; i < argc; ++i) {
    if (!std::filesystem::is_directory(argv[i])) {
      files.emplace_back(argv[i]);
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  for (const auto& path : files) {
    std::ifstream file(path, std::ios::binary);
    if (!file) rille::fuzz::fail("cannot read " + path.string());
    std::string input{std::istreambuf_iterator<char>(file), {}};
    std::printf("%s\n", path.c_str());
    std::fflush(stdout);  // the last one printed is the one that failed
    rille::fuzz::run(argv[1], input);
  }
  std::printf("%zu inputs\n", files.size());
  return files.empty() ? 1 : 0;
}
