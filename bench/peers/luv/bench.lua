-- luajit + lua-luv: a coroutine scheduler as one writes it over luv (run queue drained by a uv_idle, uv timers for
-- sleeps). BENCH_NAIVE=1: sleep(0) is a new uv timer per call, as in luvit's coro-sleep.
-- usage: luajit bench.lua WORKLOAD N [PORT]
local W, N, PORT = arg[1], tonumber(arg[2]), tonumber(arg[3])
local uv = require 'luv'
if not W then return end
local DIR, NAIVE = os.getenv 'BENCH_DATA', os.getenv 'BENCH_NAIVE'
local create, resume, yield, running = coroutine.create, coroutine.resume, coroutine.yield, coroutine.running
local assert, error, rand = assert, error, math.random

-- run queue -----------------------------------------------------------------------------------------------------
local q, qn, spare, idle, idling = {}, 0, {}, uv.new_idle(), false
local step
local function ready(co) local n = qn + 1; qn = n; q[n] = co; if not idling then idling = true; idle:start(step) end end
local function go(co, ...) local ok, e = resume(co, ...); if not ok then io.stderr:write(debug.traceback(co, e), '\n'); os.exit(1) end end
step = function() -- one pass: what is ready now; what becomes ready meanwhile waits for the next trip round the loop
  local cur, n = q, qn
  q, qn, spare = spare, 0, nil
  for i = 1, n do local co = cur[i]; cur[i] = false; local ok, e = resume(co); if not ok then error(debug.traceback(co, e)) end end
  spare = cur
  if qn == 0 then idling = false; idle:stop() end
end
local function spawn(f, a) ready(create(function() f(a) end)) end
local function suspend() return yield() end
local function sleep(ms)
  local co = running()
  if ms == 0 and not NAIVE then ready(co); return yield() end
  local t = uv.new_timer()
  t:start(ms, 0, function() t:close(); go(co) end)
  return yield()
end
local function gather(n, f) -- spawn n tasks f(i), wait for all
  local left, co, waiting = n, running(), false
  local function done() left = left - 1; if left == 0 and waiting then ready(co) end end
  for i = 1, n do ready(create(function() f(i); done() end)) end
  if left > 0 then waiting = true; yield() end
end
local function wait_for(f, ms) -- the operation is a task of its own, the caller waits for it or for the timer
  local co, t, res, fired = running(), uv.new_timer(), nil, false
  t:start(ms, 0, function() t:close(); fired = true; go(co) end)
  ready(create(function() res = f(); if not fired then t:stop(); t:close(); ready(co) end end))
  yield()
  if fired then error 'timeout' end
  return res
end
local function fifo() return { h = 1, t = 0 } end
local function push(f, x) f.t = f.t + 1; f[f.t] = x end
local function pop(f)
  local h, t = f.h, f.t
  if h > t then return nil end
  local x = f[h]; f[h] = false; h = h + 1
  if h > t then h = 1; f.t = 0
  elseif h > 2048 then for i = h, t do f[i - h + 1] = f[i] end; f.t = t - h + 1; h = 1 end -- keep it in the array part
  f.h = h
  return x
