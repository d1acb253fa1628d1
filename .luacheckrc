std = "luajit"
max_line_length = 100
read_globals = { "rille" }
-- Arguments that a signature names for its readers may stay unused.
unused_args = false
cache = false
exclude_files = { "build*/" }

-- What stands in for Lua's own so that waits pass through it.
files["stdlib/core"] = { globals = { "coroutine", "pcall", "xpcall", "require" } }
-- What is printed has its place among what is written to the streams.
files["stdlib/stdio.lua"] = { globals = { "print", "io" } }
files["stdlib/repl"] = { globals = { "print" } }
files["scripts"] = { read_globals = { "arg" } }
-- Tests break out of loops after one turn, to see what an iterator does then.
files["tests"] = { read_globals = { "arg" }, ignore = { "512" } }
files["bench"] = { read_globals = { "arg" } }
