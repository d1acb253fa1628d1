-- Processes and the environment in a sandbox.
local test = require "support.test"
local sandbox = require "support.sandbox"
local run = sandbox.run

test("nothing is run without a grant, and the refusal names what to grant", function()
  run [[
    local process = require "rille.process"
    refused("running 'ls' is not granted (allow_run \"ls\", --allow-run=ls)", process.run, { "ls" })
    refused("allow_run", process.spawn, { "/bin/ls" })
    refused("allow_run", process.spawn, { "no such command" })
    refused("allow_run", process.kill, 1, 0)
    refused("allow_run", process.kill, 0, "SIGTERM")
    refused("title", process.title, "other")
    assert(process.pid() > 0 and type(process.title()) == "string")
  ]]
end)

test("a granted command runs by its name and by its path, others do not", function()
  local dir, granted = sandbox.folders()
  test.write(granted .. "/echo", "#!/bin/sh\necho fooled\n")
  assert(os.execute(("cd '%s'; chmod +x echo; ln -s /bin/echo printf; ln -s /bin/sh sh"):format(
    granted)) == 0)
  run(([[
    local process = require "rille.process"
    local granted = %q
    assert(process.run({ "echo", "a" }).stdout == "a\n")
    assert(process.run({ "/bin/echo", "b" }).stdout == "b\n")
    for _, command in ipairs {
      granted .. "/echo", granted .. "/printf", granted .. "/sh", "sh", "/bin/sh", "./echo",
      "/bin/../bin/sh", "/usr/bin/env",
    } do
      refused("allow_run", process.run, { command, "x" })
    end
    -- The PATH that the child would be given does not make another program of the name.
    refused("allow_", process.run, { "echo", "c", env = { PATH = granted } })
    refused("allow_read", process.run, { "echo", "d", cwd = "/etc" })
    assert(process.run({ "echo", "e", cwd = granted }).stdout == "e\n")
    refused("allow_run", process.run, { "./echo", cwd = granted })
  ]]):format(granted), { "--allow-run=echo", "--allow-read=" .. dir })
  run(([[
    local process = require "rille.process"
    refused("allow_run", process.run, { "echo", "c", env = { PATH = %q } })
    assert(process.run({ "echo", "c", env = { PATH = "/bin" } }).stdout == "c\n")
  ]]):format(granted), { "--allow-run=/bin/echo", "--allow-env=PATH" })
end)

test("a child gets no variables but those that are granted, and PATH", function()
  run([[
    local process = require "rille.process"
    local out = process.run({ "env" }).stdout
    assert(out:find "TOLD=yes" and out:find "PATH=" and not out:find "SECRET", out)
    refused("allow_env", process.run, { "env", env = { OTHER = "x" } })
    refused("allow_env", process.run, { "env", env = { LD_PRELOAD = "/x.so" } })
    assert(process.run({ "env", env = { TOLD = "no" } }).stdout == "TOLD=no\n")
  ]], { "--allow-run=env", "--allow-env=TOLD" }, { env = { TOLD = "yes", SECRET = "hidden" } })
  run([[
    local process = require "rille.process"
    assert(process.getenv "SECRET" == "hidden")
    refused("allow_env", process.run, { "env", env = { LD_PRELOAD = "/x.so" } })
  ]], { "--allow-run", "--allow-env" }, { env = { SECRET = "hidden" } })
end)

test("a child has no descriptors of its parent's", function()
  local out = run([[
    local process = require "rille.process"
    print(process.run({ "ls", "/proc/self/fd" }).stdout)
  ]], { "--allow-run=ls" }, { prefix = "bash -c 'exec 7</etc/passwd; exec \"$@\"' bash" })
  test.eq((out:gsub("%s+", " ")), "0 1 2 3 ")
end)

test("variables are out of reach but for those that are granted", function()
  run([[
    local process = require "rille.process"
    for _, get in ipairs { process.getenv, os.getenv } do
      assert(get "TOLD" == "yes")
      refused("the variable 'SECRET' of the environment is not granted (allow_env \"SECRET\", "
        .. "--allow-env=SECRET)", get, "SECRET")
    end
    refused("allow_env", process.setenv, "SECRET", "x")
    refused("allow_env", process.setenv, "PATH", "x")
    process.setenv("TOLD", "new")
    assert(os.getenv "TOLD" == "new")
    local all = process.environ()
    assert(all.TOLD == "new" and next(all, next(all)) == nil)
    assert(require("rille.fs").tempdir() == "/tmp")
  ]], { "--allow-env=TOLD" }, { env = { TOLD = "yes", SECRET = "hidden", TMPDIR = "/secret" } })
  run [[
    refused("allow_env", require("rille.process").environ)
    refused("allow_env", require("rille.http").get, "http://127.0.0.1:1/", { proxy = "env" })
  ]]
end)

test("one's own children can be sent signals", function()
  run([[
    local process = require "rille.process"
    local child = process.spawn { "sleep", "100" }
    child:kill()
    assert(child:wait().signal == "SIGTERM")
  ]], { "--allow-run=sleep" })
end)
