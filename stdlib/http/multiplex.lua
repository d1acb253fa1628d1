--- Connections of HTTP/2 in a session's pool: each serves all requests to its destination.
local async = require "rille.async"
local task = require "rille.core.task"
local connect = require "rille.http.connect"
local xpcall = require("rille.core.protect").xpcall

local keep_trace, rethrow = task.keep_trace, task.rethrow
local ipairs = ipairs

local M = {}

-- The library is loaded by the first who asks.
local binding

--- Whether HTTP/2 can be spoken here; else why not.
---@return boolean, string?
function M.available()
  if not binding then
    local found, module = pcall(require, "rille.core.http2_client")
    if not found then return false, "Rille was built without it" end
    binding = module
  end
  return binding.available()
end

-- Waits until it is known what the connection speaks that another request opens.
local function wait_for_dialing(destination, state)
  local waiters, event = destination.dialing, async.Event()
  local at = #waiters + 1
  while at > 1 and waiters[at - 1].ticket > state.ticket do at = at - 1 end
  table.insert(waiters, at, { ticket = state.ticket, event = event })
  event:wait()
end

-- Opens a connection, and tells the others whether it can be shared. Those that were refused
-- elsewhere and have asked before go first.
local function dial(pool, destination, state)
  local waiters = {}
  destination.dialing = waiters
  local ok, connection, is_shared = xpcall(connect.open, keep_trace, state.url, state.proxy,
    state.context, state.proxy_context, state.http2, pool.idle_timeout)
  destination.dialing = false
  if ok then
    destination.speaks_http1 = not is_shared
    if is_shared and pool.closed then
      connection:close()
    elseif is_shared then
      destination.shared = connection
      pool:made(connection)
    end
  end
  for _, waiter in ipairs(waiters) do waiter.event:set() end
  if not ok then rethrow(connection) end
  if is_shared and waiters[1] and waiters[1].ticket < state.ticket then async.sleep(0) end
  return connection, is_shared
end

--- A stream of the destination's connection, which is opened if there is none; or a connection of
-- HTTP/1, where the server speaks no more than that. While the first one is being opened, others
-- wait for what it turns out to be. Whoever has asked first comes first: `state.ticket` tells.
---@async
---@return table connection, boolean reused
function M.open(pool, destination, state)
  local reused = true
  while not pool.closed and not destination.speaks_http1 do
    local shared = destination.shared
    if shared and shared:is_usable() then
      local stream = shared:open_stream(state.ticket)
      if stream then return stream, reused end
    elseif destination.dialing then
      wait_for_dialing(destination, state)
    else
      destination.shared, reused = false, false
      local connection, is_shared = dial(pool, destination, state)
      if not is_shared then return connection, false end
    end
  end
  if pool.closed then pool:refuse() end
  return connect.open(state.url, state.proxy, state.context, state.proxy_context, state.http2,
    pool.idle_timeout), false
end

--- A connection of HTTP/2 on a stream that is connected.
---@param stream Stream
---@param scheme string
---@param idle_timeout number  seconds, 0: none
function M.client(stream, scheme, idle_timeout)
  local ok, why = M.available()
  if not ok then error(why, 0) end
  return binding.client(stream, scheme, idle_timeout)
end

return M
