-- A resource with methods enter and exit: async.with opens it, runs the block, and closes it
-- whatever happens in the block. Both may wait.
-- From "Complete Guide to Asynchronous Programming" (Asynchronous Context Managers). Sleeps are
-- twenty times shorter; the rows are printed as Lua writes them.
local async = require "rille.async"
local show = require "lib.show"

local Database = {}
Database.__index = Database

function Database:enter()
  print(("Connecting to database %s..."):format(self.name))
  async.sleep(0.05)
  self.connected = true
  print "Database connection successful"
  return self -- what the block gets
end

function Database:exit()
  print "Closing database connection..."
  async.sleep(0.025)
  self.connected = false
  print "Database connection closed"
end

function Database:query(sql)
  print("Executing query: " .. sql)
  async.sleep(0.015)
  return { { id = 1, name = "test" } }
end

async.with(setmetatable({ name = "mydb" }, Database), function(db)
  local results = db:query "SELECT * FROM users"
  print("Query results: " .. show(results))
end)

print "Context exited"
