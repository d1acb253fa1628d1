--- Collects single items and works on many of them at once, as a database or a distant service
-- likes it better.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local report = require "rille.core.report"
local shared = require "rille.patterns.shared"
local support = require "rille.patterns.support"
local async = require "rille.async"

local wait, wake_all = core.wait, core.wake_all
local protected, rethrow, raise = task.protected, task.rethrow, task.raise
local setmetatable, type, pairs, ipairs = setmetatable, type, pairs, ipairs

---@class Batcher
local Batcher = {}
Batcher.__index = Batcher
Batcher.__name = "Batcher"

-- A batch is `entries`, one for each submit that goes on: { item =, place = among the results }.
-- `open` while it takes more. Its task waits until it is due, and then calls the handler.

-- From now on items go into another batch, and this one is due.
local function seal(self, batch)
  batch.open = false
  if self._open == batch then self._open = nil end
  wake_all(batch.due)
end

local function wait_until_due(_, batch)
  local err = wait(batch.due)
  if err ~= nil then raise(err) end
end

local function results_of(handler, items)
  local results = handler(items)
  if results == nil then return {} end
  if type(results) ~= "table" then
    errors._raise("InvalidStateError", "the handler gave a " .. type(results)
      .. ", not a list of results")
  end
  local n = type(results.n) == "number" and results.n or #results
  if n ~= items.n then
    errors._raise("InvalidStateError", ("the handler gave %g results for %d items"):format(n,
      items.n))
  end
  return results
end

local function open_batch(self)
  local batch = { entries = {}, size = 0, open = true, due = core.WaitList() }
  batch.work = shared.start(self._env, "a batch", function()
    if batch.open and self._max_delay > 0 then
      async.move_on_after(self._max_delay, wait_until_due, batch)
    end
    seal(self, batch)
    -- It may have been given up just when it became due.
    if batch.given_up then return {} end
    local items = { n = 0 }
    for _, entry in ipairs(batch.entries) do
      local n = items.n + 1
      items[n], items.n, entry.place = entry.item, n, n
    end
    return results_of(self._handler, items)
  end, function(work)
    seal(self, batch)
    batch.given_up = true
    if work:done() then
      self._batches[batch] = nil
      wake_all(self._ended)
    end
  end)
  self._open = batch
  self._batches[batch] = true
  return batch
end

local function withdraw(batch, entry)
  for i, other in ipairs(batch.entries) do
    if other == entry then
      table.remove(batch.entries, i)
      batch.size = batch.size - 1
      return
    end
  end
end

--- Puts an item into the next batch, waits until it has been dealt with, and gives its result.
---@async
---@param item any
---@return any  what stands in the item's place among the handler's results
-- Errors: those of the handler, the same for all of the batch; an error object among the results is
-- raised for its item alone; InvalidStateError if the batcher is closed; Cancelled, and then the
-- item is taken out of a batch that has not begun, and a batch that nobody waits for is cancelled.
function Batcher:submit(item)
  if self._closed then
    errors._raise("InvalidStateError", "submit: the batcher is closed")
  end
  local batch = self._open or open_batch(self)
  local entry = { item = item }
  batch.size = batch.size + 1
  batch.entries[batch.size] = entry
  if batch.size >= self._max_size then seal(self, batch) end
  local ok, results = protected(batch.work.await, batch.work)
  if not ok then
    if not entry.place then withdraw(batch, entry) end
    rethrow(results)
  end
  local result = results[entry.place]
  if errors.is_error(result) then rethrow(result) end
  return result
end

local function wait_for_batch(self, batch)
  while self._batches[batch] do
    local err = wait(self._ended)
    if err ~= nil then raise(err) end
  end
end

report.describe(wait_for_batch, function() return "the end of a batch" end)

--- Works on what there is without waiting for more, and waits until all batches under way have
-- ended. Their errors go to those who submitted the items.
---@async
function Batcher:flush()
  if self._open then seal(self, self._open) end
  local batches = {}
  for batch in pairs(self._batches) do batches[#batches + 1] = batch end
  for _, batch in ipairs(batches) do wait_for_batch(self, batch) end
end

--- Closes the batcher: submit() is an error from now on. What was submitted is dealt with, and
-- waited for.
---@async
function Batcher:close()
  self._closed = true
  self:flush()
end

local OPTIONS = { max_size = true, max_delay = true, handler = true }

---@class rille.patterns.BatcherOptions
---@field handler fun(items: table): table?  gets a list with `n`, gives results in its order
---@field max_size? integer  a batch of so many items begins at once; 100 by default
---@field max_delay? number  seconds that the first item of a batch waits for others; 0 by default

--- Makes a batcher. The handler runs in a task of its own for each batch, several at a time if it
-- takes longer than batches take to fill. With `max_delay` 0 a batch waits until every ready task
-- has run. Results among which there are nils need `n`.
---@param options rille.patterns.BatcherOptions
---@return Batcher
-- Source: graphql/dataloader.
return function(options)
  local o = check.options(options, OPTIONS, 1, "Batcher")
  return setmetatable({
    _handler = support.callable("handler", o.handler, true, "Batcher"),
    _max_size = support.count("max_size", o.max_size, 100, "Batcher"),
    _max_delay = support.seconds("max_delay", o.max_delay, 0, "Batcher"),
    _env = shared.environment(), _closed = false, _open = nil, _batches = {},
    _ended = core.WaitList(),
  }, Batcher)
end
