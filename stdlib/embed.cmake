# rille_embed(<output.cpp> <module.lua>...): makes the modules part of the program. They are
# compiled to bytecode while building: loading that takes a fraction of the time that parsing does,
# and a module that does not parse stops the build.
function(rille_embed output)
  set(script ${PROJECT_SOURCE_DIR}/tools/embed.lua)
  # The list goes through a file, rewritten when a module comes or goes, so that this too rebuilds.
  set(list ${output}.list)
  list(JOIN ARGN "\n" lines)
  file(CONFIGURE OUTPUT ${list} CONTENT "${lines}\n")
  add_custom_command(
    OUTPUT ${output}
    COMMAND ${LUAJIT_EXECUTABLE} ${script} ${CMAKE_CURRENT_SOURCE_DIR} ${list} ${output}
    DEPENDS ${script} ${list} ${ARGN}
    COMMENT "Embedding the standard library"
    VERBATIM)
endfunction()
