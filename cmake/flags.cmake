# Flags of our own sources: `rille_flags` is linked PRIVATE by every target of ours, and by none
# that compiles others' code.
add_library(rille_flags INTERFACE)
target_compile_options(rille_flags INTERFACE -Wall -Wextra $<$<CONFIG:Release>:-fno-plt>)
if(RILLE_WERROR)
  target_compile_options(rille_flags INTERFACE -Werror)
endif()

if(RILLE_SANITIZE)
  # LuaJIT itself is not instrumented: what is watched is our code, and every heap block.
  add_compile_options(-fsanitize=${RILLE_SANITIZE} -fno-sanitize-recover=undefined
                      -fno-omit-frame-pointer)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # g++ 12 sees these in the standard library's own headers once they are instrumented.
    target_compile_options(rille_flags INTERFACE -Wno-maybe-uninitialized)
  endif()
  add_link_options(-fsanitize=${RILLE_SANITIZE})
endif()

if(RILLE_FUZZ)
  # What libFuzzer sees of the code's ways; the fuzzer itself is linked to its own program.
  add_compile_options(-fsanitize=fuzzer-no-link)
  add_link_options(-fsanitize=fuzzer-no-link)
endif()
