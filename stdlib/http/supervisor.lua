--- A server in several processes, as the first of them sees it: it starts the workers, which run
-- the script again from its beginning, starts those anew that have crashed, and serves nothing
-- itself.
local async = require "rille.async"
local binding = require "rille.core.worker_channel"
local tcp = require "rille.core.tcp"
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local report = require "rille.core.report"
local main = require "rille.core.main"
local program = require "rille.core.program"
local errors = require "rille.errors"
local check = require "rille.core.check"
local fs = require "rille.fs"
local net = require "rille.net"
local make_listener = require "rille.net.listener"
local resolve = require "rille.net.resolve"
local process = require "rille.process"
local start_process = require("rille.process.spawn").start
local signal = require "rille.signal"

local xpcall = require("rille.core.protect").xpcall
local shielded = require("rille.async.cleanup").shielded
local keep_trace, rethrow, raise = task.keep_trace, task.rethrow, task.raise
local format, min = string.format, math.min

local GRACE = 10 -- seconds for what runs, when the program ends
local PATIENCE = 5 -- and then for the script's own end, until it is killed
local GENTLE = 1 -- until a script that has no server any more is sent a signal
-- So many failures of its script at the start in a row, and a worker is given up.
local MOST_FAILURES = 3
-- A worker that ends that soon after it began is started again more and more slowly.
local SHORT_LIFE = 1
local FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10
local SIGTERM, SIGKILL = 15, 9

-- All workers of the program, whichever of its servers they serve: { size =, slots =, services = }.
local pool

-- ---- one worker ---------------------------------------------------------------------------------

