-- tarantool fibers (no database configured). usage: tarantool bench.lua WORKLOAD N [PORT]
local W, N, PORT = arg[1], tonumber(arg[2]), tonumber(arg[3])
if not W then os.exit(0) end
local fiber, clock = require 'fiber', require 'clock'
local DIR = os.getenv 'BENCH_DATA'
local random = math.random
local function gather(n, f)
  local fs = {}
  for i = 1, n do local x = fiber.new(f, i); x:set_joinable(true); fs[i] = x end
  for i = 1, n do assert(fs[i]:join()) end
end
local function sw(tasks, y) gather(tasks, function() for _ = 1, N / tasks do y() end end) end
local function queue(k) local c = fiber.channel(100); gather(2 * k, function(i) if i <= k then for j = 1, N / k do c:put(j) end else for _ = 1, N / k do c:get() end end end) end
-- fiber has no semaphore; a channel holding the tokens is the usual idiom
local function guarded(tasks, width)
  local s = fiber.channel(width)
  gather(tasks, function() for _ = 1, N / tasks do s:put(true); fiber.sleep(0); s:get() end end)
end
local function wait_for(f, s)
  local c = fiber.channel(1)
  fiber.new(function() c:put(f()) end)
  local r = c:get(s)
  if r == nil then error 'timeout' end
  return r
end
local runs = {
  switch2 = function() sw(2, fiber.yield) end, switch1000 = function() sw(1000, fiber.yield) end,
  spawn_join = function() local function f() return 1 end; for _ = 1, N / 1000 do gather(1000, f) end end,
  sleepers = function() gather(N, function() fiber.sleep(0.5 + random()) end) end,
  waitfor = function() local function op() return 1 end; for _ = 1, N do wait_for(op, 10) end end,
  waitfor_yield = function() local function op() fiber.yield() return 1 end; for _ = 1, N do wait_for(op, 10) end end,
  queue11 = function() queue(1) end, queue44 = function() queue(4) end,
  semaphore = function() guarded(1000, 10) end, lock = function() guarded(100, 1) end,
  queue_uncontended = function() local c = fiber.channel(100); for i = 1, N do c:put(i); assert(c:get() == i) end end,
  event = function()
    local a, b = fiber.channel(1), fiber.channel(1)
    gather(2, function(i) for _ = 1, N / 2 do if i == 1 then b:put(1); a:get() else b:get(); a:put(1) end end end)
  end,
  condition = function()
    local c, turn = fiber.cond(), 1
    gather(2, function(me) for _ = 1, N / 2 do while turn ~= me do c:wait() end; turn = 3 - me; c:signal() end end)
  end,
  executor = function() -- fio calls run in tarantool's thread pool
    local fio, left = require 'fio', N
    gather(100, function() while left > 0 do left = left - 1; fio.path.exists('/') end end)
  end,
  file_many = function()
    local fio, i = require 'fio', 0
    gather(64, function() while i < N do local f = fio.open(DIR .. '/f' .. (i % 10000), { 'O_RDONLY' }); i = i + 1; local d = f:read(); f:close(); assert(#d == 4096) end end)
  end,
  file_seq = function() local f = require 'fio'.open(DIR .. '/big', { 'O_RDONLY' }); N = 0; while true do local d = f:read(65536); if #d == 0 then break end; N = N + #d end; f:close() end,
  http_client = function() -- built-in libcurl client, its thread does the work
    local c, left, u = require 'http.client'.new({ max_connections = 64 }), N, 'http://127.0.0.1:' .. (PORT or 0) .. '/'
    gather(64, function() while left > 0 do left = left - 1; local r = c:get(u); assert(r.status == 200 and #r.body == 13, r.reason) end end)
  end,
}
local RESP = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!'
local servers = {
  tcp_echo = function(s) while true do local d = s:sysread(4096); if d == nil then if not s:readable() then break end elseif d == '' then break else s:write(d) end end end,
  http_server = function(s) -- the http.server rock is not packaged: a minimal one over socket, header parsed in Lua
    while true do
      local head = s:read('\r\n\r\n')
      if not head or head == '' then break end
      local m = head:match '^(%u+) (%S+) HTTP/(%d%.%d)\r\n'
      if not m then break end
      local h = {}
      for k, v in head:gmatch '\r\n([^:\r\n]+): *([^\r\n]*)' do h[k:lower()] = v end
      s:write(RESP)
    end
  end,
}
if servers[W] then
  assert(require 'socket'.tcp_server('127.0.0.1', N, { handler = servers[W], prepare = function(s) s:setsockopt('SOL_SOCKET', 'SO_REUSEADDR', true) return 1024 end }))
else
  local t0 = clock.monotonic()
  runs[W]()
  local t = clock.monotonic() - t0
  print(('%s %d %.6f %.1f'):format(W, N, t, N / t))
  os.exit(0)
end
