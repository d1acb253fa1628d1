-- A function that waits is called like any other, and gives its result like any other.
-- From "Async Python Patterns" (Pattern 1: Basic Async/Await) and "python-asyncio" (Basic
-- Async/Await). The peer is a real server, so the line shows its address instead of the documents'.
local async = require "rille.async"
local http = require "rille.http"
local show = require "lib.show"

local function slow_answer()
  async.sleep(0.1)
  return "result"
end

local function fetch_data(url)
  return { url = url, data = http.get(url):text() }
end

async.with(http.serve { handler = slow_answer }, function(server)
  local result = fetch_data("http://127.0.0.1:" .. server.port .. "/")
  print(show(result))
end)
