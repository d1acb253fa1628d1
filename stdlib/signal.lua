--- rille.signal: the signals that the process gets. libuv tells a callback outside of every task;
-- what the script wants done runs in a task, or is a task that waits and goes on.
local binding = require "rille.core.signal"
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local check = require "rille.core.check"
local report = require "rille.core.report"
local List = require "rille.core.list"

local raise, outside = task.raise, task.outside
local type, pairs, select, setmetatable = type, pairs, select, setmetatable

local M = {}

-- Who is told of a signal, by its number: { name =, list =, watch =, count = }.
local channels = {}

-- What stands in the lists for a handle. It is called outside of every turn: scripts must not get
-- at it.
local entries = setmetatable({}, { __mode = "k" })

local function signal_argument(value, position, name)
  if type(value) ~= "string" and type(value) ~= "number" then
    check.bad(position, name, ("name of a signal expected, got %s"):format(
      value == nil and "nil" or type(value)), 1)
  end
  local number, text = binding.number(value)
  if not number then
    check.bad(position, name, ("there is no signal '%s'"):format(tostring(value)), 1)
  end
  if text == "SIGKILL" or text == "SIGSTOP" then
    check.bad(position, name, text .. " cannot be caught", 1)
  end
  return number, text
end

-- Called at each signal. The list may change meanwhile only by what is woken or spawned, later.
local function tell(number)
  local channel = channels[number]
  if not channel then return end
  local node = channel.list.head
  while node do
    local following = node.next
    node.entry.told(node.entry, channel.name)
    node = following
  end
end

-- Adds `entry`, whose `told(entry, name)` is called at each signal. Returns an error, or nil and
-- what undoes it.
local function subscribe(number, name, entry)
  local channel = channels[number]
  if not channel then
    local err, watch = binding.watch(number, tell)
    if err ~= nil then return err end
    channel = { name = name, list = List.new(), watch = watch }
    channels[number] = channel
  end
  local node = { entry = entry }
  channel.list:append(node)
  return nil, node
end

local function subscribe_handle(self, number, name, entry)
  local err
  err, entry.node = subscribe(number, name, entry)
  if err ~= nil then raise(err) end
  entry.number = number
  entries[self] = entry
  return self
end

local function unsubscribe(number, node)
  local channel = channels[number]
  channel.list:remove(node)
  if not channel.list.head then
    channels[number] = nil
    binding.unwatch(channel.watch)
  end
end

-- ---- on -----------------------------------------------------------------------------------------

---@class SignalHandle
local Handle = {}
Handle.__index = Handle
Handle.__name = "SignalHandle"

-- What runs outside of every task is in nobody's environment; the task belongs to who asked for it.
local function spawn_handler(entry, name)
  local former = outside[5]
  outside[5] = entry.env
  task.spawn(entry.fn, name)
  outside[5] = former
end

--- Ends the handling. After the last handle for a signal its default is back. A second time does
-- nothing.
function Handle:close()
  local entry = entries[self]
  if entry then
    entries[self] = nil
    unsubscribe(entry.number, entry.node)
  end
end

--- Runs `fn(name)` at each delivery of a signal, in a task of its own. It counts as something that
-- can wake a waiting task, but does not delay the program's end.
---@param name string|integer  "SIGHUP", "SIGTERM" ..., or a number
---@param fn fun(name: string)
---@return SignalHandle  with `close()`
-- Source: asyncio's loop.add_signal_handler.
function M.on(name, fn)
  local number, text = signal_argument(name, 1, "on")
  check.callable(fn, 2, "on")
  return subscribe_handle(setmetatable({}, Handle), number, text,
    { fn = fn, env = task.current()[5], told = spawn_handler })
end

-- Calls `fn(name, is_alone)` at each delivery, outside of tasks; `is_alone`: the script itself has
-- asked for nothing. For the runtime's own modules. The signal's default is gone meanwhile.
function M._observe(name, fn)
  local number, text = signal_argument(name, 1, "on")
  local entry = {}
  function entry.told()
    local list = channels[number].list
    fn(text, not list.head.next)
  end
  return subscribe_handle(setmetatable({}, Handle), number, text, entry)
end

-- ---- wait ---------------------------------------------------------------------------------------

local function wake_waiter(self, name) core.wake(self[1], name) end

-- Waits for one of the signals of a map from numbers to names.
local function wait_for_any(names)
  local err = core.check_wait()
  if err ~= nil then raise(err) end
  local waiter, nodes = { 0, told = wake_waiter }, {}
  local name
  for number, text in pairs(names) do
    err, nodes[number] = subscribe(number, text, waiter)
    if err ~= nil then break end
  end
  if err == nil then
    err, name = core.park(waiter, 1)
  end
  for number, node in pairs(nodes) do unsubscribe(number, node) end
  if err ~= nil then raise(err) end
  return name
end

--- Waits for the first of these signals. Meanwhile they do nothing else.
---@async
---@param ... string|integer  at least one
---@return string  its name
-- Errors: Cancelled.
-- Source: POSIX sigwait.
function M.wait(...)
  local count = select("#", ...)
  if count == 0 then check.bad(1, "wait", "name of a signal expected, got no value") end
  local names = {}
  for i = 1, count do
    local number, text = signal_argument(select(i, ...), i, "wait")
    names[number] = text
  end
  local name = wait_for_any(names)
  return name
end

report.describe(wait_for_any, function(names)
  local texts = {}
  for _, text in pairs(names) do texts[#texts + 1] = text end
  table.sort(texts)
  return "the signal " .. table.concat(texts, " or ")
end)

return M
