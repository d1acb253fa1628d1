-- What a service does with signals: SIGHUP reads the settings again, SIGUSR1 tells how things are,
-- SIGTERM ends it. Handlers run in tasks of their own; here they only put a note into a queue, so
-- that one thing is done after the other. When its last handle is closed, a signal does again what
-- it does by default.
local async = require "rille.async"
local fs = require "rille.fs"
local process = require "rille.process"
local signal = require "rille.signal"
local tempdir = require "lib.tempdir"

local function send(name)
  process.kill(process.pid(), name) -- in real life somebody else does
end

local function serve(path, ready)
  local received, handles, settings = async.Queue(), {}, nil

  local actions = {
    SIGHUP = function()
      settings = fs.read_file(path)
      print("SIGHUP: the settings are " .. settings)
    end,
    SIGUSR1 = function() print("SIGUSR1: all is well with " .. settings) end,
    SIGTERM = function()
      print "SIGTERM: that is it"
      received:shutdown()
    end,
  }
  for name in pairs(actions) do
    handles[#handles + 1] = signal.on(name, function() received:put(name) end)
  end

  actions.SIGHUP() -- as if one had come: the settings are read for the first time
  ready:set()
  for name in received:iter() do actions[name]() end
  for _, handle in ipairs(handles) do handle:close() end
end

async.with(tempdir(), function(dir)
  local path = dir .. "/settings"
  fs.write_file(path, "colour=red")
  local ready = async.Event()
  local service = async.spawn(serve, path, ready)
  ready:wait()

  send "SIGUSR1"
  fs.write_file(path, "colour=blue", { atomic = true })
  send "SIGHUP"
  send "SIGUSR1"
  send "SIGTERM"
  service:await()
end)
