--- Runs tests: `test("a sentence that is true when it passes", function() ... end)`. A test runs
-- where it stands in its file, in a task of its own and with a limit, which is a guard against
-- hangs and nothing else. It fails if it raises, if it is cancelled, if it leaves a task or a
-- handle behind, and if an error of some other task or of a callback went to nobody meanwhile.
-- Environment: RILLE_TEST_FILTER (a part of the names to run), RILLE_TEST_LIMIT (seconds),
-- RILLE_TEST_SCALE (a factor for the sizes of large tests), RILLE_TEST_GC (if set, the collector
-- runs as often as it can), RILLE (the executable to run).
local async = require "rille.async"
local errors = require "rille.errors"
local has_probe, probe = pcall(require, "rille.core.probe")
if not debug then require "support.shell" end -- this is a sandbox

local FILTER = os.getenv "RILLE_TEST_FILTER"
local LIMIT = tonumber(os.getenv "RILLE_TEST_LIMIT") or 10
local DEBUG = async.debug()
-- A turn of the ready queue is enough for a task that is about to end, a poll of the loop for a
-- handle that is about to close.
local TURNS_TO_END = 20
local POLLS_TO_CLOSE = 50

local test = { SCALE = tonumber(os.getenv "RILLE_TEST_SCALE") or 1 }

if os.getenv "RILLE_TEST_GC" then
  -- A new cycle begins as soon as one has ended, and goes through in one step. Compiled code would
  -- never get past its own check of the collector then.
  jit.off()
  collectgarbage("setpause", 0)
  collectgarbage("setstepmul", 1000000)
end

local passed, failed = 0, 0
local current -- of the test that runs: { reports = {}, cleanups = {} }

-- Values as text --------------------------------------------------------------------------------

local function key_order(a, b)
  local type_a, type_b = type(a), type(b)
  if type_a ~= type_b then return type_a < type_b end
  if type_a == "number" or type_a == "string" then return a < b end
  return tostring(a) < tostring(b)
end

