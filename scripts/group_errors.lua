-- async.catch takes the failures of a group apart by kind, each kind to its handler (Python's
-- except*). What no handler takes is raised again.
-- From "python-asyncio" (Exception handling with TaskGroup). The document prints nothing when run,
-- as its items never fail; here two do, in the same turn, so that both are in the group.
local async = require "rille.async"
local errors = require "rille.errors"

local function process_item(item, all_there)
  async.sleep(0.02)
  all_there:wait() -- so that none is cancelled, for the failure of another, before it fails itself
  if type(item) ~= "string" then
    error(errors.new("TypeError", "not a string: " .. tostring(item)))
  elseif item == "" then
    error(errors.new("ValueError", "an empty item"))
  end
end

local function process_with_errors(items)
  local all_there = async.Barrier(#items)
  async.catch(function()
    async.group(function(group)
      for _, item in ipairs(items) do group:spawn(process_item, item, all_there) end
    end)
  end, {
    ValueError = function(group)
      for _, err in ipairs(group.errors) do print("ValueError: " .. err.message) end
    end,
    TypeError = function(group)
      for _, err in ipairs(group.errors) do print("TypeError: " .. err.message) end
    end,
  })
end

process_with_errors { "first", "", 42 }
