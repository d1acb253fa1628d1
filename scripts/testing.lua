-- Testing what waits: a test is a function, so it is called like any other. A real server makes a
-- better test than a pretended one, and costs a line.
-- From "Asyncio Concurrency Patterns" (Testing Async Code) and "Async Python Patterns" (Testing
-- Async Code). The documents' test runner prints its own lines; these are those of the tests
-- below.
local async = require "rille.async"
local errors = require "rille.errors"
local http = require "rille.http"

local function test(name, fn)
  local ok, err = pcall(async.timeout, 5, fn)
  print((ok and "ok - " or "not ok - ") .. name)
  if not ok then error(err, 0) end
end

local function fetch_data(url)
  return http.get(url):raise_for_status():text()
end

local function slow_operation(delay)
  async.sleep(delay)
end

test("fetch_data gives what the server has", function()
  async.with(http.serve { handler = function() return "expected" end }, function(server)
    assert(fetch_data("http://127.0.0.1:" .. server.port .. "/") == "expected")
  end)
end)

test("fetch_data raises for a page that is not there", function()
  async.with(http.serve { handler = function() return 404 end }, function(server)
    local ok, err = pcall(fetch_data, "http://127.0.0.1:" .. server.port .. "/")
    assert(not ok and errors.is(err, "HTTPError") and err.status == 404)
  end)
end)

test("an application answers, without a port", function()
  local app = http.App()
  app:get("/", function() return "Welcome" end)
  async.with(app:test_client(), function(client)
    local response = client:get "/"
    assert(response.status == 200 and response:text() == "Welcome")
    assert(client:get("/nowhere").status == 404)
  end)
end)

test("an operation that is too slow times out", function()
  local ok, err = pcall(async.wait_for, slow_operation, 0.01, 5)
  assert(not ok and errors.is(err, "TimeoutError"))
end)
