-- The tour: what Rille is for, in one program and under a second. A server and its clients run in
-- this process; 24 pages are fetched, at most six at once, with a timeout for a slow one and a
-- retry for a flaky one. A queue hands them to four workers, who write real files. These are read
-- back all at once, compared with what the server sent, and removed. Nothing of it blocks anything
-- else.
local async = require "rille.async"
local errors = require "rille.errors"
local fs = require "rille.fs"
local http = require "rille.http"
local patterns = require "rille.patterns"
local tempdir = require "lib.tempdir"

local PAGES = 24
local FETCHES_AT_ONCE = 6
local WORKERS = 4
local SLOW, FLAKY = "/page/7", "/page/13" -- one never comes, the other at the third try
local TIMEOUT = 0.25

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

local function fetch(url)
  local get = function()
    return http.get(url, { timeout = TIMEOUT }):raise_for_status():text()
  end
  return patterns.retry(get, {
    attempts = 3,
    base_delay = 0.02,
    on = "HTTPError",
    on_retry = function(err)
      report("retry", "%s", err.message)
    end,
  })
end

-- Fetches every page of `base` into the queue; returns how many came and the sum of their times.
local function fetch_all(base, queue)
  local paths = {}
  for i = 1, PAGES do paths[i] = "/page/" .. i end

  local semaphore = async.Semaphore(FETCHES_AT_ONCE)
  local fetched, busy = 0, 0
  async.map(paths, function(path)
    semaphore:with(function()
      local began = async.time()
      local ok, result = pcall(fetch, base .. path)
      busy = busy + async.time() - began
      if ok then
        fetched = fetched + 1
        queue:put { path = path, text = result }
      elseif errors.is(result, "TimeoutError") then
        report("timeout", "%s has not come within %.0f ms, given up", path, TIMEOUT * 1000)
      else
        error(result, 0)
      end
    end)
  end)
  return fetched, busy
end

-- Writing and reading -----------------------------------------------------------------------------

local function write_pages(dir, queue, files)
  local written = 0
  for page in queue:iter() do
    local name = dir .. page.path:gsub("/", "-"):gsub("^-", "/") .. ".txt"
    fs.write_file(name, page.text)
    files[#files + 1] = { name = name, path = page.path }
    written = written + 1
  end
  return written
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

-- All together ------------------------------------------------------------------------------------

local function run(dir, server)
  local base = "http://127.0.0.1:" .. server.port
  report("serve", "a server listens on %s", base)
  report("fetch", "%s, at most %d at once", plural(PAGES, "page"), FETCHES_AT_ONCE)

  local queue, files, workers = async.Queue(8), {}, {}
  local fetched, busy = async.group(function(group)
    for i = 1, WORKERS do workers[i] = group:spawn(write_pages, dir, queue, files) end
    local began = async.time()
    local fetched, busy = fetch_all(base, queue)
    queue:shutdown() -- the workers take what is left, and end
    report("fetch", "%s came in %.2f s; one after the other it had been %.2f s",
      plural(fetched, "page"), async.time() - began, busy)
    return fetched, busy
  end)

  for i, worker in ipairs(workers) do
    report("write", "worker %d wrote %s", i, plural(worker:result(), "file"))
  end

  local began = async.time()
  local bytes = read_back(files)
  report("read", "%s, %.0f KiB, read back in %.0f ms: all as the server sent them",
    plural(#files, "file"), bytes / 1024, (async.time() - began) * 1000)
  return fetched, busy
end

async.with(tempdir(), function(dir)
  local server = http.serve { handler = site }
  local fetched, busy = run(dir, server)
  server:close(0) -- the slow page is still being made: no grace for it

  local elapsed = async.time() - start
  report("done", "%d of %d pages, %.2f s of waiting in %.2f s", fetched, PAGES, busy, elapsed)
end)
