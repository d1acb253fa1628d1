--- The connections of a session: those that rest until they are needed again, and how many there
-- may be. A permit is a request in progress, which with HTTP/1 is a connection in use; who waited
-- first gets the next one.
local Semaphore = require("rille.async").Semaphore
local task = require "rille.core.task"
local errors = require "rille.errors"
local xpcall = require("rille.core.protect").xpcall

local keep_trace, rethrow = task.keep_trace, task.rethrow
local setmetatable, pairs = setmetatable, pairs

local Pool = {}
Pool.__index = Pool

-- One destination: what can serve the same requests.
---@class Destination
---@package
---@field key string
---@field resting table[]  the one used last is the last
---@field shared table|false  a connection of HTTP/2
---@field dialing table[]|false  who waits until it is known what the first connection speaks
---@field speaks_http1 boolean  and nothing else

--- The place of a destination in the pool.
function Pool:destination(key)
  local d = self._destinations[key]
  if not d then
    d = {
      key = key, resting = {}, users = 0, shared = false, dialing = false, speaks_http1 = false,
      permits = self._per_host and Semaphore(self._per_host) or nil,
    }
    self._destinations[key] = d
  end
  return d
end

local function forget_closed(self, list)
  for i = #list, 1, -1 do
    if not list[i]:is_open() then
      table.remove(list, i)
      self._resting = self._resting - 1
    end
  end
end

-- A connection of HTTP/2 that nobody uses.
local function idle_shared(d)
  local shared = d.shared
  if shared and not shared:is_usable() then
    d.shared = false
    return nil
  end
  return shared and shared:is_idle() and shared or nil
end

local function count_shared(self)
  local n = 0
  for _, d in pairs(self._destinations) do
    if idle_shared(d) then n = n + 1 end
  end
  return n
end

-- Makes room for a further connection by closing one that rests.
local function make_room(self)
  local most = self._limit - count_shared(self)
  if self._used + self._resting <= most then return end
  for key, d in pairs(self._destinations) do
    forget_closed(self, d.resting)
    if #d.resting == 0 and d.users == 0 and not d.shared then self._destinations[key] = nil end
  end
  for _, d in pairs(self._destinations) do
    if self._used + self._resting <= most then return end
    local shared = d.users == 0 and idle_shared(d)
    if shared then
      d.shared = false
      shared:close()
      most = most + 1
    elseif d.resting[1] then
      local oldest = table.remove(d.resting, 1)
      oldest:close()
      self._resting = self._resting - 1
    end
  end
end

-- A permit is free again.
local function free(self, d)
  self._used = self._used - 1
  d.users = d.users - 1
  if self._permits then self._permits:release() end
  if d.permits then d.permits:release() end
end

local function take(permits)
  if not permits or permits:try_acquire() then return true end
  return xpcall(permits.acquire, keep_trace, permits)
end

--- Waits for a permit, and gives a connection that rests, if there is one.
---@async
---@param d Destination
---@param fresh? boolean  none that has rested
---@return table? connection
function Pool:acquire(d, fresh)
  d.users = d.users + 1
  local ok, e = take(d.permits)
  if ok then
    ok, e = take(self._permits)
    if not ok and d.permits then d.permits:release() end
  end
  if not ok then
    d.users = d.users - 1
    rethrow(e)
  end
  self._used = self._used + 1
  if self.closed then
    self:release(d)
    self:refuse()
  end
  if not fresh then
    local list = d.resting
    for i = #list, 1, -1 do
      local connection = list[i]
      list[i] = nil
      self._resting = self._resting - 1
      if connection:is_open() then return connection end
    end
  end
  make_room(self)
end

--- A connection that rests, with a permit, if neither has to be waited for.
---@param d Destination
---@return table? connection  it may have been closed meanwhile
function Pool:try_acquire(d)
  local list = d.resting
  local n = #list
  if n == 0 then return nil end
  local all, own = self._permits, d.permits
  if all and not all:try_acquire() then return nil end
  if own and not own:try_acquire() then
    if all then all:release() end
    return nil
  end
  local connection = list[n]
  list[n] = nil
  d.users = d.users + 1
  self._used, self._resting = self._used + 1, self._resting - 1
  return connection
end

--- Gives back what try_acquire gave: the connection rests already, or is of no use any more.
function Pool:give_back(d, connection, rests)
  if rests and not self.closed then
    d.resting[#d.resting + 1] = connection
    self._resting = self._resting + 1
  else
    connection:close()
  end
  free(self, d)
end

--- The place of a request among all of them, by when it has asked.
function Pool:ticket()
  self._tickets = self._tickets + 1
  return self._tickets
end

--- Raises what a closed pool has to say.
function Pool.refuse() errors._raise("InvalidStateError", "the session is closed") end

--- A connection was made for a permit.
function Pool:made(connection)
  self._made = self._made + 1
  self._open[self._made] = connection
end

--- Gives a permit back, and the connection, if it can be used again.
function Pool:release(d, connection)
  if not connection then return free(self, d) end
  local rests = connection:is_reusable() and not self.closed
  if rests then connection:rest(self.idle_timeout) end
  self:give_back(d, connection, rests)
end

-- Whoever waits for a permit gets one, and is refused.
local function let_in(self)
  local users = 0
  for _, d in pairs(self._destinations) do
    users = users + d.users
    for _ = 1, d.permits and d.users or 0 do d.permits:release() end
  end
  for _ = 1, self._permits and users or 0 do self._permits:release() end
end

--- Closes every connection; requests in progress fail.
function Pool:close()
  if self.closed then return end
  self.closed = true
  for scope in pairs(self.dialing) do
    if not scope:expired() then scope:reschedule(0) end
  end
  let_in(self)
  for _, d in pairs(self._destinations) do d.resting = {} end
  self._resting = 0
  for _, connection in pairs(self._open) do connection:close() end
end

--- How many connections are in use, and how many rest.
function Pool:counts()
  for _, d in pairs(self._destinations) do forget_closed(self, d.resting) end
  return self._used, self._resting + count_shared(self)
end

--- Makes a pool; limits of nil are none.
return function(limit, per_host, idle_timeout)
  return setmetatable({
    _limit = limit or math.huge, _permits = limit and Semaphore(limit) or nil,
    _per_host = per_host, idle_timeout = idle_timeout, _destinations = {},
    -- Those that were made and may be open. As values: a weak table gives up a value before its
    -- finalizer runs, but a key only in the next cycle, and then it must not be touched any more.
    _open = setmetatable({}, { __mode = "v" }), _made = 0,
    _used = 0, _resting = 0, closed = false, dialing = {}, _tickets = 0,
  }, Pool)
end
