-- Synchronous functions from asynchronous code: what waits for the system on threads, what computes
-- in processes. From "Complete Guide to Asynchronous Programming" (Executing Synchronous
-- Functions). Two seconds became 0.1, ten million turns one million.
local async = require "rille.async"
local worker = require "rille.worker"
local show = require "lib.show"

local function blocking_io_task(n)
  print(("Synchronous task %d starting"):format(n))
  os.execute "sleep 0.1"
  print(("Synchronous task %d complete"):format(n))
  return "result_" .. n
end

local function cpu_bound_task(n)
  print(("CPU task %d starting"):format(n))
  local total = 0
  for i = 0, 10 ^ 6 - 1 do total = total + i * i end
  print(("CPU task %d complete"):format(n))
  return total
end

local start = async.time()
async.with(worker.Pool { size = 3 }, function(pool)
  local results = pool:map({ 0, 1, 2 }, blocking_io_task)
  print(("IO task time: %.2f seconds"):format(async.time() - start))
  print("Results: " .. show(results))
end)

start = async.time()
async.with(worker.Pool { size = 2, kind = "process" }, function(pool)
  local results = pool:map({ 0, 1 }, cpu_bound_task)
  print(("CPU task time: %.2f seconds"):format(async.time() - start))
  print(("Results: %.0f %.0f"):format(results[1], results[2]))
end)
