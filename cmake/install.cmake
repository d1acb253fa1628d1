# `cmake --install`: the executable, the libraries with a CMake package and a .pc file, the headers,
# and the sources of the standard library, whose annotations editors read.
if(NOT RILLE_LIBRARIES)
  return()
endif()
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS rille rille_shared rille_static)
install(FILES runtime/include/rille/rille.hpp runtime/include/rille/value.hpp
              runtime/include/rille/call.hpp runtime/include/rille/rille.h
              runtime/include/rille/module.h runtime/include/rille/module.hpp
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/rille)
install(DIRECTORY stdlib/ DESTINATION ${CMAKE_INSTALL_DATADIR}/rille/lua/rille
        FILES_MATCHING PATTERN "*.lua" PATTERN "core" EXCLUDE)
# Where tasks and futures are annotated.
install(FILES stdlib/core/task.lua stdlib/core/protect.lua
        DESTINATION ${CMAKE_INSTALL_DATADIR}/rille/lua/rille/core)

# What a program with the static library has to link beside it.
set(private_libraries "")
foreach(library UV CARES LIBEDIT WSLAY)
  if(TARGET PkgConfig::${library})
    get_target_property(names PkgConfig::${library} INTERFACE_LINK_LIBRARIES)
    list(APPEND private_libraries ${names})
  endif()
endforeach()
if(LUAJIT_ARCHIVE AND RILLE_STATIC_LUAJIT)
  list(APPEND private_libraries ${LUAJIT_ARCHIVE} m)
else()
  list(APPEND private_libraries ${LUAJIT_LINK_LIBRARIES})
endif()
get_target_property(simdjson_type simdjson::simdjson TYPE)
if(NOT simdjson_type STREQUAL "SHARED_LIBRARY")
  get_target_property(location simdjson::simdjson LOCATION)
  list(APPEND private_libraries ${location})
endif()
list(APPEND private_libraries dl pthread stdc++)
list(REMOVE_DUPLICATES private_libraries)
list(TRANSFORM private_libraries REPLACE "^([^/-].*)$" "-l\\1" OUTPUT_VARIABLE private_flags)
list(JOIN private_flags " " private_flags)

configure_package_config_file(cmake/rille-config.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/cmake/rille-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/rille
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_BINDIR)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/cmake/rille-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/cmake/rille-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/cmake/rille-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/rille)

# Relative, so that it holds wherever the files are installed, or moved.
file(RELATIVE_PATH prefix_from_pc /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(cmake/rille.pc.in ${CMAKE_CURRENT_BINARY_DIR}/cmake/rille.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/cmake/rille.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
