--- What a response that is streamed holds of its session: a connection, and a place among the
-- requests. They are given back at the end of the body, when the response is closed or its task
-- ends, and when nobody has the response any more.
local task = require "rille.core.task"
local debug_state = require "rille.core.debug_state"
local cleanup = require "rille.async.cleanup"
local exchange = require "rille.http.exchange"

local setmetatable, getmetatable, newproxy = setmetatable, getmetatable, newproxy

---@class Held
---@package
---@field connection table
---@field deadline number?  for all of the body
---@field total number?
---@field read number?  the longest pause, in seconds
---@field state table  of the request
---@field is_over boolean
local Held = {}
Held.__index = Held

--- Gives everything back. Another request may follow on the connection if all of the body has come.
function Held:close()
  if self.is_over then return end
  self.is_over = true
  cleanup.disown(self)
  exchange.end_upload(self.state)
  local connection = self.connection
  if not connection:is_reusable() then connection:close() end
  self._pool:release(self._destination, connection)
end

local function lose(held)
  if held.is_over then return end
  if held.made then
    local state = held.state
    task.report {
      message = ("unclosed response: %s %s"):format(state.method, state.url.url), made = held.made,
    }
  end
  held:close()
end

--- Keeps a connection for the body of a response.
---@param state table  of the request
---@param response ClientResponse
return function(state, response, connection)
  local held = setmetatable({
    connection = connection, deadline = state.deadline, total = state.timeouts.total,
    read = state.timeouts.read, state = state, is_over = false,
    _pool = state.session._pool, _destination = state.destination,
    made = debug_state.on and task.place(2) or nil,
  }, Held)
  -- The task has this, and not the response, so that the collector can take that.
  cleanup.own(held)
  local guard = newproxy(true)
  getmetatable(guard).__gc = function()
    -- Whatever runs at this moment is not to be disturbed. There may be no memory for it.
    if not held.is_over then task.protected(task.schedule, nil, lose, held) end
  end
  response._exchange, response._guard = held, guard
  response._max_body = state.max_body
end
