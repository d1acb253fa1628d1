# Finds what Rille is built with. Whatever is missing is named with the Debian package that has it,
# all of it in one message.
set(missing "")

find_package(Threads REQUIRED)
find_package(PkgConfig)
if(PkgConfig_FOUND)
  pkg_check_modules(LUAJIT IMPORTED_TARGET luajit>=2.1)
  pkg_check_modules(UV IMPORTED_TARGET libuv>=1.44)
  if(NOT LUAJIT_FOUND)
    list(APPEND missing "LuaJIT 2.1 (luajit.pc): libluajit-5.1-dev")
  endif()
  if(NOT UV_FOUND)
    list(APPEND missing "libuv 1.44 (libuv.pc): libuv1-dev")
  endif()
else()
  list(APPEND missing "pkg-config: pkg-config")
endif()

find_program(LUAJIT_EXECUTABLE luajit)
if(NOT LUAJIT_EXECUTABLE)
  list(APPEND missing "the luajit command, which compiles the standard library: luajit")
endif()

find_package(cxxopts 3 CONFIG QUIET)
if(NOT cxxopts_FOUND)
  list(APPEND missing "cxxopts 3: libcxxopts-dev")
endif()

find_package(simdjson 3 CONFIG QUIET)
if(NOT simdjson_FOUND)
  list(APPEND missing "simdjson 3: libsimdjson-dev")
endif()

# Debian ships llhttp as C source, to be compiled into the program that uses it.
find_path(LLHTTP_INCLUDE_DIR llhttp/llhttp.h PATHS /usr/share/include)
find_path(LLHTTP_SOURCE_DIR llhttp.c PATHS /usr/share/llhttp)
mark_as_advanced(LLHTTP_INCLUDE_DIR LLHTTP_SOURCE_DIR)
if(NOT LLHTTP_INCLUDE_DIR OR NOT LLHTTP_SOURCE_DIR)
  list(APPEND missing "llhttp's sources (llhttp.c, llhttp/llhttp.h): node-llhttp")
endif()

# Libraries without which Rille is built too, less the modules that need them: those say so when they
# are required.
function(optional_package name module package)
  option(RILLE_${name} "Build ${module}, if its library is there" ON)
  if(RILLE_${name} AND PkgConfig_FOUND)
    pkg_check_modules(${name} IMPORTED_TARGET GLOBAL ${ARGN})
  endif()
  if(RILLE_${name} AND NOT ${name}_FOUND)
    message(NOTICE "Without ${module}: it needs ${package}")
  endif()
endfunction()
optional_package(OPENSSL "rille.tls" libssl-dev openssl>=3.0)
optional_package(CARES "rille.dns's resolver" libc-ares-dev libcares>=1.18)
optional_package(NGHTTP2 "HTTP/2" libnghttp2-dev libnghttp2>=1.52)
optional_package(ZLIB "gzip in HTTP" zlib1g-dev zlib)
optional_package(BROTLI "brotli in HTTP" libbrotli-dev libbrotlidec libbrotlienc)
optional_package(ZSTD "zstd in HTTP" libzstd-dev libzstd)
optional_package(LIBEDIT "line editing in the REPL" libedit-dev libedit)

# wslay brings no .pc file.
option(RILLE_WSLAY "Build rille.websocket, if its library is there" ON)
find_path(WSLAY_INCLUDE_DIR wslay/wslay.h)
find_library(WSLAY_LIBRARY wslay)
mark_as_advanced(WSLAY_INCLUDE_DIR WSLAY_LIBRARY)
if(RILLE_WSLAY AND WSLAY_INCLUDE_DIR AND WSLAY_LIBRARY)
  add_library(PkgConfig::WSLAY INTERFACE IMPORTED)
  target_include_directories(PkgConfig::WSLAY SYSTEM INTERFACE ${WSLAY_INCLUDE_DIR})
  target_link_libraries(PkgConfig::WSLAY INTERFACE ${WSLAY_LIBRARY})
elseif(RILLE_WSLAY)
  message(NOTICE "Without rille.websocket: it needs libwslay-dev")
endif()

if(RILLE_TESTS)
  find_package(Catch2 2.13 CONFIG QUIET)
  if(NOT Catch2_FOUND)
    list(APPEND missing "Catch2 2.13 (or configure with -DRILLE_TESTS=OFF): catch2")
  endif()
endif()

if(missing)
  set(packages "")
  foreach(line IN LISTS missing)
    string(REGEX REPLACE ".*: " "" package "${line}")
    list(APPEND packages ${package})
  endforeach()
  list(JOIN missing "\n  " missing)
  list(JOIN packages " " packages)
  message(FATAL_ERROR "Missing, each with the Debian package that has it:\n  ${missing}\n"
                      "Install them with: apt-get install ${packages}")
endif()

# LuaJIT's archive, where there is one: every switch of tasks makes a dozen calls into it, and calls
# into a shared library cost more. Its API is exported, so that C modules find it.
option(RILLE_STATIC_LUAJIT "Link LuaJIT's archive instead of its shared library" ON)
add_library(rille_luajit INTERFACE)
find_library(LUAJIT_ARCHIVE NAMES libluajit-5.1.a libluajit.a HINTS ${LUAJIT_LIBRARY_DIRS})
mark_as_advanced(LUAJIT_ARCHIVE)
if(RILLE_STATIC_LUAJIT AND LUAJIT_ARCHIVE)
  target_include_directories(rille_luajit SYSTEM INTERFACE ${LUAJIT_INCLUDE_DIRS})
  target_link_libraries(rille_luajit INTERFACE ${LUAJIT_ARCHIVE} ${CMAKE_DL_LIBS} m)
  target_link_options(rille_luajit INTERFACE "LINKER:--export-dynamic-symbol=lua_*"
    "LINKER:--export-dynamic-symbol=luaL_*" "LINKER:--export-dynamic-symbol=luaopen_*"
    "LINKER:--export-dynamic-symbol=luaJIT_*")
else()
  target_link_libraries(rille_luajit INTERFACE PkgConfig::LUAJIT)
endif()
