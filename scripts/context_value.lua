-- What enter returns is what the block gets: it need not be the resource itself, and what the block
-- returns is what async.with returns.
-- From "Async Python Patterns" (Pattern 6: Async Context Managers). Sleeps are ten times shorter;
-- the connection is printed as Lua writes it.
local async = require "rille.async"
local show = require "lib.show"

local function database(dsn)
  return {
    enter = function()
      print "Opening connection"
      async.sleep(0.01)
      return { dsn = dsn, connected = true }
    end,
    exit = function()
      print "Closing connection"
      async.sleep(0.01)
    end,
  }
end

local result = async.with(database "postgresql://localhost", function(connection)
  print("Using connection: " .. show(connection))
  async.sleep(0.02) -- the query
  return { rows = 10 }
end)

assert(result.rows == 10)
