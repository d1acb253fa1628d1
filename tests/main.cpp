// Catch2's main, alone: its header is not free of warnings, and slow to compile.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
