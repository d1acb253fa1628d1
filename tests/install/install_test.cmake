# Installs Rille into a fresh prefix, builds the examples against it, with find_package and with
# pkg-config, and runs them. Run by CTest: cmake -DBUILD=... -DSOURCE=... -P
set(work ${BUILD}/tests/install)
file(REMOVE_RECURSE ${work})
file(MAKE_DIRECTORY ${work})
set(prefix ${work}/prefix)

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

# ---- find_package ------------------------------------------------------------------------------

set(configure -DCMAKE_PREFIX_PATH=${prefix} -DCMAKE_BUILD_TYPE=Debug
  -DCMAKE_C_FLAGS=-Wall\ -Wextra -DCMAKE_CXX_FLAGS=-Wall\ -Wextra
  -DCMAKE_C_COMPILER_LAUNCHER=${LAUNCHER} -DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER})

function(build folder)
  run("configuring ${folder}" ${CMAKE_COMMAND} -S ${SOURCE}/examples/${folder}
      -B ${work}/${folder} ${configure})
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

# ---- pkg-config --------------------------------------------------------------------------------

find_program(pkg_config pkg-config)
file(GLOB_RECURSE pc ${prefix}/*/rille.pc)
cmake_path(GET pc PARENT_PATH pc_folder)
set(ENV{PKG_CONFIG_PATH} ${pc_folder})
execute_process(COMMAND ${pkg_config} --cflags --libs rille OUTPUT_VARIABLE flags
                RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "pkg-config does not know rille")
endif()
separate_arguments(flags UNIX_COMMAND "${flags}")
file(GLOB_RECURSE library ${prefix}/*/librille.so)
cmake_path(GET library PARENT_PATH library_folder)
list(APPEND flags -Wl,-rpath,${library_folder} -pthread)
run("embed.c by pkg-config" ${CC} ${SOURCE}/examples/hosts/embed.c -o ${work}/embed ${flags})
run("embed" ${work}/embed)
expect("a host in C, built with pkg-config" "3 4")
run("uv_loop.cpp by pkg-config" ${CXX} -std=c++20 ${SOURCE}/examples/hosts/uv_loop.cpp
    -o ${work}/uv_loop ${flags})
run("uv_loop" ${work}/uv_loop)
expect("a host in C++, built with pkg-config" "the loop is empty")
