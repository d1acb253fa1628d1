-- Follows a file that another process writes to, as `tail -f` does: reads what is there, then what
-- is new whenever the system says that the file has changed. Nobody asks every so often.
local async = require "rille.async"
local fs = require "rille.fs"
local process = require "rille.process"
local tempdir = require "lib.tempdir"

-- Of the second entry the line's end comes later.
local WRITER = [[
  echo "first entry" >> log
  sleep 0.05
  printf "second " >> log
  sleep 0.05
  echo "entry" >> log
  echo "the end" >> log]]

-- An iterator over the lines of a file, those to come included.
local follow = async.generator(function(yield, path)
  async.with(fs.watch(path), function(changes)
    async.with(fs.open(path), function(file)
      local line = ""
      repeat
        local piece = file:read "L"
        while piece do
          line = line .. piece
          if line:sub(-1) == "\n" then
            yield(line:sub(1, -2))
            line = ""
          end
          piece = file:read "L"
        end
      until not changes()
    end)
  end)
end)

async.with(tempdir(), function(dir)
  fs.write_file(dir .. "/log", "what was there before\n")
  async.with(process.spawn { "sh", "-c", WRITER, cwd = dir }, function(writer)
    for line in follow(dir .. "/log") do
      print(line)
      if line == "the end" then break end
    end
    print("The writer ended with " .. writer:wait().code)
  end)
end)
