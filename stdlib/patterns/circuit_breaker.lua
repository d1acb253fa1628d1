--- Spares a service that fails, and those who would wait for it: after failures in a row, calls
-- fail at once for a while, then single calls probe whether it is back.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local support = require "rille.patterns.support"

local time, protected, rethrow = core.time, task.protected, task.rethrow
local setmetatable, type = setmetatable, type

---@class CircuitBreaker
local CircuitBreaker = {}
CircuitBreaker.__index = CircuitBreaker
CircuitBreaker.__name = "CircuitBreaker"

-- Each period has a number: a call that began in an earlier one says nothing about this one.
local function begin(self, state)
  self._state = state
  self._period = self._period + 1
  self._failures, self._successes, self._probing = 0, 0, false
end

local function refuse(self, why, retry_after)
  errors._raise("CircuitOpenError", why, { retry_after = retry_after, cause = self._last })
end

local function admit(self)
  local state = self._state
  if state == "closed" then return end
  if state == "open" then
    local left = self._retry_at - time()
    if left > 0 then
      refuse(self, ("the circuit is open for another %.3g s, the last error was: %s"):format(left,
        support.text_of(self._last)), left)
    end
    begin(self, "half_open")
  elseif self._probing then
    refuse(self, "the circuit is half open, and another call probes it")
  end
  self._probing = true
end

local function note_success(self)
  if self._state == "closed" then
    self._failures = 0
    return
  end
  self._successes = self._successes + 1
  if self._successes >= self._success_threshold then
    begin(self, "closed")
    self._last = nil
  end
end

local function note_failure(self, e)
  self._failures = self._failures + 1
  if self._state == "closed" and self._failures < self._failure_threshold then return end
  begin(self, "open")
  self._last = e
  self._retry_at = time() + self._recovery_timeout
end

-- `on` is the script's, and may wait: meanwhile another period may have begun.
local function judge(self, period, e)
  local failed = not self._counts or self._counts(e)
  if self._period ~= period then return end
  self._probing = false
  if failed then
    note_failure(self, e)
  else
    note_success(self)
  end
end

local function settle(self, period, ok, ...)
  if ok then
    if self._period == period then
      self._probing = false
      note_success(self)
    end
    return ...
  end
  local e = (...)
  if self._period == period then
    if support.passes(e) then
      self._probing = false
    else
      local judged, worse = protected(judge, self, period, e)
      if not judged then
        if self._period == period then self._probing = false end
        support.replace(worse, e)
      end
    end
  end
  rethrow(e)
end

--- Calls `fn(...)`, unless the circuit is open.
---@async
---@param fn function
---@param ... any  for `fn`
---@return ...  its results
-- Errors: CircuitOpenError without calling it, with `cause`, the error that opened the circuit, and
-- `retry_after`, seconds until a call may probe (nil while another call does so); else its own. A
-- call that is cancelled counts neither as success nor as failure, so a timeout belongs inside
-- `fn`.
function CircuitBreaker:call(fn, ...)
  if type(fn) ~= "function" then check.callable(fn, 1, "call") end
  admit(self)
  return settle(self, self._period, protected(fn, ...))
end

--- What a call would meet: "closed" (it is let through), "open" (it is refused) or "half_open" (it
-- probes, unless another does).
---@return string
function CircuitBreaker:state()
  if self._state == "open" and time() >= self._retry_at then return "half_open" end
  return self._state
end

--- Closes the circuit, whatever happened before.
function CircuitBreaker:reset()
  begin(self, "closed")
  self._last = nil
end

local OPTIONS = {
  failure_threshold = true, recovery_timeout = true, success_threshold = true, on = true,
}

---@class rille.patterns.CircuitBreakerOptions
---@field failure_threshold? integer  failures in a row that open it; 5 by default
---@field recovery_timeout? number  seconds until calls probe, one at a time; 60 by default
---@field success_threshold? integer  probes in a row that close it again; 2 by default
---@field on? string|string[]|fun(err: any): boolean  which errors are failures; all by default

--- Makes a closed breaker.
---@param options? rille.patterns.CircuitBreakerOptions
---@return CircuitBreaker
-- Source: M. Nygard, "Release It!"; pybreaker; sony/gobreaker.
return function(options)
  local o = check.options(options, OPTIONS, 1, "CircuitBreaker")
  return setmetatable({
    _failure_threshold = support.count("failure_threshold", o.failure_threshold, 5,
      "CircuitBreaker"),
    _recovery_timeout = support.seconds("recovery_timeout", o.recovery_timeout, 60,
      "CircuitBreaker"),
    _success_threshold = support.count("success_threshold", o.success_threshold, 2,
      "CircuitBreaker"),
    _counts = support.errors("on", o.on, "CircuitBreaker"),
    _state = "closed", _period = 0, _failures = 0, _successes = 0, _probing = false, _retry_at = 0,
    _last = nil,
  }, CircuitBreaker)
end
