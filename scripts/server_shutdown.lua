-- How a server ends well: on SIGTERM it takes no new connections, lets those that are busy finish,
-- and cuts off who has not come to an end when the time of grace is over.
local async = require "rille.async"
local net = require "rille.net"
local process = require "rille.process"
local signal = require "rille.signal"

local GRACE = 0.2

local stopping = async.Event()
local jobs = {
  short = function(stream)
    stopping:wait() -- it is not done when the signal comes, but soon after it
    stream:write "the short job is done\n"
  end,
  long = function(stream)
    async.sleep(60)
    stream:write "the long job is done\n"
  end,
}

local function handle(stream)
  local job = jobs[stream:read_line()]
  stream:write "started\n"
  job(stream)
end

local function start(port, job)
  local stream = net.connect { host = "127.0.0.1", port = port }
  stream:write(job, "\n")
  assert(stream:read_line() == "started")
  return stream
end

async.group(function(group)
  local listener = net.listen {}
  local port = listener:address().port
  local server = group:spawn(listener.serve, listener, handle)
  local short, long = start(port, "short"), start(port, "long")

  async.call_soon(process.kill, process.pid(), "SIGTERM")
  print("Received " .. signal.wait("SIGTERM", "SIGINT"))
  listener:close(GRACE)
  stopping:set()

  local _, err = pcall(net.connect, { host = "127.0.0.1", port = port })
  print("New connections: " .. err.message)
  print("From one client: " .. tostring(short:read_line()))
  print("From the other: " .. tostring(long:read_line()))

  server:await()
  print "The server has ended"
  short:close()
  long:close()
end)
