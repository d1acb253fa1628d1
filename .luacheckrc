std = "luajit"
max_line_length = 100
read_globals = { "rille" }
-- Arguments that a signature names for its readers may stay unused.
unused_args = false
cache = false
exclude_files = { "build*/" }

files["scripts"] = { read_globals = { "arg" } }
files["tests"] = { read_globals = { "arg" } }
files["bench"] = { read_globals = { "arg" } }
