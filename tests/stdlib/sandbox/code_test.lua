-- What of the interpreter is out of reach in a sandbox.
local test = require "support.test"
local run = require("support.sandbox").run

test("there is no FFI, also after a number of its kind was parsed", function()
  run [[
    refused("'ffi' is not available", require, "ffi")
    local n = loadstring "return 1LL + 0x7fffffffffffffffULL"()
    assert(type(n) == "cdata")
    refused("'ffi' is not available", require, "ffi")
    assert(package.loaded.ffi == nil and package.preload.ffi == nil and getmetatable(n) == nil)
    assert(not pcall(function() return n[0] end))
    for _, name in ipairs { "jit", "jit.util", "jit.opt", "debug", "string.buffer" } do
      refused("is not available", require, name)
      assert(package.loaded[name] == nil)
    end
    assert(ffi == nil and jit == nil and debug == nil)
    assert(#require "table.new"(1, 0) == 0)
  ]]
end)

test("there is no bytecode, neither to make nor to load", function()
  run [[
    local bytecode = "\27LJ\2\2"
    refused("string.dump", string.dump, function() end)
    refused("string.dump", ("").dump, print)
    for _, got in ipairs {
      { load(bytecode) }, { loadstring(bytecode) }, { load(bytecode, "x", "b") },
      { load(bytecode, "x", "bt") },
      { load(function()
        local b = bytecode
        bytecode = nil
        return b
      end) },
      { load("return 1", "x", "b") },
    } do
      assert(got[1] == nil and type(got[2]) == "string", tostring(got[1]))
    end
    assert(load("return ...", "x", "bt")(1) == 1 and load("return x", "x", "t", { x = 2 })() == 2)
    assert(loadstring "return 3"() == 3 and load(function() end)() == nil)
    assert(getfenv(load "return 1") == _G)
  ]]
  local _, granted = require("support.sandbox").folders()
  test.write(granted .. "/code", string.dump(function() return 1 end))
  run(([[
    local path = %q
    assert(loadfile(path) == nil and not pcall(dofile, path))
    package.path = path
    assert(not pcall(require, "code"))
    assert(not pcall(loadfile) or true)
    refused("standard input", loadfile)
  ]]):format(granted .. "/code"), { "--allow-read=" .. granted })
end)

test("native modules cannot be loaded", function()
  run [[
    refused("package.loadlib", package.loadlib, "libc.so.6", "*")
    package.cpath = "/usr/lib/x86_64-linux-gnu/lua/5.1/?.so"
    assert(not pcall(require, "socket.core"))
  ]]
end)

test("the private modules of Rille, and what they share, are out of reach", function()
  run [[
    for _, name in ipairs {
      "rille.core.scheduler", "rille.core.fs", "rille.core", "rille.fs.file", "rille.tls.binding",
      "rille.core.task", "rille.http.server", "rille.core.sandbox", "rille.",
    } do
      refused("private", require, name)
      assert(package.loaded[name] == nil)
    end
    local fs = require "rille.fs"
    assert(getfenv(fs.read_file) == _G and getfenv(require) == _G and getfenv(print) == _G)
    assert(getfenv(0) == _G and getfenv() == _G)
    fails("cannot change environment", setfenv, fs.read_file, {})
    fails("cannot change environment", setfenv, print, {})
    fails("cannot change environment", setfenv, 0, {})
    -- A function of Rille that calls one of the script.
    local seen
    async.run(function()
      local list = {}
      for level = 1, 12 do
        local ok, env = pcall(getfenv, level)
        if ok then list[#list + 1] = env end
      end
      seen = list
    end)
    assert(#seen > 2)
    for _, env in ipairs(seen) do assert(env == _G) end
    local mt = setmetatable({}, { __index = function(_, name) return getfenv(2)[name] end })
    pcall(async.wait_for, async.sleep, mt.x)
    local function change(level) setfenv(level, {}) end
    for level = 2, 12 do
      if level ~= 4 then assert(not pcall(change, level), level) end -- 4 is this chunk
    end
  ]]
end)

test("functions of the script's own have environments as everywhere", function()
  run [[
    local function f() return x end
    setfenv(f, { x = 5 })
    assert(f() == 5 and getfenv(f).x == 5)
    local function own() setfenv(1, { seen = 6 }) return seen end
    assert(own() == 6)
    fails("invalid level", getfenv, 100)
    fails("bad argument #1 to 'getfenv'", getfenv, "x")
  ]]
end)

test("what the script does to its libraries does nothing to Rille's", function()
  run [[
    local find, real = string.find, {}
    for _, library in ipairs { string, table, math, coroutine, os, io } do
      for name in pairs(library) do library[name] = function() error "replaced" end end
    end
    getmetatable("").__index.rep = function() error "replaced" end
    assert(("x"):rep(2) == "xx")
    assert(find(("x"):upper(), "X"))
    local env = _G
    for _, name in ipairs {
      "setmetatable", "pcall", "error", "require", "ipairs", "type", "next",
    } do
      real[name] = env[name]
      env[name] = function() return nil end
    end
    local json = real.require "rille.json"
    local text = json.encode { a = { 1, 2, "x" } }
    for name, fn in pairs(real) do env[name] = fn end
    assert(text == '{"a":[1,2,"x"]}')
    assert(require("rille.path").join("a", "b") == "a/b")
    async.sleep(0)
    assert(async.gather { function() return 1 end }[1] == 1)
  ]]
end)

test("metatables of what is no table are out of reach", function()
  run [[
    assert(getmetatable(io.stdout) == nil and getmetatable(print) == nil)
    assert(getmetatable(coroutine.create(print)) == nil)
    assert(getmetatable("x").__index == string)
    refused("newproxy", newproxy, true)
    local t = setmetatable({}, { __metatable = "locked" })
    assert(getmetatable(t) == "locked" and not pcall(setmetatable, t, {}))
    fails("bad argument", getmetatable)
    fails("bad argument", setmetatable, "x", {})
  ]]
end)

test("only the modules that are granted can be required", function()
  run([[
    assert(require "rille.json" and require "rille" == rille)
    assert(require "string" == string)
    for _, name in ipairs { "rille.fs", "rille.process", "ffi", "other", "debug" } do
      refused("'" .. name .. "' is not granted (modules \"" .. name .. "\", --allow-module="
        .. name, require, name)
    end
    package.preload.other = function() return 1 end
    refused("not granted", require, "other")
    assert(async.sleep)
  ]], { "--allow-module=rille.json,rille.errors", "--allow-module=rille.async" })
  run([[ assert(require "rille.json" and require "rille.fs") ]], { "--allow-module" })
  run([[
    package.loaded["rille.json"] = nil
    refused("not granted", require, "rille.json")
  ]], { "--allow-module=rille.errors,rille.async", "--allow-module=" })
end)

test("changes to `package` are no way to modules that are not granted", function()
  run([[
    for _, name in ipairs { "rille.fs", "table.new" } do
      refused("'" .. name .. "' is not granted", package.loaders[2], name)
      local asked = 0
      setmetatable(package.loaded, { __index = function(_, key)
        asked = asked + 1
        if asked == 1 then return true end
      end })
      refused("'" .. name .. "' is not granted", require, name)
      setmetatable(package.loaded, nil)
    end
    local asked = 0
    local changing = setmetatable({}, { __tostring = function()
      asked = asked + 1
      return asked == 1 and "rille.errors" or "rille.fs"
    end })
    assert(package.loaders[2](changing)().is)
  ]], { "--allow-module=rille.errors,rille.async" })
end)

test("print and the standard streams work", function()
  local out = run [[
    print("a", 1, nil)
    io.write("b\n")
    io.stdout:write("c\n")
    require("rille.stdio").stdout:write("d\n")
    print "e"
    assert(require("rille.stdio").isatty() == false)
  ]]
  test.eq(out, "a\t1\tnil\nb\nc\nd\ne\n")
end)

test("waiting works as everywhere", function()
  run [[
    local json, patterns = require "rille.json", require "rille.patterns"
    local order = {}
    async.group(function(g)
      for i = 1, 3 do
        g:spawn(function()
          async.sleep(0.001 * i)
          order[#order + 1] = i
        end)
      end
    end)
    assert(table.concat(order) == "123")
    local co = coroutine.wrap(function()
      async.sleep(0)
      coroutine.yield(1)
    end)
    assert(co() == 1)
    local ok, e = pcall(async.wait_for, async.sleep, 0.001, 10)
    assert(not ok and errors.is(e, "TimeoutError"))
    assert(patterns.retry(function() return 5 end) == 5)
    local n = json.decode "[9007199254740993]"
    assert(json.encode(n) == "[9007199254740993]")
    package.preload.waits = function() async.sleep(0.001) return "waited" end
    assert(require "waits" == "waited")
    assert(not pcall(error, "x") and select("#", xpcall(error, tostring, "y")) == 2)
    assert(arg[0]:find "script.lua" and rille.version)
  ]]
end)

test("os.exit ends the script like process.exit, with clean-up", function()
  local result = test.script([[
    require("rille.async").finally(function() os.exit(3) end, function() print "cleaned up" end)
  ]], { options = { "--sandbox" } })
  test.eq({ result.code, result.stdout }, { 3, "cleaned up\n" })
end)

test("an option that allows something implies the sandbox", function()
  local result = test.script([[print(debug, io.open)]], { options = { "--allow-env=HOME" } })
  test.matches(result.stdout, "^nil\tfunction")
  test.eq(test.rille({ "--allow-read" , "-e", "print(debug)" }).stdout, "nil\n")
end)
