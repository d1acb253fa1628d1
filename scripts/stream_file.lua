-- A file larger than one wants in memory: written piece by piece, read line by line, copied with a
-- change in pieces. While one piece is worked on, the next is already being read.
local async = require "rille.async"
local fs = require "rille.fs"
local tempdir = require "lib.tempdir"

local LINES = 200000
local HOSTS = { "alpha", "beta", "gamma" }

local function write_log(path)
  async.with(fs.open(path, "w"), function(file)
    for i = 1, LINES do
      local host = HOSTS[i % #HOSTS + 1]
      file:write(i, " ", host, " ", i % 1000 == 0 and "ERROR disk full" or "ok", "\n")
    end
  end)
end

local function count_errors(path)
  local errors = {}
  for line in fs.open(path):lines() do
    local host = line:match "^%d+ (%a+) ERROR"
    if host then errors[host] = (errors[host] or 0) + 1 end
  end
  return errors
end

local function copy_in_capitals(from, to)
  async.with(fs.open(from), function(source)
    async.with(fs.open(to, "w"), function(target)
      for chunk in source:chunks() do target:write(chunk:upper()) end
    end)
  end)
end

async.with(tempdir(), function(dir)
  local log, copy = dir .. "/log", dir .. "/copy"
  write_log(log)
  print(("%d lines, %d bytes"):format(LINES, fs.stat(log).size))

  local errors = count_errors(log)
  for _, host in ipairs(HOSTS) do print(("%-5s had %d errors"):format(host, errors[host])) end

  copy_in_capitals(log, copy)
  async.with(fs.open(copy), function(file)
    file:seek("end", -29)
    io.write("The end of the copy: ", file:read "a")
  end)
end)
