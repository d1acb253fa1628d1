--- rille.patterns: what programs that talk to others need sooner or later. Retries, breakers,
-- limits, pools, batches, caches, and an orderly end. Each is loaded when it is first used.
local HOME = {
  retry = "retry", timed = "timed", CircuitBreaker = "circuit_breaker",
  RateLimiter = "rate_limiter", Pool = "pool", Batcher = "batcher", EventBus = "event_bus",
  Cache = "cache", transaction = "transaction", GracefulShutdown = "graceful_shutdown",
}

return setmetatable({}, {
  __index = function(self, name)
    local home = HOME[name]
    if not home then return nil end
    local pattern = require("rille.patterns." .. home)
    self[name] = pattern
    return pattern
  end,
})