local function sorted_keys(t)
  local keys = {}
  for key in next, t do keys[#keys + 1] = key end
  table.sort(keys, key_order)
  return keys
end

local function show(value, seen)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) ~= "table" then return tostring(value) end
  local meta = getmetatable(value)
  if type(meta) == "table" and meta.__tostring then return tostring(value) end
  seen = seen or {}
  if seen[value] then return "<seen above>" end
  seen[value] = true
  local parts, listed = {}, 0
  for index, item in ipairs(value) do
    parts[index], listed = show(item, seen), index
  end
  for _, key in ipairs(sorted_keys(value)) do
    local in_list = type(key) == "number" and key >= 1 and key <= listed and key % 1 == 0
    if not in_list then
      local name = type(key) == "string" and key:match "^[%a_][%w_]*$"
      name = name or "[" .. show(key, seen) .. "]"
      parts[#parts + 1] = name .. " = " .. show(rawget(value, key), seen)
    end
  end
  return "{ " .. table.concat(parts, ", ") .. " }"
end
test.show = show

-- Returns nil if both are equal, else the path to the first difference and what stands there.
local function difference(got, want, path, seen)
  if rawequal(got, want) or (got ~= got and want ~= want) then return nil end
  if type(got) ~= "table" or type(want) ~= "table" then
    if type(got) == type(want) and got == want then return nil end
    return path, got, want
  end
  if seen[got] == want then return nil end
  seen[got] = want
  local all = {}
  for key in next, got do all[key] = true end
  for key in next, want do all[key] = true end
  for _, key in ipairs(sorted_keys(all)) do
    local where = type(key) == "string" and path .. "." .. key or path .. "[" .. show(key) .. "]"
    local at, a, b = difference(rawget(got, key), rawget(want, key), where, seen)
    if at then return at, a, b end
  end
  return nil
end

--- Fails unless `got` equals `want`, tables compared by what they hold.
function test.eq(got, want, what)
  local at, a, b = difference(got, want, "", {})
  if not at then return end
  local prefix = what and what .. ": " or ""
  local lines = { ("%sexpected %s, got %s"):format(prefix, show(want), show(got)) }
  if at ~= "" then
    lines[2] = ("first difference at %s: expected %s, got %s"):format(at, show(b), show(a))
  end
  error(table.concat(lines, "\n  "), 2)
end

--- Fails unless `text` contains `part`, taken literally.
function test.contains(text, part)
  if type(text) ~= "string" or not text:find(part, 1, true) then
    error(("expected %q in:\n%s"):format(part, tostring(text)), 2)
  end
end

--- Fails unless `text` matches the Lua pattern.
function test.matches(text, pattern)
  if type(text) ~= "string" or not text:find(pattern) then
    error(("expected %q to match:\n%s"):format(pattern, tostring(text)), 2)
  end
end

--- Fails unless fn(...) raises what is named: the kind of an error object (one capitalised word),
-- or a Lua pattern which the error's text must match.
---@return any  the error
function test.raises(kind_or_pattern, fn, ...)
  local ok, err = pcall(fn, ...)
  if ok then error(("expected %s, but nothing was raised"):format(kind_or_pattern), 2) end
  if kind_or_pattern:find "^%u%w+$" then
    if not errors.is(err, kind_or_pattern) then
      error(("expected an error of kind %s, got: %s"):format(kind_or_pattern, tostring(err)), 2)
    end
  elseif not tostring(err):find(kind_or_pattern) then
    error(("expected an error that matches %q, got: %s"):format(kind_or_pattern, tostring(err)), 2)
  end
  return err
end

local function describe(err)
  local text = tostring(err)
  local traceback = type(err) == "table" and err.traceback
  if type(traceback) == "string" then text = text .. "\n" .. traceback end
  return text
end

local function place(fn)
  if not debug then return "" end -- a sandbox
  local info = debug.getinfo(fn, "S")
  return ("%s:%d:"):format(info.short_src, info.linedefined)
end

--- Fails unless the one-line function fn raises an error that blames its own line and contains
-- `part`.
---@return any  the error
function test.blames_caller(part, fn)
  local ok, err = pcall(fn)
  if ok then error("expected an error with " .. part .. ", but nothing was raised", 2) end
  if not tostring(err):find(part, 1, true) then
    error(("expected an error with %q, got: %s"):format(part, tostring(err)), 2)
  end
  -- A text begins with the place; an error object has it in its traceback.
  local blamed = type(err) == "table" and err.traceback or tostring(err):sub(1, #place(fn))
  if not tostring(blamed):find(place(fn), 1, true) then
    error(("expected the error to name %s, got: %s"):format(place(fn), describe(err)), 2)
  end
  return err
end

--- The place of the call, as errors name it: "file.lua:12". `offset` is added to the line.
function test.here(offset)
  local info = debug.getinfo(2, "Sl")
  return ("%s:%d"):format(info.short_src, info.currentline + (offset or 0))
end

-- Order -----------------------------------------------------------------------------------------

--- A recorder of events: `log("got", 1)` adds the line "got 1", and test.eq(log, { "got 1" })
-- holds.
function test.log()
  return setmetatable({}, {
    __call = function(self, ...)
      local parts = { ... }
      for i = 1, select("#", ...) do parts[i] = tostring(parts[i]) end
      self[#self + 1] = table.concat(parts, " ")
    end,
  })
end

--- Sleeps until somebody ends it.
function test.sleep_for_ever() async.sleep(1000) end

--- Spawns fn(...), lets it come to its wait, cancels it, and gives the task when it has ended.
function test.cancelled(fn, ...)
  local task = async.spawn(fn, ...)
  test.turns(2)
  task:cancel()
  async.wait { task }
  return task
end

--- Lets every ready task run `n` times.
function test.turns(n)
  for _ = 1, n or 5 do async.sleep(0) end
end

-- What a test leaves behind ---------------------------------------------------------------------

--- What was reported (errors that nobody took, errors in callbacks) since the test began or since
-- the last call. What is asked for here no longer fails the test.
---@return table[]  the tables that async.set_exception_handler describes
function test.reports()
  -- Twice: the first finds the dead tasks, the second what only they held.
  collectgarbage()
  collectgarbage()
  test.turns(3)
  local reports = current.reports
  current.reports = {}
  return reports
end

--- Runs fn() when the test is over.
function test.defer(fn)
  table.insert(current.cleanups, fn)
end

local function task_set()
  local set = {}
  for _, task in ipairs(async.all_tasks()) do set[task] = true end
  return set
end

local function tasks_since(before)
  local list = {}
  for _, task in ipairs(async.all_tasks()) do
    if not before[task] then list[#list + 1] = task end
  end
  return list
end

local function open_handles()
  return has_probe and probe.stats and probe.stats().handles or 0
end

-- Each of these returns what is wrong, or nothing.
local function run_body(name, limit, fn)
  local task = async.spawn(fn)
  task:set_name("test: " .. name)
  local _, pending = async.wait({ task }, { timeout = limit })
  if pending[1] then
    local stands = task:traceback()
    task:cancel "the limit of the test is reached"
    async.wait({ task }, { timeout = 1 })
    return ("it had not ended after %g s, and stands here:\n%s"):format(limit, stands)
  elseif task:cancelled() then
    return "its task was cancelled"
  elseif task:error() ~= nil then
    return describe(task:error())
  end
end

local function left_tasks(before)
  local left
  for _ = 1, TURNS_TO_END do
    left = tasks_since(before)
    if not left[1] then return end
    async.sleep(0)
  end
  local lines = { #left .. " tasks left behind:" }
  for _, task in ipairs(left) do
    lines[#lines + 1] = task:name() .. "\n" .. task:traceback()
    task:cancel "left behind by a test"
  end
  async.wait(left, { timeout = 1 })
  return table.concat(lines, "\n")
end

local function left_handles(before)
  for i = 1, POLLS_TO_CLOSE do
    if open_handles() <= before then return end
    -- What nobody can reach any more is closed by the collector.
    if i % 10 == 5 then collectgarbage() end
    async.sleep(0.002)
  end
  return ("%d handles left open"):format(open_handles() - before)
end

local function left_reports()
  local lines = {}
  for _, report in ipairs(test.reports()) do
    -- Debug mode gives advice as well, such as on the blocking calls of this file.
    if report.error ~= nil or not async.debug() then
      lines[#lines + 1] = tostring(report.message) .. ": " .. describe(report.error)
    end
  end
  if lines[1] then return "reported, and looked at by nobody:\n" .. table.concat(lines, "\n") end
end

local function run_cleanups()
  for i = #current.cleanups, 1, -1 do
    local ok, err = pcall(current.cleanups[i])
    if not ok then return "in its clean-up: " .. describe(err) end
  end
end

local function indented(text)
  return "  " .. text:gsub("\n", "\n  ")
end

local function run(name, limit, fn)
  current = { reports = {}, cleanups = {} }
  local reports = current
  async.set_exception_handler(function(report) table.insert(reports.reports, report) end)
  local tasks, handles = task_set(), open_handles()

  local problems = {}
  local function note(problem) problems[#problems + 1] = problem end
  note(run_body(name, limit, fn))
  note(run_cleanups())
  note(left_tasks(tasks))
  note(left_handles(handles))
  tasks = nil -- luacheck: ignore 311 (what it holds could not be collected)
  note(left_reports())
  async.set_exception_handler(nil)
  async.set_debug(DEBUG)

  if problems[1] then
    failed = failed + 1
    print("not ok " .. passed + failed .. " - " .. name)
    print((indented(table.concat(problems, "\n"))))
  else
    passed = passed + 1
    print("ok " .. passed + failed .. " - " .. name)
  end
  io.stdout:flush()
end

-- A task that sleeps for as long as the file runs: the end of the script cancels it, and its
-- clean-up has the last word. Both are kept here, since a task that nothing can wake may be
-- collected.
test._end_of_file = async.Future()
test._summary = async.spawn(async.finally, function() test._end_of_file:await() end, function()
  print(("%d passed, %d failed"):format(passed, failed))
  io.stdout:flush()
  if failed > 0 then os.exit(1) end
end)

-- Folders and processes -------------------------------------------------------------------------

local function quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

local function command_output(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "*a"
  pipe:close()
  return (text:gsub("\n$", ""))
end

--- A fresh folder, removed when the test is over.
function test.tmpdir()
  local dir = command_output "mktemp -d"
  assert(dir:find "^/", "mktemp -d gave no folder")
  test.defer(function() os.execute("rm -rf -- " .. quote(dir)) end)
  return dir
end

function test.write(path, text)
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  assert(file:close())
  return path
end

function test.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local executable
--- The path of the executable that runs this test, or of the one that RILLE names.
function test.executable()
  if executable then return executable end
  local path = os.getenv "RILLE"
  if not path then
    local first = 0
    while arg[first - 1] do first = first - 1 end
    path = arg[first]
  end
  if not path:find "/" then path = command_output("command -v " .. quote(path)) end
  if not path:find "^/" then path = command_output "pwd" .. "/" .. path end
  executable = path
  return path
end

local function status_of(...)
  local first, how, code = ...
  if type(first) == "number" then
    -- What wait() gave: the low seven bits are the signal, the next byte the exit status.
    local signal = first % 128
    if signal ~= 0 then return nil, signal end
    return math.floor(first / 256) % 256, nil
  end
  if how == "signal" then return nil, code end
  return code, nil
end

--- Runs the executable as a child and waits, blocking, until it has ended.
---@param args string[]
---@param opts? table  `stdin` (text; empty by default), `env` (name to text, or to false to take it
-- away), `cwd`, `prefix` (shell words put before the executable)
---@return table  `code` or `signal` (a number), `stdout`, `stderr`
function test.rille(args, opts)
  opts = opts or {}
  local dir = test.tmpdir()
  test.write(dir .. "/stdin", opts.stdin or "")
  local words = { "exec", "env", "-u", "RILLE_DEBUG" }
  local function add(...)
    for _, word in ipairs { ... } do words[#words + 1] = word end
  end
  for name, value in pairs(opts.env or {}) do
    if value == false then add("-u", quote(name)) end
  end
  for name, value in pairs(opts.env or {}) do
    if value then add(quote(name .. "=" .. value)) end
  end
  -- A child that hangs must not hang the test, whose own limit cannot interrupt os.execute.
  add("timeout", "--foreground", "-s", "KILL", "60")
  if opts.prefix then add(opts.prefix) end
  add(quote(test.executable()))
  for _, arg in ipairs(args) do add(quote(arg)) end
  add("<", quote(dir .. "/stdin"), ">", quote(dir .. "/stdout"), "2>", quote(dir .. "/stderr"))
  local command = table.concat(words, " ")
  if opts.cwd then command = "cd " .. quote(opts.cwd) .. " && " .. command end
  local code, signal = status_of(os.execute(command))
  return {
    code = code,
    signal = signal,
    stdout = test.read(dir .. "/stdout"),
    stderr = test.read(dir .. "/stderr"),
  }
end

--- Runs `text` as a script file named script.lua, in a process of its own.
---@param opts? table  as for test.rille, and `options` (before the script), `args` (after it)
---@return table  as test.rille, and `path` of the script
function test.script(text, opts)
  opts = opts or {}
  local path = test.write(test.tmpdir() .. "/script.lua", text)
  local args = {}
  for _, option in ipairs(opts.options or {}) do args[#args + 1] = option end
  args[#args + 1] = path
  for _, arg in ipairs(opts.args or {}) do args[#args + 1] = arg end
  local result = test.rille(args, opts)
  result.path = path
  return result
end

return setmetatable(test, {
  __call = function(_, name, options, fn)
    if fn == nil then options, fn = {}, options end
    if FILTER and not name:find(FILTER, 1, true) then return end
    run(name, (options.limit or 1) * LIMIT, fn)
  end,
})
