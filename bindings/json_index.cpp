#include "json_index.h"

#include <dlfcn.h>
#include <simdjson.h>

#include <algorithm>
#include <bit>

namespace rille::json {

namespace {

using Implementations = simdjson::internal::atomic_ptr<const simdjson::implementation>;

struct Library {
  const simdjson::implementation* implementation = nullptr;
  const char* error = "";

  Library() {
#ifdef RILLE_SIMDJSON
    void* file = dlopen(RILLE_SIMDJSON, RTLD_NOW | RTLD_LOCAL);
    // simdjson::get_active_implementation(); all else of the library is reached through it.
    void* symbol = file ? dlsym(file, "_ZN8simdjson25get_active_implementationEv") : nullptr;
    if (!symbol) {
      error = dlerror();
      return;
    }
    Implementations& active = reinterpret_cast<Implementations& (*)()>(symbol)();
#else
    Implementations& active = simdjson::get_active_implementation();
#endif
    implementation = active;
  }
};

const Library& library() {
  static const Library opened;
  return opened;
}

constexpr std::size_t kSmallest = 4096;
constexpr std::size_t kKept = 1 << 18;  // with four times as much memory

}  // namespace

struct Index::Impl {
  std::unique_ptr<simdjson::internal::dom_parser_implementation> parser;
};

Index::Index() : impl_(std::make_unique<Impl>()) {}

Index::~Index() = default;

Index::Status Index::build(const char* text, std::size_t size) {
  auto& parser = impl_->parser;
  if (!parser || parser->capacity() < size) {
    const simdjson::implementation* made_by = library().implementation;
    if (!made_by) return Status::kNoLibrary;
    std::size_t capacity = size > kKept ? size : std::bit_ceil(std::max(size, kSmallest));
    parser.reset();
    if (made_by->create_dom_parser_implementation(capacity, 1, parser) != simdjson::SUCCESS) {
      return Status::kNoMemory;
    }
  }
  auto* bytes = reinterpret_cast<const std::uint8_t*>(text);
  if (parser->stage1(bytes, size, simdjson::stage1_mode::regular) != simdjson::SUCCESS) {
    return Status::kRefused;
  }
  offsets_ = parser->structural_indexes.get();
  count_ = parser->n_structural_indexes;
  return Status::kDone;
}

void Index::shrink() {
  if (impl_->parser && impl_->parser->capacity() > kKept) impl_->parser.reset();
}

const char* Index::library_error() { return library().error; }

}  // namespace rille::json