-- The command line once more.
local function command_line()
  local words = { program.executable }
  for i = 2, #program.command do words[i] = program.command[i] end
  words[#words + 1] = program.script
  for _, text in ipairs(program.args) do words[#words + 1] = text end
  -- Where it was started, if it has gone elsewhere.
  local ok, here = pcall(fs.cwd)
  if ok and here ~= program.cwd then words.cwd = program.cwd end
  return words
end

local function begin(slot)
  local err, channel, theirs = binding.pair()
  if err ~= nil then raise(err) end
  local streams = {
    stdin = theirs, extra = format("RILLE_WORKER=%d:%d", slot.number, process.pid()),
  }
  -- In a group of its own: what a terminal sends to all is passed on, and would come twice.
  local ok, child, pid = xpcall(start_process, keep_trace, command_line(), streams, "g",
    "serve")
  binding.release(theirs)
  if not ok then
    channel:close()
    rethrow(child)
  end
  slot.child, slot.pid, slot.channel = child, pid, channel
  slot.asked, slot.ready, slot.closed = {}, {}, {}
  slot.served, slot.signalled, slot.fault = false, false, nil
end

local function changed()
  pool.changed:set()
  pool.changed:clear()
end

local function place(slot, service)
  if slot.asked[service._at] then
    slot.channel:send(format("listen %d %d", service._at, service.port or 0), service._shared)
  end
end

-- What workers say.
local handlers = {}

function handlers.serve(slot, at)
  at = tonumber(at)
  slot.asked[at] = true
  if pool.services[at] then place(slot, pool.services[at]) end
end

function handlers.ready(slot, at)
  slot.ready[tonumber(at)] = true
  slot.served = true
end

function handlers.closed(slot, at) slot.closed[tonumber(at)] = true end

function handlers.failed(slot, text) slot.fault = text end

local function read_messages(slot)
  local channel = slot.channel
  while true do
    local text = channel:receive()
    if not text then return end
    local verb, rest = text:match "^(%a+) (.*)$"
    handlers[verb](slot, rest)
    changed()
  end
end

local function wait_for_child(_, slot) slot.child:wait() end

local function ends_within(slot, seconds)
  return (async.move_on_after(seconds, wait_for_child, slot))
end

local function send_signal(slot, number)
  if not slot.child then return end
  if number == SIGTERM or number == 2 then slot.signalled = true end
  slot.child:kill(number, false)
end

-- Ends a worker, by a request first.
local function put_down(slot, grace)
  for at in ipairs(pool.services) do slot.channel:send(format("close %d %g", at, grace)) end
  if not slot.signalled then send_signal(slot, SIGTERM) end
  if not ends_within(slot, grace + PATIENCE) then
    send_signal(slot, SIGKILL)
    slot.child:wait()
  end
end

local function how(slot, status)
  local text = status.signal and "signal " .. status.signal or "exit status " .. status.code
  return slot.fault and text .. ", " .. slot.fault or text
end

-- A worker has ended by itself: says so, or gives up, and waits before the next one begins.
local function judge(slot, status, lived)
  local is_short = lived < SHORT_LIFE
  if not is_short then slot.failures = 0 end
  -- A signal says nothing of the script.
  if not slot.served or is_short and status.code and status.code ~= 0 then
    slot.failures = slot.failures + 1
    if slot.failures >= MOST_FAILURES then
      errors._raise("WorkerError",
        format("worker %d ended %d times in a row at its start: %s", slot.number,
          slot.failures, how(slot, status)), { code = status.code, signal = status.signal })
    end
  else
    report.report { message = format("worker %d (process %d) has ended (%s) and is started again",
      slot.number, slot.pid, how(slot, status)) }
  end
  slot.short = is_short and slot.short + 1 or 0
  if slot.short == 0 then return end
  local pause = min(FIRST_PAUSE * 2 ^ (slot.short - 1), LONGEST_PAUSE)
  async.move_on_after(pause, function() pool.stopping:wait() end)
end

-- What the task of a slot runs.
local function keep(slot)
  while not pool.stopping:is_set() do
    local began = async.time()
    begin(slot)
    local reader = async.spawn(read_messages, slot)
    reader:set_name("messages of worker " .. slot.number)
    local ok, status = xpcall(slot.child.wait, keep_trace, slot.child)
    if not ok then shielded(put_down, slot, pool.grace) end
    -- What it said last is still there.
    shielded(reader.await, reader)
    slot.channel:close()
    slot.child = nil
    changed()
    if not ok then rethrow(status) end
    if not pool.stopping:is_set() then judge(slot, status, async.time() - began) end
  end
end

report.describe(keep, function(slot) return "worker " .. slot.number .. " to end" end)

-- ---- all of them --------------------------------------------------------------------------------

local function pass_on(number)
  return function(name, is_alone)
    for _, slot in ipairs(pool.slots) do send_signal(slot, number) end
    if not is_alone then return end
    -- What the script does not ask for does to this process what it would do to any.
    pool.signals[name]:close()
    process.kill(process.pid(), name)
  end
end

local function run()
  local ok, e = xpcall(async.group, keep_trace, function(g)
    for _, slot in ipairs(pool.slots) do
      g:spawn(keep, slot):set_name("worker " .. slot.number)
    end
  end)
  if ok then return end
  if errors.is(e, "ErrorGroup") then e = e.errors[1] end
  rethrow(e)
end

local function ended(own)
  local it = pool
  pool = nil
  for _, handle in pairs(it.signals) do handle:close() end
  local e = not own:cancelled() and own:error()
  it.error = e or nil
  local told = false
  for _, service in ipairs(it.services) do
    told = told or service._waiting > 0
    service._listener:close()
    service._closed:set()
  end
  it.changed:set()
  if not e or told then return end
  -- Nobody waits for the server who could be told: the program ends all the same.
  report.report { message = "the workers have ended", error = e, task = own,
    traceback = own:traceback() }
  if main.task then main.task:cancel(e.message) end
end

local function start_pool(size)
  pool = {
    size = size, slots = {}, services = {}, changed = async.Event(), stopping = async.Event(),
    grace = GRACE, signals = {}, error = nil,
  }
  for i = 1, size do pool.slots[i] = { number = i, failures = 0, short = 0, child = nil } end
  for name, number in pairs { SIGTERM = SIGTERM, SIGINT = 2, SIGHUP = 1 } do
    pool.signals[name] = signal._observe(name, pass_on(number))
  end
  pool.task = async.spawn(run)
  pool.task:set_name "HTTP workers"
  pool.task:add_done_callback(ended)
end

-- ---- the server ---------------------------------------------------------------------------------

local Server = { __name = "Server" }
Server.__index = Server

Server.__tostring = function(self) return "Server: " .. self._name end

local function is_done(self, slot)
  return not slot.child or slot.closed[self._at] or not slot.asked[self._at]
end

-- Waits until all workers have closed their part; false when the time is over.
local function wait_for_parts(_, self, it)
  for _, slot in ipairs(it.slots) do
    while not is_done(self, slot) and not self._closed:is_set() do it.changed:wait() end
  end
end

local function end_gently(slot)
  if not slot.child or ends_within(slot, GENTLE) or not slot.child then return end
  if not slot.signalled then send_signal(slot, SIGTERM) end
  if ends_within(slot, PATIENCE) or not slot.child then return end
  send_signal(slot, SIGKILL)
end

local function close(self, grace)
  local it = self._pool
  self._closing = true
  self._listener:close()
  for _, slot in ipairs(it.slots) do
    if slot.child then slot.channel:send(format("close %d %g", self._at, grace)) end
  end
  local is_last = true
  for _, service in ipairs(it.services) do is_last = is_last and service._closing end
  if is_last then it.stopping:set() end
  async.move_on_after(grace + GENTLE, wait_for_parts, self, it)
  if is_last then
    async.map(it.slots, end_gently)
    self._closed:wait()
  else
    self._closed:set()
  end
end

--- Closes the server in all workers: no further connections, requests in progress are finished, and
-- after `grace` seconds cancelled. After the last server of the program the workers are ended.
---@async
---@param grace? number  seconds; 10 by default
function Server:close(grace)
  grace = grace == nil and GRACE or check.seconds(grace, 1, "close")
  grace = min(grace, 1e9)
  if self._closed:is_set() then return end
  local ok, e = xpcall(close, keep_trace, self, grace)
  if ok then return end
  -- Whoever called this is cancelled, and has no time.
  local it = self._pool
  it.grace = 0
  it.task:cancel "the server is closed"
  shielded(self._closed.wait, self._closed)
  rethrow(e)
end

--- Waits until the server is closed. To cancel this ends the wait alone.
---@async
-- Errors: WorkerError if a worker's script fails again and again at its start.
function Server:wait()
  self._waiting = self._waiting + 1
  local ok, e = xpcall(self._closed.wait, keep_trace, self._closed)
  self._waiting = self._waiting - 1
  if not ok then rethrow(e) end
  if self._pool.error then rethrow(self._pool.error) end
end

report.describe(Server.wait, function(self) return tostring(self) .. " to be closed" end)

-- The workers' way to share a port would let another program that does the same have a part of the
-- connections, unnoticed. So it must be free, unless the script wants just that.
local function bind(ip, port, is_v6_only, may_be_shared)
  if port ~= 0 and not may_be_shared then tcp.listen(ip, port, 0, is_v6_only, false):close() end
  return tcp.listen(ip, port, 0, is_v6_only, true)
end

-- Takes the port, without connections: those are the workers'. A Unix socket cannot be listened on
-- twice, so they are given this one.
local function take_place(settings)
  if settings.path then return net.listen { path = settings.path } end
  local host, port = settings.host, settings.port
  if host == "*" then
    local function open(ip) return bind(ip, port, false, settings.reuse_port) end
    return make_listener((resolve.any(open)))
  end
  return make_listener(bind(resolve.address(host), port, true, settings.reuse_port))
end

local function all_ready(self)
  for _, slot in ipairs(self._pool.slots) do
    if not slot.ready or not slot.ready[self._at] then return false end
  end
  return true
end

local function wait_for_workers(self)
  while not self._closed:is_set() and not all_ready(self) do self._pool.changed:wait() end
end

report.describe(wait_for_workers, function(self) return "the workers of " .. tostring(self) end)

local function is_again_possible(fn)
  if not program.executable then
    check.bad("workers", fn, "there is no program to start them with: the host has set no "
      .. "Options::executable")
  elseif program.script == "-" then
    check.bad("workers", fn, "the script was read from standard input, and cannot be run again")
  elseif not program.script then
    local has_code = false
    for i = 2, #program.command do has_code = has_code or program.command[i]:find "^%-%-?e" end
    if not has_code then check.bad("workers", fn, "there is no script that they could run") end
  end
end

--- Starts a server in processes of its own; when this returns, all of them listen.
---@async
---@param settings table  `workers`: how many
---@param fn string  the name of the public function
---@return Server
-- Errors: OSError; WorkerError as `wait`.
return function(settings, fn)
  is_again_possible(fn)
  local size = settings.workers
  if pool and pool.size ~= size then
    check.bad("workers", fn, format("this program's servers have %d already", pool.size))
  end
  local err = core.check_wait()
  if err ~= nil then raise(err) end
  local listener = take_place(settings)
  if not pool then start_pool(size) end
  local where = listener:address()
  local self = setmetatable({
    host = where.host, port = where.port, path = where.path, _name = tostring(where), _pool = pool,
    _listener = listener, _shared = settings.path and listener._binding or nil,
    _at = #pool.services + 1, _closed = async.Event(), _closing = false, _waiting = 1,
  }, Server)
  pool.services[self._at] = self
  for _, slot in ipairs(pool.slots) do
    if slot.child then place(slot, self) end
  end
  local ok, e = xpcall(wait_for_workers, keep_trace, self)
  self._waiting = self._waiting - 1
  if not ok then
    self._pool.grace = 0
    self._pool.task:cancel()
    shielded(self._closed.wait, self._closed)
    rethrow(e)
  end
  if self._pool.error then rethrow(self._pool.error) end
  return self
end
