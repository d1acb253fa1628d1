-- A program that is told what to do through a Unix socket, a file that only its owner may use. What
-- it does not understand it says so; the file goes with the listener.
local async = require "rille.async"
local fs = require "rille.fs"
local net = require "rille.net"
local tempdir = require "lib.tempdir"

local jobs = { "backup", "report" }

local COMMANDS = {
  add = function(name)
    jobs[#jobs + 1] = name
    return "added " .. name
  end,
  list = function() return table.concat(jobs, " ") end,
}

local function handle(stream)
  for line in stream:lines(1000) do
    local name, argument = line:match "^(%a+) ?(.*)$"
    local command = COMMANDS[name]
    stream:write(command and command(argument) or ("unknown command: %q"):format(line), "\n")
  end
end

local function tell(path, command)
  return async.with(net.connect { path = path }, function(stream)
    stream:write(command, "\n")
    return stream:read_line()
  end)
end

async.with(tempdir(), function(dir)
  local path = dir .. "/control"
  async.group(function(group)
    local listener = net.listen { path = path }
    fs.chmod(path, "600")
    group:spawn(listener.serve, listener, handle)

    local stat = fs.stat(path)
    print(("The file is a %s, mode %o"):format(stat.type, stat.mode))
    for _, command in ipairs { "list", "add cleanup", "list", "dance", "" } do
      print(("%-11s -> %s"):format(command, tell(path, command)))
    end
    listener:close()
  end)

  print("The file is still there: " .. tostring(fs.exists(path)))
  local _, err = pcall(net.connect, { path = path })
  print("Nobody answers: " .. tostring(err.code))
end)
