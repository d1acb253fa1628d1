-- A context variable has a value of its own in each task, and is inherited by the tasks it spawns:
-- so a log function deep down knows whose request it serves, without being told.
-- From "Complete Guide to Asynchronous Programming" (Asynchronous Context Variables). The sleep is
-- ten times shorter.
local async = require "rille.async"

local request_id = async.ContextVar("request_id", "unknown")
local user_info = async.ContextVar "user_info"

local function log(message)
  print(("[%s] [%s] %s"):format(request_id:get(), tostring(user_info:get()), message))
end

local function process_request(id, user)
  request_id:set(id)
  user_info:set(user)
  log "Starting to process request"
  async.sleep(0.05)
  log "Processing complete"
end

async.gather {
  function() process_request("req-001", "Alice") end,
  function() process_request("req-002", "Bob") end,
  function() process_request("req-003", "Charlie") end,
}
