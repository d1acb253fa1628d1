--- The REPL: what is typed runs as a task of its own, so waiting works at the prompt, and tasks
-- that were started before go on meanwhile.
local async = require "rille.async"
local signal = require "rille.signal"
local signals = require "rille.core.signal"
local main = require "rille.core.main"
local report = require "rille.core.report"
local show = require "rille.repl.show"
local completion = require "rille.repl.complete"
local open_reader = require "rille.repl.reader"

local M = {}

-- Scripts that are not trusted have globals of their own.
local sandbox = package.loaded["rille.core.sandbox"]
local globals = sandbox and sandbox.globals or _G

local PROMPT, CONTINUED = "> ", ">> "

-- ---- running a line -----------------------------------------------------------------------------

-- Compiles what was typed: as an expression if it is one. Gives a function, whose first result is
-- nothing; or nil and the error; or nil and nothing if it is not complete.
local function compile(text)
  text = text:gsub("^%s*=", "")
  -- Without anything before it, a call would be a tail call, and gone from tracebacks.
  local fn, problem = load("return nil, " .. text, "=stdin", "t")
  if fn then return fn end
  local statements, err = load(text, "=stdin", "t")
  if statements then
    return function() return nil, statements() end
  end
  if problem:find "'<eof>'$" or err:find "'<eof>'$" then return nil end
  return nil, err
end

local function print_results(_, ...)
  local n = select("#", ...)
  if n == 0 then return end
  local texts = {}
  for i = 1, n do texts[i] = show((select(i, ...))) end
  print(table.concat(texts, "\t"))
end

local function run_and_print(fn) print_results(fn()) end

-- The part of a traceback that is the user's.
local function own_frames(trace)
  local lines = {}
  for line in trace:gmatch "[^\n]+" do
    if not line:find("rille/repl/", 1, true) then lines[#lines + 1] = line end
  end
  return #lines > 1 and table.concat(lines, "\n") or nil
end

local function print_error(t)
  local e = t:error()
  io.stdout:flush()
  local lines = { report.text_of(e) }
  lines[#lines + 1] = own_frames(t:traceback())
  for _, line in ipairs(report.details(e)) do lines[#lines + 1] = line end
  io.stderr:write(table.concat(lines, "\n"), "\n")
end

local running -- the task of the line that was typed last

local function run_line(fn)
  running = async.spawn(run_and_print, fn)
  running:set_name "the line"
  repeat async.wait { running } until running:done()
  local done = running
  running = nil
  if done:cancelled() then
    io.stdout:flush()
    io.stderr:write "\ncancelled\n"
  elseif done:error() ~= nil then
    print_error(done)
  end
  io.stdout:flush()
end

-- ---- the loop -----------------------------------------------------------------------------------

-- Reads lines until what they hold is complete. Gives nil at the end, false if there is nothing to
-- run.
local function read_chunk(reader)
  local text
  while true do
    local line = reader:read(text and CONTINUED or PROMPT)
    if not line then return line end
    if line:find "%S" then reader:add(line) end
    text = text and text .. "\n" .. line or line
    local fn, err = compile(text)
    if fn then return fn end
    if err then
      io.stderr:write(err, "\n")
      return false
    end
  end
end

-- What other tasks print while a line is being edited goes above it.
local function print_above(reader)
  local print = print
  function _G.print(...)
    local editing = reader:hide()
    print(...)
    if editing then
      io.stdout:flush()
      reader:redraw()
    end
  end
end

-- In here the modules need not be required.
local function find_module(_, name)
  for _, module in ipairs(completion.MODULES) do
    if module == name then
      local ok, found = pcall(globals.require, "rille." .. name)
      return ok and found or nil
    end
  end
end

--- Reads, runs and prints until the end of the input.
---@async
function M.run()
  print(("Rille %s  Ctrl-D ends, Ctrl-C cancels. A line's locals end with it."):format(
    rille.version))
  if getmetatable(globals) == nil then setmetatable(globals, { __index = find_module }) end
  local reader = open_reader()
  main.at_end(function()
    signals.guard(false)
    reader:close()
  end)
  local interrupts = signal.on("SIGINT", function()
    if not signals.calm() then return end
    if running then
      running:cancel "SIGINT"
    else
      reader:interrupt()
    end
  end)
  signals.guard(true)
  print_above(reader)
  while true do
    local fn = read_chunk(reader)
    if fn == nil then break end
    if fn then run_line(fn) end
  end
  signals.guard(false)
  interrupts:close()
  reader:close()
end

report.describe(run_line, function() return "the line" end)
return M
