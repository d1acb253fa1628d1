# librille for hosts, shared and static, from the objects that the executable is made of.
option(RILLE_LIBRARIES "Build the libraries for hosts" ON)
if(NOT RILLE_LIBRARIES)
  return()
endif()

set(objects $<TARGET_OBJECTS:rille_runtime> $<TARGET_OBJECTS:rille_bindings>
            $<TARGET_OBJECTS:rille_stdlib> $<TARGET_OBJECTS:rille_llhttp>)

# The interface of the shared library changes with each version until 1.0. LuaJIT's archive is no code
# for shared libraries: this one needs the shared LuaJIT, whose functions modules find then.
add_library(rille_shared SHARED)
target_sources(rille_shared PRIVATE ${objects})
target_link_libraries(rille_shared PRIVATE PkgConfig::LUAJIT PkgConfig::UV Threads::Threads
                                           ${CMAKE_DL_LIBS} rille_flags)
foreach(library CARES LIBEDIT WSLAY)
  if(TARGET PkgConfig::${library})
    target_link_libraries(rille_shared PRIVATE PkgConfig::${library})
  endif()
endforeach()
get_target_property(simdjson_type simdjson::simdjson TYPE)
if(NOT simdjson_type STREQUAL "SHARED_LIBRARY")
  target_link_libraries(rille_shared PRIVATE simdjson::simdjson)
endif()
set_target_properties(rille_shared PROPERTIES OUTPUT_NAME rille VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR} LINKER_LANGUAGE CXX)
# What the compiler makes of libstdc++'s templates stays inside, and so do archives.
target_link_options(rille_shared PRIVATE "LINKER:--exclude-libs,ALL" "LINKER:--no-undefined"
  "LINKER:--version-script,${CMAKE_CURRENT_SOURCE_DIR}/cmake/librille.map")
set_target_properties(rille_shared PROPERTIES LINK_DEPENDS
  ${CMAKE_CURRENT_SOURCE_DIR}/cmake/librille.map)

add_library(rille_static STATIC)
target_sources(rille_static PRIVATE ${objects})
set_target_properties(rille_static PROPERTIES OUTPUT_NAME rille LINKER_LANGUAGE CXX)
