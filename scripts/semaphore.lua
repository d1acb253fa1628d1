-- A semaphore lets three tasks in at once; the others wait in the order in which they came.
-- From "Complete Guide to Asynchronous Programming" (Asynchronous Semaphore). Sleeps are twenty
-- times shorter.
local async = require "rille.async"

local semaphore = async.Semaphore(3)

local function access_resource(task_id)
  semaphore:with(function()
    print(("Task %d acquired resource"):format(task_id))
    async.sleep(0.05)
    print(("Task %d released resource"):format(task_id))
  end)
end

local start = async.time()
local tasks = {}
for i = 0, 9 do tasks[#tasks + 1] = async.spawn(access_resource, i) end
async.gather(tasks)
print(("Total time: %.2f seconds"):format(async.time() - start))
