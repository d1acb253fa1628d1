-- Every refusal says what was asked for, and what would grant it, in the same way.
local test = require "support.test"
local run = require("support.sandbox").run

test("a refusal has the same fields everywhere, and names the option that grants", function()
  run [[
    local fs, net, dns = require "rille.fs", require "rille.net", require "rille.dns"
    local http, process, tls = require "rille.http", require "rille.process", require "rille.tls"
    local websocket, worker = require "rille.websocket", require "rille.worker"
    local function check(needs, path, fn, ...)
      local ok, e = pcall(fn, ...)
      assert(not ok and errors.is(e, "PermissionError"), tostring(e))
      assert(e.kind == "PermissionError" and e.code == "EACCES")
      assert(e.needs == needs, tostring(e.needs) .. " in " .. tostring(e))
      assert(e.path == path, tostring(e.path) .. " in " .. tostring(e))
      local option, what = needs:match "^%-%-allow%-(%w+)=(.*)$"
      local grant = option == "module" and "modules" or "allow_" .. option
      local ending = ('is not granted (%s "%s", %s)'):format(grant, what, needs)
      assert(e.message:sub(-#ending) == ending, e.message)
      assert(e.traceback:find("script.lua", 1, true), e.traceback)
    end
    local function file(option, fn, path, ...)
      check(("--allow-%s=/etc"):format(option), path, fn, path, ...)
    end
    for _, name in ipairs { "read_file", "read_lines", "open", "stat", "exists", "access",
      "realpath", "is_file" } do
      file("read", fs[name], "/etc/passwd")
    end
    for _, name in ipairs { "list", "scandir", "watch", "walk" } do
      file("read", fs[name], "/etc")
    end
    file("read", fs.lstat, "/etc/passwd")
    file("write", fs.write_file, "/etc/none", "x")
    file("write", fs.write_file, "/etc/none", "x", { append = true })
    file("write", fs.write_file, "/etc/none", "x", { atomic = true })
    for _, mode in ipairs { "w", "a", "x" } do file("write", fs.open, "/etc/none", mode) end
    for _, name in ipairs { "mkdir", "remove" } do file("write", fs[name], "/etc/none") end
    file("write", fs.chmod, "/etc/passwd", 0)
    file("write", fs.utime, "/etc/passwd")
    file("read", fs.rename, "/etc/passwd", "/etc/none")
    file("read", fs.link, "/etc/passwd", "/etc/none")
    file("read", fs.copy, "/etc/passwd", "/etc/none")
    file("read", io.open, "/etc/passwd")
    file("write", io.open, "/etc/none", "w")
    file("read", io.lines, "/etc/passwd")
    file("read", loadfile, "/etc/passwd")
    file("write", os.remove, "/etc/passwd")
    file("read", os.rename, "/etc/passwd", "/etc/none")
    check("--allow-read=/etc", "/etc/none.pem", tls.context, { ca = "/etc/none.pem" })
    check("--allow-read=/etc", "/etc/socket", net.connect, { path = "/etc/socket" })
    check("--allow-read=/etc", "/etc/socket", net.listen, { path = "/etc/socket" })

    check("--allow-net=10.0.0.1:80", nil, net.connect, { host = "10.0.0.1", port = 80 })
    check("--allow-net=[2001:db8::1]:80", nil, net.connect, { host = "2001:DB8::1", port = 80 })
    check("--allow-net=example.com:80", nil, net.connect, { host = "Example.com.", port = 80 })
    check("--allow-net=127.0.0.1:81", nil, net.listen, { host = "127.0.0.1", port = 81 })
    check("--allow-net=127.0.0.1:82", nil, net.udp, { host = "127.0.0.1", port = 82 })
    check("--allow-net=*", nil, net.connect, { path = "@abstract" })
    check("--allow-net=example.com", nil, dns.lookup, "example.com")
    check("--allow-net=10.0.0.1:53", nil, dns.Resolver, { servers = { "10.0.0.1" } })
    check("--allow-net=127.0.0.1:84", nil, websocket.connect, "ws://127.0.0.1:84/")
    check("--allow-net=127.0.0.1:83", nil, http.serve, { port = 83, handler = print })

    check("--allow-run=ls", nil, process.run, { "ls" })
    check("--allow-run=/bin/ls", nil, process.spawn, { "/bin/ls" })
    check("--allow-run=*", nil, process.kill, 1, 0)

    check("--allow-env=HOME", nil, process.getenv, "HOME")
    check("--allow-env=HOME", nil, os.getenv, "HOME")
    check("--allow-env=HOME", nil, process.setenv, "HOME", "x")
    check("--allow-env=*", nil, process.environ)
  ]]
  run([[
    local ok, e = pcall(require, "rille.fs")
    assert(not ok and e.kind == "PermissionError" and e.needs == "--allow-module=rille.fs")
  ]], { "--allow-module=rille.errors,rille.async" })
end)

test("what nothing grants says so", function()
  run [[
    local worker = require "rille.worker"
    for _, call in ipairs {
      { require, "ffi" }, { require, "rille.core.fs" }, { string.dump, print }, { io.popen, "ls" },
      { os.execute, "ls" }, { package.loadlib, "x", "y" }, { newproxy, true },
      { worker.Pool, { size = 1, kind = "process" } },
      { require("rille.process").title, "other" },
    } do
      local ok, e = pcall(unpack(call))
      assert(not ok and errors.is(e, "PermissionError"), tostring(e))
      assert(e.needs == nil and #e.message > 10, tostring(e))
    end
  ]]
end)
