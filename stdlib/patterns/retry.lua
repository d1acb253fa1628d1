--- Trying again what failed, after a pause that grows.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local check = require "rille.core.check"
local support = require "rille.patterns.support"
local async = require "rille.async"

local protected, rethrow = task.protected, task.rethrow
local select, type, tostring, unpack, min = select, type, tostring, unpack, math.min

local OPTIONS = {
  attempts = true, base_delay = true, max_delay = true, factor = true, jitter = true, on = true,
  on_retry = true,
}

-- math.random gives every process the same numbers, and those are its script's. Programs that
-- failed together shall not come back together, so this generator starts somewhere else each time.
local MODULUS, MULTIPLIER = 2147483647, 48271
local seed = (os.time() * 1000003 + core.time() * 1e9) % (MODULUS - 1) + 1
seed = seed - seed % 1

local function random()
  seed = seed * MULTIPLIER % MODULUS
  return (seed - 1) / (MODULUS - 1)
end

local function pack(ok, ...) return ok, select("#", ...), { ... } end

-- The share of a delay that is left to chance, or a function that settles the delay.
local function jitter_of(value)
  if value == nil or value == false then return 0 end
  if value == true then return 1 end
  if check.is_callable(value) then return value end
  if type(value) ~= "number" then
    return nil, "boolean, number or function expected, got " .. type(value)
  end
  if value ~= value or value < 0 or value > 1 then
    return nil, ("a share from 0 to 1 expected, got %g"):format(value)
  end
  return value
end

local function vary(delay, jitter, attempt)
  if jitter == 0 then return delay end
  if type(jitter) == "number" then return delay * (1 - jitter * random()) end
  local pause = jitter(delay, attempt)
  if type(pause) ~= "number" or pause ~= pause or pause < 0 then
    check.bad("jitter", "retry", "the function gave " .. tostring(pause) .. ", not a time")
  end
  return pause
end

---@class rille.patterns.RetryOptions
---@field attempts? integer  3 by default; math.huge: no limit
---@field base_delay? number  seconds before the second try; 1 by default
---@field max_delay? number  seconds; 60 by default
---@field factor? number  by which each pause is longer than the last; 2 by default
---@field jitter? boolean|number|function  what share of a pause is left to chance; 0 by default
---@field on? string|string[]|fun(err: any): boolean  which errors are tried again; all by default
---@field on_retry? fun(err: any, attempt: integer, delay: number)  called before each pause

--- Calls `fn(...)` until it succeeds, `attempts` times at most, with a pause before each further
-- try: `base_delay` seconds, then `factor` times as long each time. A cancellation is never tried
-- again. `jitter` may be a function `(delay, attempt)` that gives the pause; `attempt` is the
-- number of the try that failed.
---@async
---@param fn function
---@param options? rille.patterns.RetryOptions
---@param ... any  for `fn`
---@return ...  what `fn` returned
-- Errors: that of the last try, as it was; Cancelled; whatever `on`, `jitter` and `on_retry` raise.
-- Source: tenacity; AWS, "Exponential Backoff And Jitter".
return function(fn, options, ...)
  if type(fn) ~= "function" then check.callable(fn, 1, "retry") end
  local o = check.options(options, OPTIONS, 2, "retry")
  local attempts = support.count("attempts", o.attempts, 3, "retry")
  local max_delay = support.seconds("max_delay", o.max_delay, 60, "retry")
  local delay = min(support.seconds("base_delay", o.base_delay, 1, "retry"), max_delay)
  local factor = support.at_least(1, "factor", o.factor, 2, "retry")
  local jitter, wrong = jitter_of(o.jitter)
  if not jitter then check.bad("jitter", "retry", wrong) end
  local worth_it = support.errors("on", o.on, "retry")
  local on_retry = support.callable("on_retry", o.on_retry, false, "retry")

  local attempt = 1
  while true do
    local ok, n, results = pack(protected(fn, ...))
    if ok then return unpack(results, 1, n) end
    local e = results[1]
    if attempt >= attempts or support.passes(e) or worth_it and not worth_it(e) then rethrow(e) end
    local pause = vary(delay, jitter, attempt)
    if on_retry then on_retry(e, attempt, pause) end
    async.sleep(pause)
    -- Nothing times an infinite factor would be no number.
    if delay > 0 then delay = min(delay * factor, max_delay) end
    attempt = attempt + 1
  end
end
