# Installs Rille into a fresh prefix, builds the examples against it, with find_package and with
# pkg-config, and runs them; then moves it, and does so once more with what is left of it. Run by
# CTest: cmake -DBUILD=... -DSOURCE=... -DVERSION=... -P
set(work ${BUILD}/tests/install)
file(REMOVE_RECURSE ${work})
file(MAKE_DIRECTORY ${work})
set(prefix "${work}/the prefix")

function(run what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output
                  ERROR_VARIABLE output TIMEOUT 60)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${what}: ${status}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

# expect(<what> <text>...): the last output has each of the texts.
function(expect what)
  foreach(text IN LISTS ARGN)
    string(FIND "${output}" "${text}" at)
    if(at EQUAL -1)
      message(FATAL_ERROR "${what}: '${text}' is not in what it printed:\n${output}")
    endif()
  endforeach()
  message(STATUS "ok: ${what}")
endfunction()

run("cmake --install" ${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
foreach(file bin/rille include/rille/rille.hpp include/rille/rille.h include/rille/module.h
             include/rille/module.hpp share/rille/lua/rille/async/init.lua)
  if(NOT EXISTS ${prefix}/${file})
    message(FATAL_ERROR "not installed: ${file}")
  endif()
endforeach()
run("the installed executable" ${prefix}/bin/rille -e "print(rille.version)")
expect("the executable is installed and runs" "0.")

# As packagers do.
run("cmake --install with DESTDIR" ${CMAKE_COMMAND} -E env DESTDIR=${work}/stage
    ${CMAKE_COMMAND} --install ${BUILD} --prefix /opt/rille)
run("the staged executable" ${work}/stage/opt/rille/bin/rille -e "print(rille.version)")
expect("a staged executable runs where it stands" "${VERSION}")

# ---- the headers, each by itself ---------------------------------------------------------------

find_program(pkg_config pkg-config)
file(GLOB_RECURSE pc ${prefix}/*/rille.pc)
cmake_path(GET pc PARENT_PATH pc_folder)
set(ENV{PKG_CONFIG_PATH} ${pc_folder})
execute_process(COMMAND ${pkg_config} --cflags rille OUTPUT_VARIABLE cflags RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "pkg-config does not know rille")
endif()
separate_arguments(cflags UNIX_COMMAND "${cflags}")
set(strict -Wall -Wextra -Wshadow -Wconversion -Werror -pedantic -fsyntax-only)

# check_header(<header> <compiler> <standard> <language>)
function(check_header header compiler standard language)
  set(file ${work}/use_${header}.${language})
  file(WRITE ${file} "#include <rille/${header}>\n#include <rille/${header}>\nint use_it;\n")
  run("${header} with ${compiler} -std=${standard}" ${compiler} -std=${standard} ${strict}
      ${cflags} ${file})
endfunction()

find_program(clang NAMES clang clang-14)
find_program(clangxx NAMES clang++ clang++-14)
foreach(header rille.h module.h)
  foreach(compiler ${CC} ${clang})
    foreach(standard c89 gnu89 c99 c11 c17)
      check_header(${header} ${compiler} ${standard} c)
    endforeach()
  endforeach()
  check_header(${header} ${CXX} c++11 cpp)
endforeach()
foreach(compiler ${CXX} ${clangxx})
  foreach(header rille.h module.h module.hpp rille.hpp value.hpp call.hpp)
    check_header(${header} ${compiler} c++20 cpp)
  endforeach()
  run("options.cpp with ${compiler}" ${compiler} -std=c++20 ${strict} ${cflags}
      ${SOURCE}/tests/install/options.cpp)
endforeach()
message(STATUS "ok: every header compiles by itself, in every language, without a warning")

# ---- find_package ------------------------------------------------------------------------------

set(configure_prefix -DCMAKE_PREFIX_PATH=${prefix})
set(configure -DCMAKE_BUILD_TYPE=Debug
  -DCMAKE_C_FLAGS=-Wall\ -Wextra -DCMAKE_CXX_FLAGS=-Wall\ -Wextra
  -DCMAKE_C_COMPILER_LAUNCHER=${LAUNCHER} -DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER})

function(build folder)
  run("configuring ${folder}" ${CMAKE_COMMAND} -S ${SOURCE}/examples/${folder}
      -B ${work}/${folder} "${configure_prefix}" ${configure})
  run("building ${folder}" ${CMAKE_COMMAND} --build ${work}/${folder} --parallel 2)
  set(output "${output}" PARENT_SCOPE)
endfunction()

build(hosts)
run("frame_loop" ${work}/hosts/frame_loop)
expect("a host with its own main loop" "beep" "Beagle has passed ten" "done")
run("uv_loop" ${work}/hosts/uv_loop)
expect("a host with a libuv loop" "HELLO" "went on ticking" "the loop is empty")
run("epoll" ${work}/hosts/epoll)
expect("a host with epoll" "the sum is 6")
run("threads" ${work}/hosts/threads)
expect("eight runtimes on eight threads" "800 messages handled")
run("embed" ${work}/hosts/embed)
expect("a host in C" "3 4" "bad argument #2 to 'add' (number expected, got table)"
       "it takes too long")

# ---- what the package is -----------------------------------------------------------------------

string(REGEX MATCH "^([0-9]+)\\.([0-9]+)" minor ${VERSION})
math(EXPR next "${CMAKE_MATCH_2} + 1")
math(EXPR next_major "${CMAKE_MATCH_1} + 1")
set(next ${CMAKE_MATCH_1}.${next})
run("find_package by version" ${CMAKE_COMMAND} -S ${SOURCE}/tests/install/package
    -B ${work}/package "${configure_prefix}"
    "-DASKED=${minor}\;${VERSION}\;${next}\;${next_major}.0")
expect("the package answers for its own minor version alone" "${minor}: 1" "${VERSION}: 1"
       "${next}: 0" "${next_major}.0: 0")

file(GLOB_RECURSE library ${prefix}/*/librille.so.${VERSION})
find_program(readelf readelf)
run("readelf" ${readelf} -d ${library})
expect("the shared library is known by its minor version" "[librille.so.${minor}]")

run("configuring the executable" ${CMAKE_COMMAND} -S ${SOURCE}/tests/install/executable
    -B ${work}/executable "${configure_prefix}" ${configure} -DSOURCE=${SOURCE})
run("building the executable" ${CMAKE_COMMAND} --build ${work}/executable)
run("the executable as a host" ${work}/executable/rille_host -e
    "print(require('rille.process').run({ arg[-3], '-e', 'io.write(6 * 7)' }).stdout)")
expect("the executable is built on what every host has" "42")

# ---- modules -----------------------------------------------------------------------------------

build(modules/countdown)
set(script ${SOURCE}/tests/install/use_countdown.lua)
set(ENV{LUA_CPATH} "${work}/modules/countdown/?.so;${work}/modules/resolver/?.so")
run("countdown" ${prefix}/bin/rille ${script})
expect("a module in C, in the executable" "all is well")
run("countdown in a host" ${work}/hosts/run_script ${script})
expect("the same module in a host with the shared library" "all is well")
run("countdown in a host with the static library" ${work}/hosts/run_script_static ${script})
expect("the same module in a host with the static library" "all is well")

execute_process(COMMAND pkg-config --exists libcares RESULT_VARIABLE no_cares)
if(no_cares)
  message(STATUS "skipped: the module in C++, since c-ares is not installed")
else()
  build(modules/resolver)
  run("resolver" ${prefix}/bin/rille ${SOURCE}/tests/install/use_resolver.lua)
  expect("a module in C++ over a library with descriptors" "all is well")
endif()

set(note ${work}/finalizer.txt)
run("finalizer.c" ${CC} -shared -fPIC ${SOURCE}/tests/install/finalizer.c
    -o ${work}/finalizer.so ${cflags})
set(ENV{LUA_CPATH} "${work}/?.so")
run("finalizer" ${prefix}/bin/rille -e "object = require('finalizer').open('${note}')")
file(READ ${note} output)
expect("the executable's end is that of a module's objects and data" "closing object data")

# ---- pkg-config --------------------------------------------------------------------------------

execute_process(COMMAND ${pkg_config} --cflags --libs rille OUTPUT_VARIABLE flags)
separate_arguments(flags UNIX_COMMAND "${flags}")
cmake_path(GET library PARENT_PATH library_folder)
set(rpath -Wl,-rpath,${library_folder} -pthread)
run("embed.c by pkg-config" ${CC} ${SOURCE}/examples/hosts/embed.c -o ${work}/embed ${flags}
    ${rpath})
run("embed" ${work}/embed)
expect("a host in C, built with pkg-config" "3 4")
run("uv_loop.cpp by pkg-config" ${CXX} -std=c++20 ${SOURCE}/examples/hosts/uv_loop.cpp
    -o ${work}/uv_loop ${flags} ${rpath})
run("uv_loop" ${work}/uv_loop)
expect("a host in C++, built with pkg-config" "the loop is empty")

# ---- elsewhere, and with the static library alone ----------------------------------------------

set(moved ${work}/moved)
file(RENAME ${prefix} ${moved})
file(GLOB_RECURSE shared ${moved}/*/librille.so*)
file(REMOVE ${shared})
run("the moved executable" ${moved}/bin/rille -e "print(#require('rille.fs').read_file '/dev/null')")
expect("an executable that was moved has all it needs" "0")

cmake_path(RELATIVE_PATH pc_folder BASE_DIRECTORY ${prefix})
set(ENV{PKG_CONFIG_PATH} ${moved}/${pc_folder})
execute_process(COMMAND ${pkg_config} --static --cflags --libs rille OUTPUT_VARIABLE flags)
separate_arguments(flags UNIX_COMMAND "${flags}")
run("embed.c by pkg-config --static" ${CC} ${SOURCE}/examples/hosts/embed.c -o ${work}/embed
    ${flags} -pthread)
run("embed" ${work}/embed)
expect("a host in C with the static library" "3 4" "bad argument #2 to 'add'" "it takes too long")
run("threads.cpp by pkg-config --static" ${CXX} -std=c++20 ${SOURCE}/examples/hosts/threads.cpp
    -o ${work}/threads ${flags} -pthread)
run("threads" ${work}/threads)
expect("eight runtimes with the static library" "800 messages handled")
