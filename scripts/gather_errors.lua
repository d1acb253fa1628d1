-- Three ways for errors in a gather: among the results, with return_errors; and without it, the
-- first error is raised, and the functions that gather itself started are cancelled.
-- From "Asyncio Concurrency Patterns" (Gather with Exception Handling) and "Complete Guide to
-- Asynchronous Programming" (Exception Handling), which says that gather stops at the first
-- exception: in asyncio the others go on unheeded. The last line is not in the documents. Sleeps
-- are a hundred times shorter.
local async = require "rille.async"

local function successful_task(n)
  async.sleep(n / 100)
  return ("Task %d succeeded"):format(n)
end

local function failing_task(n)
  async.sleep(n / 100)
  error(("Task %d failed"):format(n), 0)
end

-- What came of each is asked of the tasks themselves, since an error may be any value.
local function report(failed, tasks)
  async.gather(tasks, { return_errors = true })
  for i, task in ipairs(tasks) do
    if task:error() ~= nil then
      print(("Task %d %s: %s"):format(i - 1, failed, task:error()))
    else
      print(("Task %d result: %s"):format(i - 1, task:result()))
    end
  end
end

for _, word in ipairs { "failed", "exception" } do
  report(word, {
    async.spawn(successful_task, 1),
    async.spawn(failing_task, 2),
    async.spawn(successful_task, 3),
  })
end

local _, err = pcall(async.gather, {
  function() return failing_task(1) end,
  function()
    async.sleep(60)
    print "Never printed: cancelled with the failure of the other"
  end,
})
print("Raised: " .. tostring(err))
