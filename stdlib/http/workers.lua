--- A server in several processes, as one of the workers sees it: where it listens is said by the
-- process that supervises (rille.http.supervisor), which is also who ends it.
local async = require "rille.async"
local binding = require "rille.core.worker_channel"
local task = require "rille.core.task"
local report = require "rille.core.report"
local main = require "rille.core.main"
local program = require "rille.core.program"
local net = require "rille.net"
local process = require "rille.process"
local make_listener = require "rille.net.listener"

local GRACE = 10 -- seconds, where nobody says another number
local LAST_SIGNAL = 0.1 -- seconds in which the parent's end is told

local M = {
  -- Which worker this process is, from 1; nil if it is none.
  number = program.worker,
}

local channel, parent
local count, services = 0, {} -- the program's servers, in the order in which it starts them
local ending = false

-- Tasks of nobody's: they run for as long as the program.
local function spawn(fn)
  return task.spawn_internal(fn, { vars = false, run = { outer = false } })
end

local function close(service, grace)
  if service.server then service.server:close(grace) end
  channel:send("closed " .. service.at)
end

-- What the first signal does: the servers finish what they have begun before the script is
-- cancelled.
local function finish()
  if ending then return end
  ending = true
  spawn(function()
    async.map(services, function(service) close(service, GRACE) end)
    if main.task then main.task:cancel "the worker is told to end" end
  end)
end

local handlers = {}

function handlers.listen(service, port, listener)
  service.place:set_result(listener, tonumber(port))
end

function handlers.close(service, grace)
  spawn(function() close(service, tonumber(grace)) end)
end

-- Nobody speaks any more. If that is the parent's end, the system says so by a signal; if the
-- parent lives, it does not want this process.
local function leave()
  async.sleep(LAST_SIGNAL)
  if binding.parent() == parent then process.kill(process.pid()) end
end

local function read_messages()
  while true do
    local text, listener = channel:receive()
    if not text then return leave() end
    local verb, at, rest = text:match "^(%a+) (%d+) (.*)$"
    handlers[verb](services[tonumber(at)], rest, listener)
  end
end

local function open()
  parent = binding.parent()
  channel = binding.open(program.channel)
  spawn(read_messages):set_name "messages of the supervising process"
  main.before_cancel = finish
  main.at_end(function()
    local own = main.task
    if own[2] == 3 or own[2] == 6 then channel:send("failed " .. report.text_of(own[3])) end
  end)
end

--- Listens where the supervising process says. `server` is closed when that asks for it.
---@async
---@param server Server
---@return Listener
-- Errors: those of net.listen.
function M.listen(server, settings)
  if not channel then open() end
  count = count + 1
  local service = { at = count, place = async.Future() }
  services[count] = service
  channel:send("serve " .. count)
  local shared, port = service.place:await()
  local listener
  if shared then
    listener = make_listener(shared)
  else
    listener = net.listen { host = settings.host, port = port, reuse_port = true }
  end
  service.server = server
  channel:send("ready " .. count)
  return listener
end

return M
