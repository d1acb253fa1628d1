-- Anything with a method close works in async.with: files, sockets, servers, and objects of your
-- own, like this one. A close that waits is waited for.
-- From "Asyncio Concurrency Patterns" (Async Context Managers; Class-Based). Sleeps are ten times
-- shorter.
local async = require "rille.async"
local errors = require "rille.errors"

local Connection = {}
Connection.__index = Connection

local function connect(host)
  print("Connecting to " .. host)
  async.sleep(0.01)
  return setmetatable({ host = host, open = true }, Connection)
end

function Connection:query(sql)
  if not self.open then error(errors.new("InvalidStateError", "not connected")) end
  async.sleep(0.005)
  return "Results for: " .. sql
end

function Connection:close()
  print("Closing connection to " .. self.host)
  async.sleep(0.01)
  self.open = false
end

async.with(connect "localhost", function(db)
  print(db:query "SELECT * FROM users")
end)
