--- Bounds how often something happens: a bucket of tokens that fills at a steady rate.
local core = require "rille.core.scheduler"
local check = require "rille.core.check"
local report = require "rille.core.report"
local support = require "rille.patterns.support"
local async = require "rille.async"

local time = core.time
local setmetatable, min, max = setmetatable, math.min, math.max

---@class RateLimiter
local RateLimiter = {}
RateLimiter.__index = RateLimiter
RateLimiter.__name = "RateLimiter"

local function refill(self)
  local now = time()
  self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
  self._filled_at = now
end

-- Takes tokens only when they are there, so that a cancelled waiter has taken none. After the sleep
-- they are, and the next refill counts them.
local function wait_for_tokens(self, n)
  refill(self)
  if self._tokens < n then
    async.sleep((n - self._tokens) / self._rate)
  end
  self._tokens = self._tokens - n
end

report.describe(wait_for_tokens, function(self)
  return ("tokens of a rate limiter of %g/s"):format(self._rate)
end)

-- True if they were there, and nobody waits who came before.
local function take(self, n)
  if self._queue:locked() then return false end
  refill(self)
  if self._tokens < n then return false end
  self._tokens = self._tokens - n
  return true
end

--- Takes tokens, waiting until there are enough. Served first come, first served: who wants few
-- waits for those who wanted many before.
---@async
---@param n? integer  how many; 1 by default
-- Errors: bad argument if the bucket cannot hold so many; Cancelled, and then none are taken.
function RateLimiter:acquire(n)
  n = support.count(1, n, 1, "acquire")
  if n > self._burst then
    check.bad(1, "acquire", ("the bucket holds %g tokens at most, got %g"):format(self._burst, n))
  end
  -- Who holds the lock waits for tokens, the others wait for their turn.
  if not take(self, n) then self._queue:with(wait_for_tokens, self, n) end
end

--- Takes tokens if there are enough and nobody waits; never waits.
---@param n? integer  1 by default
---@return boolean  whether it did
function RateLimiter:try_acquire(n)
  n = support.count(1, n, 1, "try_acquire")
  return take(self, n)
end

--- How many tokens there are now, with fractions.
---@return number
function RateLimiter:value()
  refill(self)
  return max(0, self._tokens)
end

--- Calls `fn(...)` once there is a token for it.
---@async
---@param fn function
---@param ... any  for `fn`
---@return ...  its results
function RateLimiter:with(fn, ...)
  check.callable(fn, 1, "with")
  self:acquire()
  return fn(...)
end

-- For async.with.
function RateLimiter:enter()
  self:acquire()
  return self
end
function RateLimiter:exit() end

local OPTIONS = { rate = true, burst = true }

---@class rille.patterns.RateLimiterOptions
---@field rate number  tokens a second, more than 0
---@field burst? number  how many the bucket holds, which may be taken at once; 1 by default

--- Makes a limiter whose bucket is full.
---@param options rille.patterns.RateLimiterOptions
---@return RateLimiter
-- Source: the token bucket of golang.org/x/time/rate and aiolimiter.
return function(options)
  local o = check.options(options, OPTIONS, 1, "RateLimiter")
  local rate = support.at_least(0, "rate", o.rate, nil, "RateLimiter")
  if rate == nil then check.bad("rate", "RateLimiter", "number expected, got nil") end
  if rate == 0 or rate == math.huge then
    check.bad("rate", "RateLimiter", ("a number of tokens a second expected, got %g"):format(rate))
  end
  local burst = support.count("burst", o.burst, 1, "RateLimiter")
  if burst == math.huge then
    check.bad("burst", "RateLimiter", "a number of tokens expected, got inf")
  end
  return setmetatable({
    _rate = rate, _burst = burst, _tokens = burst, _filled_at = time(), _queue = async.Lock(),
  }, RateLimiter)
end
