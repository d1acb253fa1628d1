-- The tour: what Rille is for, in one program and under a second. A server and its clients run in
-- this process; 24 pages are fetched, at most six at once, with a timeout for a slow one and a
-- retry for a flaky one. A queue hands them to four workers, who write real files, while the folder
-- is watched for them. They are read back all at once, compared with what the server sent, weighed
-- by another program, and removed. Nothing of it blocks anything else.
local async = require "rille.async"
local errors = require "rille.errors"
local fs = require "rille.fs"
local http = require "rille.http"
local patterns = require "rille.patterns"
local process = require "rille.process"
local tempdir = require "lib.tempdir"

local PAGES = 24
local FETCHES_AT_ONCE = 6
local WORKERS = 4
local SLOW, FLAKY = "/page/7", "/page/13" -- one never comes, the other at the third try
local TIMEOUT = 0.4
local COLUMN = 0.008 -- seconds for each column of the picture

local start = async.time()

local function report(topic, text, ...)
  print(("%5.0f ms  %-7s "):format((async.time() - start) * 1000, topic) .. text:format(...))
end

local function plural(n, noun)
  return ("%d %s%s"):format(n, noun, n == 1 and "" or "s")
end

-- The server --------------------------------------------------------------------------------------

local function page_text(path)
  local number = tonumber(path:match "%d+$")
  return ("This is %s, and it has %d lines.\n"):format(path, number * 10):rep(number * 10)
end

local tries = 0
local function site(req)
  async.sleep(0.03) -- so much a page takes, and meanwhile others are served
  if req.path == SLOW then async.sleep(60) end
  if req.path == FLAKY then
    tries = tries + 1
    if tries < 3 then return 503 end
  end
  return page_text(req.path)
end

-- Fetching ----------------------------------------------------------------------------------------

local function fetch(base, path)
  local function get()
    return http.get(base .. path, { timeout = TIMEOUT }):raise_for_status():text()
  end
  return patterns.retry(get, {
    attempts = 3,
    base_delay = 0.02,
    on = "HTTPError",
    on_retry = function(err, attempt, delay)
      report("retry", "%s answered %d, try %d in %.0f ms", path, err.status, attempt + 1,
        delay * 1000)
    end,
  })
end

-- Puts every page of `base` into the queue; returns when each fetch began and ended.
local function fetch_all(base, queue)
  local paths = {}
  for i = 1, PAGES do paths[i] = "/page/" .. i end

  local semaphore = async.Semaphore(FETCHES_AT_ONCE)
  return async.map(paths, function(path)
    return semaphore:with(function()
      local span = { path = path, from = async.time() }
      local ok, result = pcall(fetch, base, path)
      span.ok, span.to = ok, async.time()
      if ok then
        queue:put { path = path, text = result }
      elseif errors.is(result, "TimeoutError") then
        report("timeout", "%s has not come within %.0f ms, given up", path, TIMEOUT * 1000)
      else
        error(result, 0)
      end
      return span
    end)
  end)
end

-- Writing and reading -----------------------------------------------------------------------------

local function write_pages(dir, queue, files)
  local written = 0
  for page in queue:iter() do
    local name = ("%s/page-%s.txt"):format(dir, page.path:match "%d+$")
    fs.write_file(name, page.text, { atomic = true }) -- whole from the moment it is there
    files[#files + 1] = { name = name, path = page.path }
    written = written + 1
  end
  return written
end

-- How many files have come into the folder, up to the one called "end".
local function count_files(events)
  local seen, count = {}, 0
  for event in events do
    if event.name == "end" then return count end
    if event.name:find "%.txt$" and not seen[event.name] then count = count + 1 end
    seen[event.name] = true
  end
end

-- Runs fn() and returns how many files came into the folder meanwhile.
local function watch(dir, fn)
  return async.with(fs.watch(dir), function(events)
    return async.group(function(group)
      local count = group:spawn(count_files, events)
      fn()
      fs.write_file(dir .. "/end", "")
      return count:await()
    end)
  end)
end

local function read_back(files)
  local bytes = 0
  async.map(files, function(file)
    local text = fs.read_file(file.name)
    assert(text == page_text(file.path), file.name .. " is not what the server sent")
    bytes = bytes + #text
  end)
  return bytes
end

-- The bytes in all of them, by the system's own means.
local function weigh(files)
  local command = { "wc", "-c" }
  for _, file in ipairs(files) do command[#command + 1] = file.name end
  command.check = true
  return tonumber(process.run(command).stdout:match "(%d+) total")
end

-- All together ------------------------------------------------------------------------------------

-- A line for each page: when its fetch began, and how long it took.
local function draw(spans)
  print()
  for _, span in ipairs(spans) do
    local from = math.floor((span.from - start) / COLUMN)
    local to = math.max(from + 1, math.floor((span.to - start) / COLUMN))
    local bar = (" "):rep(from) .. ("="):rep(to - from)
    print(("  %-10s"):format(span.path) .. bar .. (span.ok and "" or " given up"))
  end
  print()
end

local function count_came(spans)
  local came = 0
  for _, span in ipairs(spans) do
    if span.ok then came = came + 1 end
  end
  return came
end

local function total_time(spans)
  local sum = 0
  for _, span in ipairs(spans) do sum = sum + span.to - span.from end
  return sum
end

local function run(dir, server)
  local base = "http://127.0.0.1:" .. server.port
  report("serve", "a server listens on %s", base)
  report("fetch", "%s, at most %d at once", plural(PAGES, "page"), FETCHES_AT_ONCE)

  local queue, files, workers = async.Queue(8), {}, {}
  local spans
  local appeared = watch(dir, function()
    async.group(function(group)
      for i = 1, WORKERS do workers[i] = group:spawn(write_pages, dir, queue, files) end
      spans = fetch_all(base, queue)
      queue:shutdown() -- the workers take what is left, and end
    end)
  end)

  report("fetch", "%s of %d came", plural(count_came(spans), "page"), PAGES)
  for i, worker in ipairs(workers) do
    report("write", "worker %d wrote %s", i, plural(worker:result(), "file"))
  end

  report("watch", "%s appeared in the folder meanwhile", plural(appeared, "file"))

  local began = async.time()
  local bytes = read_back(files)
  report("read", "%s, %.0f KiB, read back in %.0f ms: all as the server sent them",
    plural(#files, "file"), bytes / 1024, (async.time() - began) * 1000)

  began = async.time()
  assert(weigh(files) == bytes)
  report("process", "wc, a program of the system, counts as many bytes in %.0f ms",
    (async.time() - began) * 1000)
  return spans
end

async.with(tempdir(), function(dir)
  local server = http.serve { handler = site }
  local spans = run(dir, server)
  server:close(0) -- the slow page is still being made: no grace for it
  draw(spans)
  report("done", "%.2f s of fetching, and all the rest, in %.2f s", total_time(spans),
    async.time() - start)
end)
