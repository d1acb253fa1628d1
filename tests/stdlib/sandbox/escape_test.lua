-- Ways around the sandbox that lead through the interpreter and Rille's own modules.
local test = require "support.test"
local sandbox = require "support.sandbox"
local run = sandbox.run

test("a file that is called like a module of Rille's is none", function()
  local dir = test.tmpdir()
  assert(os.execute(("mkdir -p '%s/rille'"):format(dir)) == 0)
  test.write(dir .. "/rille/evil.lua", "return debug or 'loaded'")
  test.write(dir .. "/rille/evil.so", "\127ELF")
  run([[
    fails("module 'rille.evil' not found", require, "rille.evil")
    assert(package.loaded["rille.evil"] == nil)
  ]], { "--allow-read", "--allow-write" },
    { cwd = dir, env = { LUA_PATH = dir .. "/?.lua;;", LUA_CPATH = dir .. "/?.so" } })
end)

test("what a script writes into a module, Rille's own modules do not see", function()
  run([[
    local channel = require("rille.worker").Channel()
    local function stub() end
    for _, name in ipairs { "errors", "async", "fs", "process", "json", "stdio" } do
      local module = require("rille." .. name)
      for key, value in pairs(module) do
        assert(not key:find "^_", key)
        if type(value) == "function" and name ~= "async" and key ~= "is" then module[key] = stub end
      end
      module._raise, module.new, module.os_error = stub, stub, stub
    end
    assert(rawget(errors, "_raise") == stub)
    refused("private", require, "rille.core.scheduler")
    refused("'ffi' is not available", require, "ffi")
    fails("OSError: connection refused", require("rille.net").connect,
      { host = "127.0.0.1", port = 1 })
    fails("CopyError: cannot copy the value: a coroutine", channel.send, channel,
      coroutine.create(stub))
    refused("allow_read", io.open, "/etc/passwd")
  ]], { "--allow-net=127.0.0.1" })
end)

test("modules are to scripts what they are without a sandbox", function()
  run [[
    assert(require "rille.async" == async and package.loaded["rille.async"] == async)
    assert(async.Lock == async.Lock and async.Queue().put and async.nothing == nil)
    async.slow_callback_duration = 0.2
    assert(async.slow_callback_duration == 0.2)
    async.own = 1
    assert(async.own == 1)
    local stdio = require "rille.stdio"
    assert(stdio.stdout == stdio.stdout)
    local worker = require "rille.worker"
    local pool = worker.Pool { size = 1 }
    assert(pool:run(function(x) return async.gather { function() return x end }[1] end, 3) == 3)
    assert(pool:run(function(module) return module == require "rille.json" end,
      require "rille.json"))
    pool:close()
  ]]
end)

test("a function of Rille's cannot be sent to a worker with what it closes over", function()
  run [[
    local channel = require("rille.worker").Channel()
    channel:send(getfenv)
    assert(channel:recv() == getfenv)
    local f = getfenv
    _G.getfenv = nil
    fails("a function of Rille's that no module has", channel.send, channel, f)
  ]]
end)

test("the methods of files are no way to their finalizer", function()
  local out = run [[
    for _, file in ipairs { io.stdout, io.stdin } do
      for _, name in ipairs { "__gc", "__index", "__tostring", "__metatable" } do
        assert(file[name] == nil, name)
      end
    end
    io.stdout:write("a", 1, "\n")
    assert(tostring(io.stdout):find "^file")
    assert(io.type(io.stdout) == "file")
  ]]
  test.eq(out, "a1\n")
end)

test("a task's coroutine is not resumed by a script, nor one that was another task's", function()
  run [[
    local old
    for _ = 1, 3 do
      async.spawn(function() old = coroutine.running() end):await()
      assert(not coroutine.resume(old))
      local tasks = {}
      for i = 1, 5 do
        tasks[i] = async.spawn(function()
          local own = coroutine.running()
          async.sleep(0.01)
          return own
        end)
      end
      async.sleep(0)
      local ok, e = coroutine.resume(old, "woken", "too early")
      assert(not ok and e == "cannot resume non-suspended coroutine", tostring(e))
      local again = false
      for _, task in ipairs(tasks) do again = task:await() == old or again end
      assert(again, "the coroutine was not used again")
    end
  ]]
end)

test("functions that call themselves through C do not end the process", function()
  run [[
    local depth = 0
    local function replace()
      depth = depth + 1
      return (("x"):gsub(".", replace))
    end
    local index = {}
    setmetatable(index, { __index = function() return (string.gsub("x", ".", index)) end })
    local function wrapped() coroutine.wrap(wrapped)() end
    local function resumed() return assert(coroutine.resume(coroutine.create(resumed))) end
    local function generated()
      return async.generator(function(yield)
        for x in generated()() do yield(x) end
      end)
    end
    local function overflows()
      fails("stack overflow", function() for _ in generated()() do end end)
      fails("stack overflow", replace)
      assert(depth > 100)
      fails("stack overflow", string.gsub, "x", ".", index)
      fails("stack overflow", wrapped)
      fails("stack overflow", resumed)
    end
    overflows()
    async.spawn(overflows):await()
    local worker = require "rille.worker"
    local ok, e = pcall(worker.run, function()
      local function replace() return (("x"):gsub(".", replace)) end
      return replace()
    end)
    assert(not ok and tostring(e):find "stack overflow")
    fails("bad argument #3 to 'gsub'", function() return ("x"):gsub(".") end)
    fails("bad argument #1 to 'wrap'", function() return coroutine.wrap() end)
    assert(("abc"):gsub("%w", { a = "x" }) == "xbc" and ("aaa"):gsub("a", "b", 2) == "bba")
  ]]
end)

-- ---- what runs on for ever ----------------------------------------------------------------------