end
local function wake(f) local co = pop(f); if co then ready(co) end end
local function Queue(max) return { max = max, n = 0, it = fifo(), g = fifo(), p = fifo() } end
local function put(s, x) while s.n >= s.max do push(s.p, running()); yield() end; s.n = s.n + 1; push(s.it, x); wake(s.g) end
local function get(s) while s.n == 0 do push(s.g, running()); yield() end; s.n = s.n - 1; local x = pop(s.it); wake(s.p); return x end
local function acquire(s) if s.n > 0 then s.n = s.n - 1 else push(s.w, running()); yield() end end
local function release(s) local co = pop(s.w); if co then ready(co) else s.n = s.n + 1 end end
local function guarded(tasks, width) local s = { n = width, w = fifo() }; gather(tasks, function() for _ = 1, N / tasks do acquire(s); sleep(0); release(s) end end) end
local function sw(tasks) gather(tasks, function() for _ = 1, N / tasks do sleep(0) end end) end
local function queue(k) local s = Queue(100); gather(2 * k, function(i) if i <= k then for j = 1, N / k do put(s, j) end else for _ = 1, N / k do get(s) end end end) end
local function fs(f, ...) local co = running(); local a = { ... }; a[#a + 1] = function(e, v) if e then error(e) end; go(co, v) end; f(unpack(a)); return yield() end

local runs = {
  switch2 = function() sw(2) end, switch1000 = function() sw(1000) end,
  queue11 = function() queue(1) end, queue44 = function() queue(4) end,
  semaphore = function() guarded(1000, 10) end, lock = function() guarded(100, 1) end,
  semaphore_uncontended = function() local s = { n = 1, w = fifo() }; for _ = 1, N do acquire(s); release(s) end end,
  queue_uncontended = function() local s = Queue(100); for i = 1, N do put(s, i); assert(get(s) == i) end end,
  spawn_join = function() local function f() return 1 end; for _ = 1, N / 1000 do gather(1000, f) end end,
  sleepers = function() gather(N, function() sleep(500 + rand(0, 1000)) end) end,
  waitfor = function() local function op() return 1 end; for _ = 1, N do wait_for(op, 10000) end end,
  waitfor_yield = function() local function op() sleep(0) return 1 end; for _ = 1, N do wait_for(op, 10000) end end,
  event = function()
    local function ev() return { s = false, w = fifo() } end
    local function set(e) e.s = true; while true do local co = pop(e.w); if not co then break end; ready(co) end end
    local function wait(e) if not e.s then push(e.w, running()); yield() end end
    local a, b = ev(), ev()
    gather(2, function(i) for _ = 1, N / 2 do if i == 1 then set(b); wait(a); a.s = false else wait(b); b.s = false; set(a) end end end)
  end,
  executor = function() -- uv_queue_work: the job runs in a Lua state of the pool thread
    local left = N
    gather(100, function()
      local co = running()
      local w = uv.new_work(function(x) return x + 1 end, function(r) go(co, r) end)
      while left > 0 do left = left - 1; w:queue(1); yield() end
    end)
  end,
  file_many = function()
    local i = 0
    gather(64, function()
      while i < N do
        local p = DIR .. '/f' .. (i % 10000); i = i + 1
        local fd = fs(uv.fs_open, p, 'r', 0)
        local st = fs(uv.fs_fstat, fd)
        local d = fs(uv.fs_read, fd, st.size, 0); fs(uv.fs_close, fd)
        assert(#d == 4096)
      end
    end)
  end,
  file_many_sync = function()
    for i = 0, N - 1 do
      local fd = assert(uv.fs_open(DIR .. '/f' .. (i % 10000), 'r', 0))
      local d = uv.fs_read(fd, uv.fs_fstat(fd).size, 0); uv.fs_close(fd); assert(#d == 4096)
    end
  end,
  file_seq = function() local fd = fs(uv.fs_open, DIR .. '/big', 'r', 0); N = 0; while true do local d = fs(uv.fs_read, fd, 65536, -1); if #d == 0 then break end; N = N + #d end end,
  file_seq_sync = function() local fd = assert(uv.fs_open(DIR .. '/big', 'r', 0)); N = 0; while true do local d = uv.fs_read(fd, 65536, -1); if #d == 0 then break end; N = N + #d end end,
  http_client = function() -- raw sockets, Content-Length only: less than a real client library does
    local left, REQ = N, 'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'
    gather(64, function()
      local co, s, buf = running(), uv.new_tcp(), ''
      s:nodelay(true)
      s:connect('127.0.0.1', PORT, function(e) assert(not e, e); go(co) end); yield()
      s:read_start(function(e, d) assert(not e, e); if d then go(co, d) end end)
      while left > 0 do
        left = left - 1; s:write(REQ); buf = ''
        while true do
          buf = buf .. yield()
          local h = buf:find('\r\n\r\n', 1, true)
          if h then
            assert(buf:sub(1, 12) == 'HTTP/1.1 200')
            local n = tonumber(buf:sub(1, h + 1):lower():match '\r\ncontent%-length: *(%d+)')
            if #buf >= h + 3 + n then break end
          end
        end
      end
      s:close()
    end)
  end,
}

local RESP = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!'
-- a plain Lua request parser, as pure-Lua codecs (luvit's http-codec) have
local function serve_http(co_style)
  return function(s)
    local buf = ''
    local function feed(d)
      buf = buf == '' and d or buf .. d
      while true do
        local a, b = buf:find('\r\n\r\n', 1, true)
        if not a then return end
        local head = buf:sub(1, a + 1); buf = buf:sub(b + 1)
        local method, path, ver = head:match '^(%u+) (%S+) HTTP/(%d%.%d)\r\n'
        if not method then s:close(); return end
        local headers = {}
        for k, v in head:gmatch '\r\n([^:\r\n]+): *([^\r\n]*)' do headers[k:lower()] = v end
        s:write(RESP)
      end
    end
    if co_style then
      local co = create(function() while true do local d = yield(); if not d then break end; feed(d) end; s:close() end)
      go(co)
      s:read_start(function(e, d) if e then d = nil end; go(co, d) end)
    else
      s:read_start(function(e, d) if d then feed(d) else s:close() end end)
    end
  end
end
local servers = {
  http_server = serve_http(true), http_server_callback = serve_http(false),
  tcp_echo = function(s) -- a coroutine per connection
    local co = create(function() while true do local d = yield(); if not d then break end; s:write(d) end; s:close() end)
    go(co)
    s:read_start(function(e, d) if e then d = nil end; go(co, d) end)
  end,
  tcp_echo_callback = function(s) s:read_start(function(e, d) if d then s:write(d) else s:close() end end) end,
}
if servers[W] then
  local l, h = uv.new_tcp(), servers[W]
  assert(l:bind('127.0.0.1', N))
  assert(l:listen(1024, function(e) if e then return end; local s = uv.new_tcp(); l:accept(s); s:nodelay(true); h(s) end))
  uv.run()
else
  local t0 = uv.hrtime()
  spawn(function() (runs[W] or error('unknown ' .. W))() end)
  uv.run()
  local t = (uv.hrtime() - t0) / 1e9
  W = W:gsub('_sync$', '')
  print(('%s %d %.6f %.1f'):format(W, N, t, N / t))
end
