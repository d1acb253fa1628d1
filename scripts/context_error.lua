-- The exit method learns of the error that ended the block; if it returned true, that error would
-- be suppressed. The resource is closed either way, and using it afterwards is an error.
-- From "Mastering asyncio" (Async Context Managers). The document shows the good case only; the
-- lines after the first three are ours. Sleeps are ten times shorter.
local async = require "rille.async"
local show = require "lib.show"

local Database = {}
Database.__index = Database

local function new_database(url)
  return setmetatable({ url = url, connected = false }, Database)
end

function Database:enter()
  print("DB connect: " .. self.url)
  async.sleep(0.01)
  self.connected = true
  return self
end

function Database:exit(err)
  print(err and "DB disconnect after an error" or "DB disconnect")
  async.sleep(0.005)
  self.connected = false
end

function Database:execute(query)
  if not self.connected then error("Not connected", 0) end
  async.sleep(0.005)
  return { { id = 1, data = query } }
end

local db = new_database "postgresql://localhost/mydb"
async.with(db, function()
  print("Query result: " .. show(db:execute "SELECT * FROM users"))
end)

print(select(2, pcall(db.execute, db, "SELECT 1")))
print(select(2, pcall(async.with, db, function() error("the query is wrong", 0) end)))
