-- Ten workers share five connections: who finds none free waits. A connection comes back to the
-- pool also when the work with it fails, and closing the pool closes all of them.
-- From "Asyncio Concurrency Patterns" (Example 3: Database Connection Pool). The document's close()
-- knows only the idle ones. The connections are simulated, as there; sleeps are ten times shorter,
-- and which worker gets which connection may differ.
local async = require "rille.async"
local patterns = require "rille.patterns"

local created, closed = 0, 0

local pool = patterns.Pool {
  size = 5,
  create = function()
    local connection = { id = created, connected = true }
    created = created + 1
    async.sleep(0.01)
    return connection
  end,
  destroy = function(connection)
    connection.connected = false
    closed = closed + 1
  end,
}

local function execute(connection, query)
  async.sleep(0.005)
  return ("Query '%s' executed on connection %d"):format(query, connection.id)
end

local function worker(id)
  for i = 0, 4 do
    local query = "SELECT * FROM table WHERE id=" .. i
    print(("Worker %d: %s"):format(id, pool:with(execute, query)))
  end
end

async.group(function(group)
  for id = 0, 9 do group:spawn(worker, id) end
end)

pool:close()
assert(created == 5 and closed == 5)
