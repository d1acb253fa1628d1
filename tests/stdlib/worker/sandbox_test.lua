--- Workers of scripts that are not trusted: what their parent may not, they may not.
local test = require "support.test"

local eq = test.eq

local function sandboxed(code, ...)
  local args = { "--sandbox", ... }
  args[#args + 1] = "-e"
  args[#args + 1] = code
  local result = test.rille(args)
  eq({ result.code, result.stderr }, { 0, "" })
  return result.stdout
end

test("a worker may do what its parent may, and no more", function()
  local dir = test.tmpdir()
  test.write(dir .. "/granted", "content")
  eq(sandboxed(([[
    local worker, errors = require "rille.worker", require "rille.errors"
    local path = "%s/granted"
    print(worker.run(function() return require("rille.fs").read_file(path) end))
    print(worker.run(function() return io.open(path):read "*a" end))
    local open, execute = io.open, os.execute
    for _, job in ipairs {
      function() return require("rille.fs").read_file "/etc/passwd" end,
      function() return io.open "/etc/passwd" end,
      function() return open "/etc/passwd" end,
      function() return execute "true" end,
      function() return require "rille.core.worker" end,
      function() return require "ffi" end,
      function()
        return require("rille.worker").run(function() return io.open "/etc/passwd" end)
      end,
    } do
      local ok, e = pcall(worker.run, job)
      print(ok, errors.is(e, "PermissionError"))
    end
  ]]):format(dir), "--allow-read=" .. dir), "content\ncontent\n" .. ("false\ttrue\n"):rep(7))
end)

test("functions and modules of a script go to its workers in a sandbox too", function()
  local dir = test.tmpdir()
  test.write(dir .. "/part.lua", "local M = {} function M.double(x) return x * 2 end return M")
  eq(sandboxed(([[
    package.path = "%s/?.lua"
    local worker, part, async = require "rille.worker", require "part", require "rille.async"
    local format, sleep = string.format, async.sleep
    local n = 5
    print(worker.run(function()
      sleep(0)
      return format("%%d", part.double(n)), getfenv(1) == _G, debug, (load(string.char(27)))
    end))
  ]]):format(dir), "--allow-read=" .. dir), "10\ttrue\tnil\tnil\n")
end)

test("a sandbox has no pools of processes", function()
  eq(sandboxed [[
    local ok, e = pcall(require("rille.worker").Pool, { kind = "process" })
    print(ok, e.kind, e.code, e.message:find("kind=\"thread\"", 1, true) ~= nil)
  ]], "false\tPermissionError\tEACCES\ttrue\n")
end)
