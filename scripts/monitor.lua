-- A task that looks at all tasks from time to time and prints those that are not done.
-- From "Complete Guide to Asynchronous Programming" (Monitor the Event Loop). Sleeps are a hundred
-- times shorter, its end is waited for, and there is some work to be seen: two tasks of which one
-- ends early.
local async = require "rille.async"

async.current_task():set_name "main"

local function monitor_loop()
  while true do
    local tasks = async.all_tasks()
    print(("Current task count: %d"):format(#tasks))

    local names = {}
    for _, task in ipairs(tasks) do names[#names + 1] = task:name() end
    table.sort(names)
    for _, name in ipairs(names) do print("  Incomplete task: " .. name) end

    async.sleep(0.05)
  end
end

async.spawn(async.sleep, 0.07):set_name "short work"
local long_work = async.spawn(async.sleep, 0.17)
long_work:set_name "long work"
local monitor = async.spawn(monitor_loop)
monitor:set_name "monitor"

long_work:await()
async.sleep(0.1) -- the monitor looks once more
monitor:cancel()
async.wait { monitor }
