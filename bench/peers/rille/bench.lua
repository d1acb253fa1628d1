-- Rille itself, as one of its users would write it, by api.md alone.
-- usage: rille bench.lua WORKLOAD N [PORT]; for servers N is the port
local async = require "rille.async"
local W, N, PORT = arg[1], tonumber(arg[2]), tonumber(arg[3])
local DIR = os.getenv "BENCH_DATA"
local HELLO = "Hello, World!"

-- n tasks fn(1) … fn(n), all awaited
local function all(n, fn)
  async.group(function(g)
    for i = 1, n do g:spawn(fn, i) end
  end)
end

-- a job by a fixed number of workers: each takes the next number until n are done
local function workers(width, n, fn)
  local next_one = 0
  all(width, function()
    while next_one < n do
      next_one = next_one + 1
      fn(next_one - 1)
    end
  end)
end

local function switch(tasks)
  all(tasks, function()
    for _ = 1, N / tasks do async.sleep(0) end
  end)
end

local function queue(pairs_of_tasks)
  local q = async.Queue(100)
  async.group(function(g)
    for _ = 1, pairs_of_tasks do
      g:spawn(function() for i = 1, N / pairs_of_tasks do q:put(i) end end)
      g:spawn(function() for _ = 1, N / pairs_of_tasks do q:get() end end)
    end
  end)
end

-- `lock` is anything with `with`, or with acquire and release
local function with(lock, tasks)
  all(tasks, function()
    for _ = 1, N / tasks do lock:with(async.sleep, 0) end
  end)
end

local function acquire_release(lock, tasks)
  all(tasks, function()
    for _ = 1, N / tasks do
      lock:acquire()
      async.sleep(0)
      lock:release()
    end
  end)
end

local function one() return 1 end
local function yield_one()
  async.sleep(0)
  return 1
end

local runs = {
  switch2 = function() switch(2) end,
  switch1000 = function() switch(1000) end,
  queue11 = function() queue(1) end,
  queue44 = function() queue(4) end,
  semaphore = function() with(async.Semaphore(10), 1000) end,
  semaphore_acquire = function() acquire_release(async.Semaphore(10), 1000) end,
  lock = function() with(async.Lock(), 100) end,
  lock_acquire = function() acquire_release(async.Lock(), 100) end,
}

function runs.spawn_join()
  local tasks, sum = {}, 0
  for _ = 1, N / 1000 do
    for i = 1, 1000 do tasks[i] = async.spawn(one) end
    for i = 1, 1000 do sum = sum + tasks[i]:await() end
  end
  assert(sum == N)
end

function runs.spawn_join_gather()
  local functions = {}
  for i = 1, 1000 do functions[i] = one end
  for _ = 1, N / 1000 do assert(async.gather(functions).n == 1000) end
end

function runs.sleepers()
  math.randomseed(1)
  async.group(function(g)
    for _ = 1, N do g:spawn(async.sleep, 0.5 + math.random()) end
  end)
end

function runs.waitfor()
  for _ = 1, N do async.wait_for(one, 10) end
end

function runs.waitfor_yield()
  for _ = 1, N do async.wait_for(yield_one, 10) end
end

function runs.waitfor_timeout()
  for _ = 1, N do async.timeout(10, one) end
end

function runs.waitfor_yield_timeout()
  for _ = 1, N do async.timeout(10, yield_one) end
end

function runs.event() -- two tasks, two events, N one-way hand-overs
  local a, b = async.Event(), async.Event()
  async.group(function(g)
    g:spawn(function()
      for _ = 1, N / 2 do
        b:set()
        a:wait()
        a:clear()
      end
    end)
    g:spawn(function()
      for _ = 1, N / 2 do
        b:wait()
        b:clear()
        a:set()
      end
    end)
  end)
end

function runs.condition() -- two tasks take turns under one condition
  local c, turn = async.Condition(), 1
  all(2, function(me)
    local function take_turn()
      while turn ~= me do c:wait() end
      turn = 3 - me
      c:notify()
    end
    for _ = 1, N / 2 do c:with(take_turn) end
  end)
end

-- Nobody else wants it: what taking and giving back costs in a compiled loop.
function runs.lock_uncontended()
  local lock = async.Lock()
  for _ = 1, N do
    lock:acquire()
    lock:release()
  end
end