-- It ends by itself, with some error, and not by the guard of test.rille.
local function is_stopped(code)
  local result = test.script("local async = require 'rille.async'\n" .. code,
    { options = { "--sandbox", "--allow-run", "--slice-limit=0.1" } })
  test.eq(result.signal, nil, code)
  test.eq(result.code, 1, result.stdout .. result.stderr)
end

test("a loop of Rille's over objects that a script has tampered with is stopped", function()
  -- A list of those who wait for a future, that ends where it begins.
  is_stopped [[
    local future = async.Future()
    for _ = 1, 2 do future:add_done_callback(function() end) end
    local list = future[6]
    list.head[1] = { child_done = function() end }
    list.head.next = list.head
    future:set_result(1)
  ]]
  is_stopped [[
    local task = async.spawn(function() error "fails" end)
    for _ = 1, 2 do task:add_done_callback(function() end) end
    local list = task[6]
    list.head[1] = { child_done = function() end }
    list.head.next = list.head
    print(pcall(task.await, task))
    async.sleep(10)
  ]]
  is_stopped [[
    local queue = async.PriorityQueue()
    for i = 1, 4 do queue:put(i) end
    for _, value in pairs(queue) do
      if type(value) == "table" then
        setmetatable(value, { __index = function(_, i) return i end, __newindex = print })
        for key in pairs(value) do value[key] = nil end
      end
    end
    pcall(queue.get_nowait, queue)
    while true do end
  ]]
end)

test("code of a script's does not run in finalizers, where nothing stops it", function()
  is_stopped [[
    async.set_exception_handler(function() while true do end end)
    async.spawn(error, "lost")
    async.sleep(0)
    for _ = 1, 10 do
      collectgarbage()
      async.sleep(0)
    end
  ]]
  is_stopped [[
    async.spawn(error, setmetatable({}, { __tostring = function() while true do end end }))
    async.sleep(0)
    for _ = 1, 10 do
      collectgarbage()
      async.sleep(0)
    end
  ]]
  is_stopped [[
    local future = async.Future()
    local next_done = async.as_completed { future }
    local list = future[6]
    getmetatable(list).__index.remove = function() while true do end end
    next_done, list = nil, nil
    for _ = 1, 10 do
      collectgarbage()
      async.sleep(0)
    end
    while true do end
  ]]
end)

test("a handler of signals is no way to run where nothing stops it", function()
  is_stopped [[
    local process, signal = require "rille.process", require "rille.signal"
    local handle = signal.on("SIGUSR1", function() while true do end end)
    handle.told = function() while true do end end
    for _, value in pairs(handle) do
      if type(value) == "table" then value.told = handle.told end
    end
    process.kill(process.pid(), "SIGUSR1")
    for _ = 1, 10 do async.sleep(0.01) end
  ]]
end)

test("the signal that stops scripts cannot be taken", function()
  is_stopped [[
    local signal, errors = require "rille.signal", require "rille.errors"
    local taken = 0
    for number = 1, 64 do
      local ok, e = pcall(signal.on, number, function() end)
      if not ok and errors.is(e, "OSError") and e.code == "EBUSY" then taken = taken + 1 end
    end
    assert(taken == 1)
    while true do end
  ]]
end)

-- ---- workers ------------------------------------------------------------------------------------

test("workers have the grants that the script began with, whatever has changed since", function()
  local dir, granted, secret = sandbox.folders()
  test.write(granted .. "/tool", "#!/bin/sh\necho tool\n")
  test.write(secret .. "/tool", "#!/bin/sh\necho other\n")
  assert(os.execute(("cd '%s' && mkdir inner && chmod +x */tool && ln -s ../granted inner/by")
    :format(dir)) == 0)
  sandbox.run(([[
    local fs, process, worker = require "rille.fs", require "rille.process", require "rille.worker"
    local dir, secret = %q, %q
    assert(process.run({ "tool" }).stdout == "tool\n")
    fs.write_file("by/new", "x")
    -- A link that leads somewhere else when it is moved.
    fs.mkdir "deep"
    fs.symlink("../secret", "deep/by")
    fs.remove "by"
    fs.rename("deep/by", "by")
    fs.chdir(dir .. "/secret")
    process.setenv("PATH", secret .. ":" .. os.getenv "PATH")
    local pool = worker.Pool { size = 1 }
    pool:run(function(dir, secret)
      local fs, process, errors = require "rille.fs", require "rille.process",
        require "rille.errors"
      local function refused(fn, ...)
        local ok, e = pcall(fn, ...)
        assert(not ok and errors.is(e, "PermissionError"), tostring(e))
      end
      refused(fs.write_file, secret .. "/new", "x")
      refused(fs.write_file, dir .. "/inner/by/new", "x")
      fs.write_file(dir .. "/inner/new", "x")
      fs.write_file(dir .. "/granted/new", "x")
      refused(process.run, { "tool" })
      assert(process.run({ dir .. "/granted/tool" }).stdout == "tool\n")
    end, dir, secret)
    pool:close()
  ]]):format(dir, secret), {
    "--allow-read=" .. dir, "--allow-write=.", "--allow-write=by",
    "--allow-run=tool", "--allow-env=PATH",
  }, { cwd = dir .. "/inner", env = { PATH = granted .. ":" .. os.getenv "PATH" } })
end)

test("an option without anything behind its sign grants nothing", function()
  run([[
    refused("allow_read", require("rille.fs").list, ".")
    refused("allow_write", require("rille.fs").write_file, "x", "y")
    refused("allow_net", require("rille.net").listen, {})
    refused("allow_run", require("rille.process").run, { "ls" })
    refused("allow_env", require("rille.process").environ)
  ]], { "--allow-read=", "--allow-write=", "--allow-net=", "--allow-run=", "--allow-env=" })
end)
