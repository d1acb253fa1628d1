-- The same kind of thing written twice: a class with enter and exit, and a function with a yield.
-- From "python-asyncio" (Async Context Managers) and "Asyncio Concurrency Patterns" (Core Concepts:
-- Async Context Managers). The document's query is left out, since its class has none. Sleeps are
-- ten times shorter; the session is printed as Lua writes it.
local async = require "rille.async"
local show = require "lib.show"

local Connection = {}
Connection.__index = Connection

function Connection.enter(self)
  print "Connecting..."
  async.sleep(0.01)
  return self
end

function Connection.exit()
  print "Disconnecting..."
  async.sleep(0.01)
end

local async_session = async.context(function(yield)
  local session = { connected = true }
  async.finally(function() yield(session) end, function()
    session.connected = false
    async.sleep(0.01)
  end)
end)

async.with(setmetatable({}, Connection), function() end)

async.with(async_session(), function(session)
  print(show(session))
end)
