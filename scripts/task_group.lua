-- A group does not end before all its tasks have. If one fails, the rest is cancelled and waited
-- for, and all failures come together in one ErrorGroup.
-- From "Complete Guide to Asynchronous Programming" (Coroutine Nesting and Task Groups). The
-- document only runs the good case; the lines from "Caught" on are its other branch. Sleeps are
-- twenty times shorter.
local async = require "rille.async"
local errors = require "rille.errors"

local function task(name, should_fail)
  async.sleep(0.05)
  if should_fail then error(errors.new("ValueError", name .. " failed")) end
  print(name .. " complete")
  return name
end

local function run_group(which_fails)
  async.catch(function()
    async.group(function(group)
      for i = 1, 3 do group:spawn(task, "Task " .. i, i == which_fails) end
    end)
    print "All tasks completed successfully"
  end, {
    ValueError = function(group)
      print(("Caught %d exceptions"):format(#group.errors))
      for _, err in ipairs(group.errors) do print("  - " .. err.message) end
    end,
  })
end

run_group(nil)
run_group(3)
