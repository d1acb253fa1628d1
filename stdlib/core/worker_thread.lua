--- The main task of a worker's thread: one job after another, until there will be none.
local core = require "rille.core.worker"
local codec = require "rille.core.worker_codec"
local job = require "rille.core.worker_job"
require "rille.async" -- what a job may need is there before the first one
require "rille.worker.channel"

local take, paths, modules, call = core.take, core.paths, core.modules, core.call
local answer, is_cancelled, count_lost = core.answer, core.is_cancelled, core.count_lost

local function start(fn, ...) return fn(...) end

local is_ready, initialize = false, nil

local function prepare()
  local list = not initialize and core.initializer_modules()
  if list then codec.load(list) end
  initialize = initialize or core.initializer()
  if initialize then initialize() end
  is_ready, initialize = true, nil
end

local function body()
  if not is_ready then prepare() end
  local list = modules()
  if list then codec.load(list) end
  return start(call())
end

if os and os.execute then os.execute = core.unblocked(os.execute) end -- luacheck: ignore 122
if io and io.popen then io.popen = core.unblocked(io.popen) end -- luacheck: ignore 122

-- All threads of the process print to one stream, which the interpreter's own `print` gives away
-- after each word.
if io then
  local stdout = io.stdout
  function print(...) -- luacheck: ignore 121
    local words = { ... }
    for i = 1, select("#", ...) do words[i] = tostring(words[i]) end
    stdout:write(table.concat(words, "\t") .. "\n")
  end
end

return function()
  core.on_cancel(job.cancel)
  while take() do
    local path, cpath = paths()
    if path then codec.package.path, codec.package.cpath = path, cpath end
    job.run(body, answer, is_cancelled, count_lost)
  end
end
