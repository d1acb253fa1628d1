-- Plain functions that the loop calls: soon, after a delay, or at a moment of its clock.
-- From "Asyncio Concurrency Patterns" (Loop Callbacks). Delays are forty times shorter.
local async = require "rille.async"

local function callback(arg)
  print("Callback called with " .. arg)
end

async.call_soon(callback, "immediate")
async.call_later(0.05, callback, "delayed")
async.call_at(async.time() + 0.075, callback, "scheduled")
async.sleep(0.1)
