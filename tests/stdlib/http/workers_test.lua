-- Servers in several processes: who serves, what becomes of those that crash, and how all end.
local async, test = require "rille.async", require "support.test"
local http, fs = require "rille.http", require "rille.fs"
local process = require "rille.process"
local raw = require "stdlib.http.raw"

local function is_there(pid) return (pcall(process.kill, pid, 0)) end

local function wait_until(fn)
  while not fn() do async.sleep(0.005) end
end

-- A program of its own, whose lines are taken one by one.
local Program = {}
Program.__index = Program

function Program:line()
  local line = table.remove(self.early, 1) or self.lines()
  assert(line, "the program has ended: " .. test.read(self.errors))
  return line
end

--- The next lines, sorted: workers say what they say in any order.
function Program:sorted(n)
  local list = {}
  for i = 1, n do list[i] = self:line() end
  table.sort(list)
  return list
end

-- Its status, what it still printed and what stands on stderr, once it has ended.
function Program:finish()
  local status = self.process:wait()
  local rest = {}
  for line in self.lines do rest[#rest + 1] = line end
  table.sort(rest)
  return status, rest, test.read(self.errors)
end

local function start(text, ...)
  local dir = test.tmpdir()
  local script = test.write(dir .. "/script.lua", [[
    local async, http = require "rille.async", require "rille.http"
    local process, signal = require "rille.process", require "rille.signal"
    io.stdout:setvbuf "line"
    local function say(...) print(table.concat({ ... }, " ")) end
    local told = async.Event()
    signal.on("SIGUSR1", function() told:set() end)
    ]] .. text)
  local errors = fs.open(dir .. "/errors", "w")
  local it = process.spawn { test.executable(), script, ..., stdout = "pipe", stderr = errors }
  errors:close()
  test.defer(function()
    it:kill "SIGKILL"
    it:wait()
    it.stdout:close()
  end)
  return setmetatable({ process = it, lines = it.stdout:lines(), errors = dir .. "/errors",
    early = {} }, Program)
end

-- Says "port N" once all serve; each worker says "worker I PID".
local SERVE = [[
  local server = http.serve {
    workers = 2, handler = function(req)
      if req.path == "/slow" then
        say("slow")
        async.sleep(0.2)
      elseif req.path == "/ever" then
        say("for ever")
        async.sleep(1000)
      end
      return tostring(process.pid())
    end,
  }
  if server.worker then
    say("worker", server.worker, process.pid())
  else
    say("port", server.port)
  end
]]

local function started(text, ...)
  local program = start(text or SERVE .. "server:wait()", ...)
  local port, pids, early = nil, {}, {}
  while not (port and pids[1] and pids[2]) do
    local line = program:line()
    local number, pid = line:match "^worker (%d) (%d+)$"
    if number then
      pids[tonumber(number)] = tonumber(pid)
    elseif line:find "^port" then
      port = line:match "%d+"
    else
      early[#early + 1] = line
    end
  end
  program.early = early
  return program, "http://127.0.0.1:" .. port, pids
end

local function get(url)
  return http.get(url, { headers = { Connection = "close" } }):text()
end

local function all_gone(pids)
  for _, pid in ipairs(pids) do wait_until(function() return not is_there(pid) end) end
end

-- ---- serving ------------------------------------------------------------------------------------

test("each worker is a process that runs the script; the first process serves nothing", function()
  local program, url, pids = started()
  test.eq(#pids, 2)
  local seen = {}
  wait_until(function()
    seen[get(url)] = true
    return seen[tostring(pids[1])] and seen[tostring(pids[2])]
  end)
  test.eq(seen[tostring(program.process.pid)], nil)
end)

test("a port of another program's workers is taken, unless it is to be shared", function()
  local _, url = started()
  local text = [[
    local host, shared = arg[1]:match "^(%S+) *(%S*)"
    local ok, e = pcall(http.serve, { host = host, port = PORT, workers = 2, handler = print,
      reuse_port = shared ~= "" })
    if not require("rille.core.program").worker then
      say(ok and "serves" or e.code)
      if ok then e:close() end
    end]]
  text = text:gsub("PORT", url:match "%d+$")
  for _, host in ipairs { "127.0.0.1", "*" } do
    test.eq(start(text, host):line(), "EADDRINUSE", host)
  end
  test.eq(start(text, "127.0.0.1 shared"):line(), "serves")
end)

test("a port that is taken is an error of the first process", function()
  local _, server = raw.start { handler = function() return "" end }
  local program = start([[
    local ok, e = pcall(http.serve, { port = tonumber(arg[1]), workers = 2, handler = print })
    say(e.code, require("rille.core.program").worker or "first")]], server.port)
  test.eq(program:line(), "EADDRINUSE first")
  test.eq(program:finish().code, 0)
end)

test("workers share a Unix socket, whose file goes with the first process", function()
  local program = start [[
    local path = arg[0]:gsub("script.lua$", "socket")
    local server = http.serve {
      workers = 2, path = path, handler = function() return tostring(process.pid()) end,
    }
    say(server.worker and "worker " .. server.worker or server.path)
    server:wait()]]
  local path = program:sorted(3)[1]
  local session = http.Session { path = path }
  local first = tonumber(session:get("http://a/"):text())
  session:close()
  assert(is_there(first) and first ~= program.process.pid)
  process.kill(first, "SIGKILL")
  test.matches(program:line(), "^worker %d$")
  session = http.Session { path = path }
  assert(tonumber(session:get("http://a/"):text()) ~= first)
  session:close()
  program.process:kill()
  test.eq(program:finish().signal, "SIGTERM")
  test.eq(io.open(path), nil)
end)

test("an application begins and ends in the workers alone", function()
  local program = start [[
    local app = http.App()
    app:on_startup(function() say("startup") end)
    app:on_shutdown(function() say("shutdown") end)
    app:get("/", function() return "hello" end)
    local server = app:serve { workers = 2 }
    if not server.worker then say("url", server.port) end
    server:wait()]]
  local lines = program:sorted(3)
  test.eq({ lines[1], lines[2] }, { "startup", "startup" })
  test.eq(get("http://127.0.0.1:" .. lines[3]:match "%d+"), "hello")
  program.process:kill()
  local _, rest = program:finish()
  test.eq(rest, { "shutdown", "shutdown" })
end)

test("two servers of a program have the same workers", { limit = 3 }, function()
  local program = start [[
    local function pid() return tostring(process.pid()) end
    local one = http.serve { workers = 1, handler = pid }
    local two = http.serve { workers = 1, handler = pid }
    if not one.worker then
      say(one.port)
      say(two.port)
      told:wait()
      one:close()
      say("closed")
    end
    two:wait()]]
  local one, two = program:line(), program:line()
  local pid = get("http://127.0.0.1:" .. one)
  test.eq(get("http://127.0.0.1:" .. two), pid)
  program.process:kill "SIGUSR1"
  test.eq(program:line(), "closed")
  local e = test.raises("OSError", get, "http://127.0.0.1:" .. one)
  test.eq(e.code, "ECONNREFUSED")
  test.eq(get("http://127.0.0.1:" .. two), pid)
end)

test("a worker reads nothing from standard input, and its children are no workers", function()
  local program = start [[
    local input = io.read "*a"
    local server = http.serve { workers = 1, handler = print }
    if server.worker then
      say(#input, tostring(process.getenv "RILLE_WORKER"))
    end
    server:wait()]]
  test.eq(program:line(), "0 nil")
end)

test("a program whose script cannot run again is told so", function()
  local result = test.rille({ "-" }, { stdin = [[
    require("rille.http").serve { workers = 2, handler = print }]] })
  test.eq(result.code, 1)
  test.contains(result.stderr, "bad argument 'workers' to 'serve' (the script was read from "
    .. "standard input, and cannot be run again)")
  result = test.script [[
    require("rille.core.program").executable = nil -- as in a host that has set none
    require("rille.http").serve { workers = 2, handler = print }]]
  test.eq(result.code, 1)
  test.contains(result.stderr, "Options::executable")
end)

test("code of the command line runs again as a script does", function()
  local result = test.rille { "-e", [[
    local server = require("rille.http").serve { workers = 1, handler = print }
    if server.worker then
      print(server.worker, ...)
      server:wait()
    else
      server:close()
    end]], "a", "b" }
  test.eq({ result.stdout, result.stderr, result.code }, { "1\ta\tb\n", "", 0 })
end)

test("in a sandbox the executable has to be granted, and the workers are in one too", function()
  local program = [[
    local http = require "rille.http"
    local server = http.serve { workers = 1, handler = function()
      return tostring((pcall(require("rille.fs").read_file, "/etc/passwd")))
    end }
    if server.worker then return server:wait() end
    print(http.get("http://127.0.0.1:" .. server.port):text())
    server:close()]]
  local function run(...)
    return test.script(program, { options = { "--sandbox", "--allow-net", ... } })
  end
  local result = run()
  test.eq(result.code, 1)
  test.contains(result.stderr, "PermissionError: running '" .. fs.realpath(test.executable()))
  result = run("--allow-run=" .. fs.realpath(test.executable()))
  test.eq({ result.stdout, result.stderr, result.code }, { "false\n", "", 0 })
end)

test("the number of workers is checked", function()
  for _, value in ipairs { -1, 1.5, "many", true } do
    local options = { handler = print, workers = value }
    test.blames_caller("bad argument 'workers' to 'serve'", function() http.serve(options) end)
  end
end)

-- ---- crashes ------------------------------------------------------------------------------------

test("a worker that is killed under load is started anew, and the others go on", function()
  local program, url, pids = started()
  local stop, answers, failures = false, 0, 0
  local clients = {}
  for i = 1, 8 do
    clients[i] = async.spawn(function()
      while not stop do
        local ok = pcall(get, url)
        if ok then answers = answers + 1 else failures = failures + 1 end
      end
    end)
  end
  wait_until(function() return answers > 50 end)
  process.kill(pids[1], "SIGKILL")
  local new = tonumber(program:line():match "^worker 1 (%d+)$")
  assert(new and new ~= pids[1])
  local before = answers
  wait_until(function() return answers > before + 200 end)
  local failed = failures
  before = answers
  wait_until(function() return answers > before + 50 end)
  stop = true
  async.wait(clients)
  test.eq(failures, failed, "failures once the new one is there")
  test.contains(test.read(program.errors),
    ("worker 1 (process %d) has ended (signal SIGKILL) and is started again"):format(pids[1]))
end)

test("a worker whose script fails before it serves ends the program, which says why", function()
  local program = start [[
    if require("rille.core.program").worker == 2 then error "no database" end
    local server = http.serve { workers = 2, handler = print }
    if not server.worker then say("never") end
    server:wait()]]
  local status, _, errors = program:finish()
  test.eq(status.code, 1)
  test.matches(errors, "WorkerError: worker 2 ended 3 times in a row at its start: exit status 1")
  test.contains(errors, "no database")
end)

test("a worker whose script fails when it serves ends the program too", function()
  local program = start [[
    local server = http.serve { workers = 2, handler = print }
    if server.worker == 1 then error "no database" end
    server:wait()]]
  local status, _, errors = program:finish()
  test.eq(status.code, 1)
  test.matches(errors,
    "WorkerError: worker 1 ended 3 times in a row at its start: exit status 1, [^\n]*no database")
end)

test("a program that does not wait for its server ends with its workers", function()
  local program = start [[
    local server = http.serve { workers = 1, handler = print }
    if server.worker then error "no database" end
    async.Future():await()]]
  local status, _, errors = program:finish()
  test.eq(status.code, 1)
  test.contains(errors, "the workers have ended: WorkerError: worker 1 ended 3 times")
end)

test("workers that come and go leave no descriptor behind", function()
  local program, _, pids = started()
  local function descriptors()
    return #fs.list(("/proc/%d/fd"):format(program.process.pid))
  end
  local before = descriptors()
  for _ = 1, 3 do
    process.kill(pids[1], "SIGKILL")
    pids[1] = tonumber(program:line():match "^worker 1 (%d+)$")
  end
  wait_until(function() return descriptors() <= before end)
end)

-- ---- the end ------------------------------------------------------------------------------------

test("workers end when the process that supervises is killed", function()
  local program, _, pids = started()
  program.process:kill "SIGKILL"
  all_gone(pids)
end)

for _, name in ipairs { "SIGTERM", "SIGINT" } do
  test(name .. " ends all workers, and requests in progress are answered", function()
    local program, url, pids = started()
    local slow = async.spawn(get, url .. "/slow")
    test.eq(program:line(), "slow")
    program.process:kill(name)
    test.matches(slow:await(), "^%d+$")
    local status, _, errors = program:finish()
    test.eq({ status.signal, errors }, { name, "" })
    all_gone(pids)
  end)
end

test("SIGTERM under load loses no request that was taken", function()
  local program, url, pids = started()
  local answers, lost, clients = 0, {}, {}
  for i = 1, 16 do
    clients[i] = async.spawn(function()
      local peer = raw.connect(tonumber(url:match "%d+$"))
      while true do
        local ok, text = pcall(function()
          return peer:send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"):read_response()
        end)
        -- A connection may end before a request is taken, and not in an answer.
        if not ok or text == "" then return end
        if not text:find "\r\n\r\n%d+$" then lost[#lost + 1] = text end
        answers = answers + 1
        if text:find "Connection: close" then return end
      end
    end)
  end
  wait_until(function() return answers > 200 end)
  program.process:kill()
  async.wait(clients)
  test.eq(lost, {})
  test.eq(program:finish().signal, "SIGTERM")
  all_gone(pids)
end)

test("the first process can close the server, and go on", function()
  local program, url, pids = started(SERVE .. [[
    if server.worker then return server:wait() end
    told:wait()
    server:close()
    server:wait()
    server:close()
    say("closed")
    async.sleep(0)
    say("end")]])
  local slow = async.spawn(get, url .. "/slow")
  test.eq(program:line(), "slow")
  program.process:kill "SIGUSR1"
  test.matches(slow:await(), "^%d+$")
  test.eq(program:line(), "closed")
  all_gone(pids)
  local status, _, errors = program:finish()
  test.eq({ status.code, errors }, { 0, "" })
end)

test("close cancels what has not ended when the grace is over", function()
  local program, url, pids = started(SERVE .. [[
    if server.worker then return server:wait() end
    told:wait()
    server:close(0.01)
    say("closed")]])
  local endless = async.spawn(pcall, get, url .. "/ever")
  test.eq(program:line(), "for ever")
  program.process:kill "SIGUSR1"
  test.eq(endless:await(), false)
  test.eq(program:line(), "closed")
  all_gone(pids)
end)

test("a worker that hears nothing is killed in the end", { limit = 6 }, function()
  local program, _, pids = started(SERVE .. [[
    if server.worker then while true do end end
    told:wait()
    server:close(0)
    say("closed")]])
  program.process:kill "SIGUSR1"
  test.eq(program:line(), "closed")
  all_gone(pids)
end)

test("signals are passed on to scripts that have handlers of their own", function()
  local program, _, pids = started(SERVE .. [[
    local ended = async.Event()
    signal.on("SIGTERM", function() ended:set() end)
    signal.on("SIGHUP", function() say("hup", server.worker or "first") end)
    say("listens")
    ended:wait()
    say("term", server.worker or "first")
    server:close()]])
  test.eq(program:sorted(3), { "listens", "listens", "listens" })
  program.process:kill "SIGHUP"
  test.eq(program:sorted(3), { "hup 1", "hup 2", "hup first" })
  program.process:kill()
  local status, rest, errors = program:finish()
  test.eq({ status.code, rest, errors }, { 0, { "term 1", "term 2", "term first" }, "" })
  all_gone(pids)
end)

test("the program's end ends the workers", function()
  local program, _, pids = started(SERVE .. [[if server.worker then server:wait() end]])
  test.eq(program:finish().code, 0)
  all_gone(pids)
end)

test("a serve that is cancelled at any moment leaves no worker", { limit = 2 }, function()
  local program = start [[
    local options = { workers = 2, handler = print }
    if require("rille.core.program").worker then return http.serve(options):wait() end
    for pause = 0, 0.06, 0.005 do
      local starter = async.spawn(http.serve, options)
      async.sleep(pause)
      starter:cancel()
      async.wait { starter }
      if not starter:cancelled() then
        local ok, server = pcall(starter.await, starter)
        if not ok then error(server, 0) end
        server:close(0)
      end
      local children = io.open(("/proc/self/task/%d/children"):format(process.pid()))
      for _ = 1, 5 do async.sleep(0) end
      say("left", #children:read "*a", #async.all_tasks())
      children:close()
    end]]
  for _ = 0, 12 do test.eq(program:line(), "left 0 1") end
  local status, _, errors = program:finish()
  test.eq({ status.code, errors }, { 0, "" })
end)
