-- A transaction is a resource: committed when its block ends well, rolled back after an error or a
-- cancellation in it.
-- From "python-asyncio" (Additional References: transaction context managers), which has no
-- program.
local async = require "rille.async"
local patterns = require "rille.patterns"

local accounts = { ann = 10, ben = 0 }

-- The accounts as the block sees them are a copy, which takes their place with the commit.
local function begin()
  print "begin"
  async.sleep(0.005)
  return { ann = accounts.ann, ben = accounts.ben }
end

local function commit(copy)
  async.sleep(0.005)
  accounts = copy
  print "commit"
end

local function rollback()
  print "rollback"
end

local function transfer(amount)
  async.with(patterns.transaction(begin, commit, rollback), function(copy)
    copy.ann = copy.ann - amount
    copy.ben = copy.ben + amount
    if copy.ann < 0 then error("not enough money", 0) end
  end)
end

transfer(7)
print(("ann %d, ben %d"):format(accounts.ann, accounts.ben))

print(select(2, pcall(transfer, 7)))
print(("ann %d, ben %d"):format(accounts.ann, accounts.ben))
