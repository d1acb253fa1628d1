# make run [SCRIPT=scripts/tour.lua] [ARGS=…]    installs and builds what is missing, runs a script
# make test                                      the same, runs all tests
# make fuzz [FUZZ_SECONDS=10] [TARGETS=…]        runs the fuzzers, with clang
# make soak [SOAK_SECONDS=600]                   HTTP under load for long, with clients that die
# make build | bench | asan | tsan | valgrind | format | format-check | lint | tidy | clean

SCRIPT ?= scripts/tour.lua
ARGS ?=
JOBS ?= 2
CTEST_FLAGS ?=
WORKLOADS ?=
FUZZ_SECONDS ?= 10
TARGETS ?=
SOAK_SECONDS ?= 600
ROUNDS ?= 3

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

# For folders not configured yet; where there is no Ninja, CMake uses make.
configure = $(if $(shell command -v ninja),CMAKE_GENERATOR=Ninja) cmake --log-level=NOTICE --preset

# Configures and builds a preset in its folder, on stderr, so that `make run` prints what the script
# prints. A configured folder configures itself again when files come or go.
define build_preset
@test -f $(2)/CTestTestfile.cmake || $(configure) $(1) >&2
@cmake --build $(2) -j $(JOBS) | { grep -v -e '^ninja: no work' -e 'Re-checking glob' >&2 || true; }
endef

cpp_files = $(shell find runtime bindings tests bench/load bench/peers -name '*.cpp' -o -name '*.hpp' -o -name '*.[ch]')

.PHONY: run build test bench asan tsan valgrind fuzz soak format format-check lint tidy clean

run: build
	@build/rille $(SCRIPT) $(ARGS)

build:
	@tools/setup.sh build
	$(call build_preset,release,build)

test:
	@tools/setup.sh build test
	$(call build_preset,release,build)
	@ctest --test-dir build --output-on-failure -j $(JOBS) $(CTEST_FLAGS)

bench: build
	@bench/run.py --rounds $(ROUNDS) $(WORKLOADS)

asan:
	@tools/setup.sh build test
	$(call build_preset,asan,build-asan)
	@ctest --preset asan -j $(JOBS) $(CTEST_FLAGS)

# What several threads have to do with: workers, completions from other threads, the pools.
tsan:
	@tools/setup.sh build test
	$(call build_preset,tsan,build-tsan)
	@ctest --preset tsan -j $(JOBS) $(CTEST_FLAGS) -R '(stdlib/worker|bindings/worker|runtime/waiter|runtime/module|runtime/lifetime|runtime/pool|runtime/host)'

# Valgrind runs programs 20 to 50 times slower: the C++ tests, less those tagged [slow], and those of
# limits of time.
valgrind:
	@tools/setup.sh build valgrind
	$(call build_preset,debug,build-debug)
	@valgrind --quiet --error-exitcode=1 --leak-check=full --errors-for-leak-kinds=definite \
	  build-debug/tests/rille_tests '~[slow]~[limits]'

fuzz:
	@tools/setup.sh build fuzz
	@test -f build-fuzz/CMakeCache.txt || $(configure) fuzz >&2
	@cmake --build build-fuzz -j $(JOBS) --target rille_fuzz
	@tools/fuzz.sh $(FUZZ_SECONDS) $(TARGETS)

soak: build
	@RILLE_SOAK_SECONDS=$(SOAK_SECONDS) LUA_PATH="tests/?.lua;tests/?/init.lua;;" \
	  build/rille tests/soak_http_test.lua

format:
	@tools/setup.sh lint
	@clang-format -i $(cpp_files)

format-check:
	@tools/setup.sh lint
	@clang-format --dry-run -Werror $(cpp_files)

lint:
	@tools/setup.sh lint
	@luacheck --quiet stdlib scripts tests tools

tidy: build
	@tools/setup.sh tidy
	@clang-tidy --quiet -p build $(filter runtime/%.cpp bindings/%.cpp,$(cpp_files))

clean:
	@rm -rf build build-debug build-asan build-tsan build-fuzz
