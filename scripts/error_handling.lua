-- An error is caught where it can be handled: each operation in a wrapper that turns the failures
-- it knows into nil, so that one failure does not end the others.
-- From "Async Python Patterns" (Pattern 4: Error Handling). The last line counts none as failed,
-- since the wrapper has handled them all, as in the document. Sleeps are five times shorter.
local async = require "rille.async"
local errors = require "rille.errors"

local function risky_operation(item_id)
  async.sleep(0.02)
  if item_id % 3 == 0 then
    error(errors.new("ValueError", ("Item %d failed"):format(item_id)))
  end
  return { id = item_id, status = "success" }
end

local function safe_operation(item_id)
  local ok, result = pcall(risky_operation, item_id)
  if ok then return result end
  if not errors.is(result, "ValueError") then error(result, 0) end
  print("Error: " .. result.message)
  return nil
end

local function process_items(item_ids)
  local tasks = {}
  for i, id in ipairs(item_ids) do tasks[i] = async.spawn(safe_operation, id) end
  async.wait(tasks)

  local successful, failed = {}, 0
  for _, task in ipairs(tasks) do
    if task:error() ~= nil then
      failed = failed + 1
    else
      table.insert(successful, task:result())
    end
  end
  print(("Success: %d, Failed: %d"):format(#successful, failed))
  return successful
end

process_items { 1, 2, 3, 4, 5, 6 }
