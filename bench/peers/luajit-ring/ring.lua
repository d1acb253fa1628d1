-- The floor below any Lua scheduler: bare coroutines under LuaJIT, resumed in turn, no loop and no run queue.
-- usage: luajit ring.lua WORKLOAD N
local ffi = require 'ffi'
ffi.cdef 'typedef struct { long s; long n; } bench_ts; int clock_gettime(int, bench_ts *);'
local function now() local t = ffi.new 'bench_ts'; ffi.C.clock_gettime(1, t); return tonumber(t.s) + tonumber(t.n) / 1e9 end
local w, n = arg[1], tonumber(arg[2])
local create, resume, yield = coroutine.create, coroutine.resume, coroutine.yield
local function switch(n, tasks)
  local ts = {}
  for i = 1, tasks do ts[i] = create(function() for _ = 1, n / tasks do yield() end end) end
  for _ = 1, n / tasks do for i = 1, tasks do resume(ts[i]) end end
end
local t0 = now()
if w == 'switch2' then switch(n, 2)
elseif w == 'switch1000' then switch(n, 1000)
elseif w == 'spawn_join' then
  local function f() return 1 end
  for _ = 1, n / 1000 do local r = {}; for i = 1, 1000 do local _, v = resume(create(f)); r[i] = v end end
elseif w == 'spawn_join_reuse' then -- coroutines kept and given another function to run
  local function body(f) while true do f = yield(f()) end end
  local function f() return 1 end
  local pool = {}
  for i = 1, 1000 do pool[i] = create(body) end
  for _ = 1, n / 1000 do local r = {}; for i = 1, 1000 do local _, v = resume(pool[i], f); r[i] = v end end
elseif w == 'sleepers' then -- memory of a suspended coroutine only, nothing sleeps
  local ts = {}
  for i = 1, n do local c = create(function() yield() end); resume(c); ts[i] = c end
-- The same objects as plain tables with two functions, nobody ever waiting: what a compiled loop can do at best.
elseif w == 'lock_uncontended' then
  local lock = { locked = false }
  local function acquire(l) if l.locked then error 'contended' end; l.locked = true end
  local function release(l) if not l.locked then error 'not held' end; l.locked = false end
  for _ = 1, n do acquire(lock); release(lock) end
elseif w == 'semaphore_uncontended' then
  local sem = { free = 1, waiting = 0 }
  local function acquire(s) if s.free == 0 then error 'contended' end; s.free = s.free - 1 end
  local function release(s) if s.waiting > 0 then error 'somebody waits' end; s.free = s.free + 1 end
  for _ = 1, n do acquire(sem); release(sem) end
elseif w == 'queue_uncontended' then
  local q = { max = 100, count = 0, head = 1, waiting = 0 }
  for i = 1, 128 do q[i] = false end
  local band = require 'bit'.band
  local function put(s, v)
    if s.count == s.max or s.waiting > 0 then error 'full' end
    s[band(s.head + s.count - 1, 127) + 1] = v; s.count = s.count + 1
  end
  local function get(s)
    if s.count == 0 then error 'empty' end
    local h = s.head; local v = s[h]
    s[h] = false; s.head = band(h, 127) + 1; s.count = s.count - 1
    return v
  end
  for i = 1, n do put(q, i); if get(q) ~= i then error 'order' end end
elseif w == nil then return
else error('unknown ' .. w) end
local t = now() - t0
print(('%s %d %.6f %.1f'):format(w == 'spawn_join_reuse' and 'spawn_join' or w, n, t, n / t))
