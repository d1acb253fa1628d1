local async, test = require "rille.async", require "support.test"
local cancel_everywhere = require "support.cancel_everywhere"
local RateLimiter = require("rille.patterns").RateLimiter

-- So slow that no token comes back while a test runs.
local SLOW = 1e-6

local function floor(limiter) return math.floor(limiter:value() + 0.001) end

test("a full bucket gives its tokens without giving the turn away", function()
  local limiter, log = RateLimiter { rate = SLOW, burst = 5 }, test.log()
  local other = async.spawn(log, "other")
  limiter:acquire()
  limiter:acquire(4)
  log "taken"
  other:await()
  test.eq(log, { "taken", "other" })
  test.eq(floor(limiter), 0)
end)

test("the bucket holds one token unless told otherwise", function()
  local limiter = RateLimiter { rate = SLOW }
  test.eq({ limiter:try_acquire(), limiter:try_acquire() }, { true, false })
end)

test("try_acquire takes all or nothing", function()
  local limiter = RateLimiter { rate = SLOW, burst = 3 }
  test.eq({ limiter:try_acquire(2), limiter:try_acquire(2), limiter:try_acquire() },
    { true, false, true })
  test.eq(limiter:try_acquire(4), false)
end)

test("who asks for more than there are waits until they are there", function()
  local limiter = RateLimiter { rate = 1000, burst = 2 }
  local start = async.time()
  for _ = 1, 6 do limiter:acquire() end
  assert(async.time() - start >= 0.0039, async.time() - start)
end)

test("a quiet time fills the bucket, and no further", function()
  local limiter = RateLimiter { rate = 1e6, burst = 3 }
  limiter:acquire(3)
  async.sleep(0.001)
  test.eq(limiter:try_acquire(3), true)
  async.sleep(0.001)
  test.eq(limiter:value(), 3)
end)

test("waiters are served first come, first served, whatever they want", function()
  local limiter, log, tasks = RateLimiter { rate = 2000, burst = 3 }, test.log(), {}
  limiter:acquire(3)
  for i, n in ipairs { 3, 1, 2, 1 } do
    tasks[i] = async.spawn(function()
      limiter:acquire(n)
      log(i)
    end)
  end
  async.wait(tasks)
  test.eq(log, { "1", "2", "3", "4" })
end)

test("who wants few waits for those who wanted many before", function()
  local limiter = RateLimiter { rate = SLOW, burst = 3 }
  limiter:acquire(2)
  local many = async.spawn(limiter.acquire, limiter, 2)
  async.sleep(0)
  test.eq(limiter:try_acquire(), false)
  local few = async.spawn(limiter.acquire, limiter, 1)
  test.turns()
  test.eq(few:done(), false)
  many:cancel()
  few:await() -- would hang had the cancelled one kept the token
  test.eq({ many:cancelled(), floor(limiter) }, { true, 0 })
end)

test("a cancelled waiter in the middle loses nothing and keeps nobody", function()
  local limiter = RateLimiter { rate = SLOW, burst = 4 }
  limiter:acquire(2)
  local first = async.spawn(limiter.acquire, limiter, 3)
  local second = async.spawn(limiter.acquire, limiter, 3)
  local third = async.spawn(limiter.acquire, limiter, 2)
  async.sleep(0)
  second:cancel()
  async.wait { second }
  test.eq(third:done(), false)
  first:cancel()
  third:await()
  test.eq(floor(limiter), 0)
end)

test("a timeout around it takes no tokens", function()
  local limiter = RateLimiter { rate = SLOW, burst = 2 }
  limiter:acquire()
  test.raises("TimeoutError", async.wait_for, limiter.acquire, 0.001, limiter, 2)
  test.eq(floor(limiter), 1)
end)

test("with takes a token and passes arguments, results and errors on", function()
  local limiter = RateLimiter { rate = SLOW, burst = 3 }
  test.eq({ limiter:with(function(...) return ... end, 1, nil, 3) }, { 1, nil, 3 })
  test.raises("^no$", limiter.with, limiter, error, "no", 0)
  test.eq(async.with(limiter, function(l) return l == limiter end), true)
  test.eq(floor(limiter), 0)
end)

test("no tokens are lost, wherever a task is cancelled", function()
  cancel_everywhere {
    setup = function() return { limiter = RateLimiter { rate = SLOW, burst = 6 }, taken = 0 } end,
    body = function(s)
      local function take(n)
        s.limiter:acquire(n)
        s.taken = s.taken + n
      end
      take(1)
      -- There are five: the first gets them never, the others once it gives up.
      local big = async.spawn(take, 6)
      local rest = { async.spawn(take, 2), async.spawn(take, 1), async.spawn(take, 2) }
      async.sleep(0)
      async.sleep(0)
      big:cancel()
      async.wait(rest)
    end,
    check = function(s)
      test.eq(floor(s.limiter), 6 - s.taken)
      if s.taken < 6 then s.limiter:acquire(6 - s.taken) end
    end,
  }
end)

test("more than the bucket holds is an error at once", function()
  local limiter = RateLimiter { rate = 10, burst = 5 }
  test.blames_caller("bad argument #1 to 'acquire' (the bucket holds 5 tokens at most, got 6)",
    function() limiter:acquire(6) end)
  test.blames_caller("got inf", function() limiter:acquire(math.huge) end)
end)

test("a wrong argument is an error at the caller's line", function()
  local function blames(part, fn) test.blames_caller(part, fn) end
  blames("bad argument 'rate' to 'RateLimiter' (number expected, got nil)",
    function() RateLimiter {} end)
  blames("bad argument 'rate' to 'RateLimiter' (number expected, got nil)",
    function() RateLimiter() end)
  blames("'rate' to 'RateLimiter' (a number of tokens a second expected, got 0)",
    function() RateLimiter { rate = 0 } end)
  blames("'rate' to 'RateLimiter' (at least 0 expected, got -1)",
    function() RateLimiter { rate = -1 } end)
  blames("'rate' to 'RateLimiter' (number expected, got NaN)",
    function() RateLimiter { rate = 0 / 0 } end)
  blames("'rate' to 'RateLimiter' (a number of tokens a second expected, got inf)",
    function() RateLimiter { rate = math.huge } end)
  blames("'burst' to 'RateLimiter' (at least 1 expected, got 0)",
    function() RateLimiter { rate = 1, burst = 0 } end)
  blames("'burst' to 'RateLimiter' (a number of tokens expected, got inf)",
    function() RateLimiter { rate = 1, burst = math.huge } end)
  blames("'burst' to 'RateLimiter' (whole number expected, got 1.5)",
    function() RateLimiter { rate = 1, burst = 1.5 } end)
  blames("unknown option 'limit'", function() RateLimiter { rate = 1, limit = 3 } end)
  local limiter = RateLimiter { rate = 1 }
  blames("bad argument #1 to 'acquire' (at least 1 expected, got 0)",
    function() limiter:acquire(0) end)
  blames("bad argument #1 to 'try_acquire' (number expected, got table)",
    function() limiter:try_acquire({}) end)
  blames("bad argument #1 to 'with' (function expected, got nil)", function() limiter:with() end)
end)
