--- rille.patterns: what programs that talk to others need sooner or later. Retries, breakers,
-- limits, pools, batches, caches, and an orderly end. Each is loaded when it is first used.
local HOME = {
  retry = "retry", timed = "timed", CircuitBreaker = "circuit_breaker",
  RateLimiter = "rate_limiter", Pool = "pool", Batcher = "batcher", EventBus = "event_bus",
  Cache = "cache", transaction = "transaction", GracefulShutdown = "graceful_shutdown",
}

---@class rille.patterns
local patterns = {}

-- Never runs; it tells editors, which read this file too, where the rest is.
local is_editor = false
if is_editor then
  patterns.retry, patterns.timed = require "rille.patterns.retry", require "rille.patterns.timed"
  patterns.CircuitBreaker = require "rille.patterns.circuit_breaker"
  patterns.RateLimiter = require "rille.patterns.rate_limiter"
  patterns.Pool, patterns.Batcher = require "rille.patterns.pool", require "rille.patterns.batcher"
  patterns.EventBus, patterns.Cache = require "rille.patterns.event_bus",
    require "rille.patterns.cache"
  patterns.transaction = require "rille.patterns.transaction"
  patterns.GracefulShutdown = require "rille.patterns.graceful_shutdown"
end

return setmetatable(patterns, {
  __index = function(self, name)
    local home = HOME[name]
    if not home then return nil end
    local pattern = require("rille.patterns." .. home)
    self[name] = pattern
    return pattern
  end,
})