function runs.semaphore_uncontended()
  local semaphore = async.Semaphore(1)
  for _ = 1, N do
    semaphore:acquire()
    semaphore:release()
  end
end

function runs.queue_uncontended()
  local q = async.Queue(100)
  for i = 1, N do
    q:put(i)
    if q:get() ~= i then error("out of order") end
  end
end

function runs.executor()
  local worker = require "rille.worker"
  local function job(x) return x + 1 end
  workers(100, N, function(i) assert(worker.run(job, i) == i + 1) end)
end

-- A generator of pseudo-random numbers, which no compiler can shorten.
local function compute(seed)
  local s = seed
  for i = 1, 1000000 do s = (s * 31 + i) % 1000003 end
  return s
end

local function cpu_map(options)
  local list = {}
  for i = 1, N do list[i] = i end
  async.with(require("rille.worker").Pool(options), function(pool)
    assert(pool:map(list, compute).n == N)
  end)
end

function runs.cpu_map() cpu_map { size = 2 } end
function runs.cpu_map_one() cpu_map { size = 1 } end
function runs.cpu_map_processes() cpu_map { size = 2, kind = "process" } end

function runs.file_many()
  local fs = require "rille.fs"
  workers(64, N, function(i) assert(#fs.read_file(DIR .. "/f" .. i % 10000) == 4096) end)
end

function runs.spawn()
  local process = require "rille.process"
  local list = {}
  for i = 1, N do list[i] = i end
  async.map(list, function() process.spawn({ "true" }):wait() end, { limit = 8 })
end

function runs.file_seq()
  local fs = require "rille.fs"
  N = 0
  async.with(fs.open(DIR .. "/big"), function(file)
    for chunk in file:chunks(65536) do N = N + #chunk end
  end)
end

function runs.http_client()
  local http = require "rille.http"
  local url = "http://127.0.0.1:" .. PORT .. "/"
  async.with(http.Session { limit = 64 }, function(session)
    workers(64, N, function()
      local response = session:get(url)
      assert(response.status == 200 and #response:bytes() == 13)
    end)
  end)
end

local servers = {}

function servers.http_server()
  local http = require "rille.http"
  http.serve { port = N, handler = function() return HELLO end }:wait()
end

function servers.http_server_app() -- with a router
  local http = require "rille.http"
  local app = http.App()
  app:get("/", function() return HELLO end)
  app:serve { port = N }:wait()
end

function servers.http_json()
  local http = require "rille.http"
  local app = http.App()
  app:post("/", function(req)
    local order, total = req:json(), 0
    for _, item in ipairs(order.items) do total = total + item.quantity * item.price end
    return { id = order.id, customer = order.customer, count = #order.items, total = total }
  end)
  app:serve { port = N }:wait()
end

function servers.http_upload()
  local http = require "rille.http"
  local app = http.App()
  app:post("/", function(req) return tostring(#req:body()) end)
  app:serve { port = N }:wait()
end

function servers.http_file()
  local http = require "rille.http"
  local app = http.App()
  app:static("/", os.getenv "BENCH_WEB")
  app:serve { port = N }:wait()
end
servers.http_file_small = servers.http_file

function servers.tcp_echo()
  local net = require "rille.net"
  net.listen { host = "127.0.0.1", port = N, backlog = 1024 }:serve(function(stream)
    stream:set_nodelay(true)
    local data = stream:read(65536)
    while data do
      stream:write(data)
      data = stream:read(65536)
    end
    stream:close()
  end)
end

function servers.tls_server()
  local net = require "rille.net"
  local chunk = ("\0"):rep(65536)
  local tls = { cert = os.getenv "BENCH_CERT", key = os.getenv "BENCH_KEY" }
  net.listen { port = N, tls = tls, backlog = 1024 }:serve(function(stream)
    if not stream:read() then return end
    for _ = 1, 2 ^ 30 / #chunk do stream:write(chunk) end
  end)
end

function servers.ws_echo()
  local http = require "rille.http"
  local app = http.App()
  app:websocket("/", function(ws)
    for message in ws:messages() do ws:send_binary(message) end
  end)
  app:serve { port = N, max_connections = false }:wait()
end

if servers[W] then
  servers[W]()
else
  local run = runs[W] or error("unknown workload " .. tostring(W))
  local start = async.time()
  run()
  local seconds = async.time() - start
  print(("%s %d %.6f %.1f"):format(W, N, seconds, N / seconds))
end
