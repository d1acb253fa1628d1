--- Queues: items in the order they came, the smallest first, or the newest first. An item goes
-- straight to the getter that has waited longest, a place straight to the first putter.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local report = require "rille.core.report"
local List = require "rille.core.list"

local wait, wake_one, wake_all, wake, park = core.wait, core.wake_one, core.wake_all, core.wake,
  core.park
local raise = task.raise
local setmetatable, floor = setmetatable, math.floor

---@class Queue
local Queue = {}
Queue.__index = Queue
Queue.__name = "Queue"

-- ---- the three orders: push, pop and the number of items in `_count` ----------------------------

-- First in, first out: a ring in the array part of a table, from `_head` on.
local function fifo_grow(self)
  local old, size, head, new = self._items, self._size, self._head, {}
  for i = 1, size do
    new[i] = old[head]
    head = head == size and 1 or head + 1
  end
  for i = size + 1, size * 2 do new[i] = false end
  self._items, self._size, self._head = new, size * 2, 1
  self._limit = math.min(self._max, self._size)
end

local function fifo_push(self, value)
  local count = self._count
  if count == self._size then fifo_grow(self) end
  local at = self._head + count
  local size = self._size
  if at > size then at = at - size end
  self._items[at] = value
  self._count = count + 1
end

local function fifo_pop(self)
  local head, items = self._head, self._items
  local value = items[head]
  items[head] = false -- not nil: the table keeps its array part
  self._head = head == self._size and 1 or head + 1
  self._count = self._count - 1
  return value
end

local function lifo_push(self, value)
  local count = self._count + 1
  self._items[count] = value
  self._count = count
end

local function lifo_pop(self)
  local count = self._count
  local value = self._items[count]
  self._items[count] = false
  self._count = count - 1
  return value
end

-- A binary heap of { value, number }: equal values keep the order in which they came.
local function heap_before(self, a, b)
  local less = self._less
  if less(a[1], b[1]) then return true end
  if less(b[1], a[1]) then return false end
  return a[2] < b[2]
end

local function heap_push(self, value)
  local items, i = self._items, self._count + 1
  local number = self._number + 1
  local entry = { value, number }
  -- Compare before anything moves: an error in the comparison must leave the queue as it was.
  local path = i
  while path > 1 do
    local parent = floor(path / 2)
    if not heap_before(self, entry, items[parent]) then break end
    path = parent
  end
  while i > path do
    local parent = floor(i / 2)
    items[i] = items[parent]
    i = parent
  end
  items[i] = entry
  self._number = number
  self._count = self._count + 1
end

local function heap_pop(self)
  local items, count = self._items, self._count
  local top, last = items[1], items[count]
  local n, path, i = count - 1, {}, 1
  while i * 2 <= n do
    local child = i * 2
    if child < n and heap_before(self, items[child + 1], items[child]) then child = child + 1 end
    if not heap_before(self, items[child], last) then break end
    path[#path + 1] = child
    i = child
  end
  i = 1
  for _, child in ipairs(path) do
    items[i] = items[child]
    i = child
  end
  items[i] = last
  items[count] = nil
  self._count = n
  return top[1]
end

-- ---- put ----------------------------------------------------------------------------------------

-- What a wait ends with when the queue is shut down: everybody raises an error of his own.
local SHUT = {}

local function shut_down()
  errors._raise("QueueShutDown", "the queue is shut down")
end

-- Puts an item for which there is a place: to the first getter, or into the queue.
local function store(self, value)
  if self._getting > 0 and self._count == 0 and wake_one(self._getters, value) then
    self._unfinished = self._unfinished + 1
    return
  end
  self._push(self, value)
  self._unfinished = self._unfinished + 1
end

local function wait_to_put(self, value)
  local node = { 0, value = value }
  self._putters:append(node)
  self._simple = false
  local err = park(node, 1)
  if err ~= nil then
    self._putters:remove(node)
    self._simple = self._ring and not self._putters.head
    if err == SHUT then shut_down() end
    raise(err)
  end
end

--- Puts an item, waiting for a place if the queue is full.
---@async
---@param value any  nil is a value too
-- Errors: QueueShutDown; Cancelled, and then the item is not in the queue.
-- Source: asyncio.Queue.
function Queue:put(value)
  local count = self._count
  if count < self._limit and (count > 0 or self._getting == 0) then
    -- fifo_push, where nobody waits and the ring need not grow
    local size = self._size
    local at = self._head + count
    if at > size then at = at - size end
    self._items[at] = value
    self._count = count + 1
    self._unfinished = self._unfinished + 1
    return
  end
  if self._shut then shut_down() end
  if count >= self._max then
    wait_to_put(self, value)
  else
    store(self, value)
  end
end

--- Puts an item without waiting.
---@param value any
-- Errors: QueueFull; QueueShutDown.
function Queue:put_nowait(value)
  if self._shut then shut_down() end
  if self._count >= self._max then
    errors._raise("QueueFull", ("the queue holds its %d items"):format(self._max))
  end
  store(self, value)
end

-- ---- get ----------------------------------------------------------------------------------------

-- A place has become free: the item of the putter that has waited longest goes in.
local function admit(self)
  local node = self._putters:shift()
  while node do
    if core.is_waiting(node[1]) then
      local ok, e = true, nil
      if self._ring then
        self._push(self, node.value)
      else
        -- A comparison that fails is the putter's error.
        ok, e = task.protected(self._push, self, node.value)
      end
      if ok then
        self._unfinished = self._unfinished + 1
        wake(node[1])
        break
      end
      core.fail(node[1], e == nil and errors.new("Error", "nil") or e)
    end
    node = self._putters:shift()
  end
  self._simple = self._ring and not self._putters.head
end

local function take(self)
  local value = self._pop(self)
  if self._putters.head then admit(self) end
  return value
end

local function wait_to_get(self)
  self._getting = self._getting + 1
  local err, value = wait(self._getters)
  self._getting = self._getting - 1
  if err == SHUT then shut_down() end
  if err ~= nil then raise(err) end
  return value
end

--- Takes the next item, waiting until there is one.
---@async
---@return any
-- Errors: QueueShutDown once the queue is shut down and empty; Cancelled, and then no item is lost.
function Queue:get()
  local count = self._count
  if count > 0 and self._simple then
    -- fifo_pop, where nobody waits for a place
    local head, items = self._head, self._items
    local value = items[head]
    items[head] = false
    self._head = head == self._size and 1 or head + 1
    self._count = count - 1
    return value
  end
  if count == 0 then
    if self._shut then shut_down() end
    local value = wait_to_get(self)
    return value
  end
  return take(self)
end

--- Takes the next item without waiting.
---@return any
-- Errors: QueueEmpty; QueueShutDown.
function Queue:get_nowait()
  if self._count == 0 then
    if self._shut then shut_down() end
    errors._raise("QueueEmpty", "the queue is empty")
  end
  return take(self)
end

-- ---- the rest -----------------------------------------------------------------------------------

--- How many items are in it.
function Queue:qsize() return self._count end

--- How many fit in; 0 for no limit.
function Queue:maxsize() return self._max == math.huge and 0 or self._max end

--- Whether there is no item in it.
---@return boolean
function Queue:empty() return self._count == 0 end

--- Whether `maxsize` items are in it.
---@return boolean
function Queue:full() return self._count >= self._max end

local function finish_items(self, n)
  self._unfinished = self._unfinished - n
  if self._unfinished == 0 then wake_all(self._joiners) end
end

--- Says that an item which was taken is dealt with.
-- Errors: InvalidStateError if called more often than items were put.
function Queue:task_done()
  if self._unfinished <= 0 then
    errors._raise("InvalidStateError", "task_done: called more often than items were put")
  end
  finish_items(self, 1)
end

local function wait_to_join(self)
  local err = wait(self._joiners)
  if err ~= nil then raise(err) end
end

--- Waits until every item that was put has had its task_done().
---@async
function Queue:join()
  if self._unfinished > 0 then wait_to_join(self) end
end

--- Ends the queue: puts are errors from now on, gets too once it is empty. Putters that wait are
-- woken with QueueShutDown.
---@param immediate? boolean  drop the items that are in it, and let join() go on
-- Source: asyncio.Queue.shutdown.
function Queue:shutdown(immediate)
  self._shut = true
  self._limit = 0 -- no put takes the short way any more
  if immediate then
    local n = self._count
    while self._count > 0 do self._pop(self) end
    if n > 0 then finish_items(self, math.min(n, self._unfinished)) end
  end
  local node = self._putters:shift()
  while node do
    core.fail(node[1], SHUT)
    node = self._putters:shift()
  end
  core.throw_all(self._getters, SHUT)
end

local function next_item(self)
  if self._count == 0 and self._shut then return nil end
  local value
  if self._count == 0 then
    self._getting = self._getting + 1
    local err
    err, value = wait(self._getters)
    self._getting = self._getting - 1
    if err ~= nil then
      if err == SHUT then return nil end
      raise(err)
    end
  else
    value = take(self)
  end
  return value
end

--- `for item in q:iter() do`: takes items until the queue is shut down and empty, or until a nil.
---@async
---@return fun(): any
function Queue:iter() return next_item, self end

report.describe(wait_to_put, function(self)
  return ("a place in a queue of %d"):format(self._max)
end)
report.describe(wait_to_get, function() return "an item of a queue" end)
report.describe(next_item, function() return "an item of a queue" end)
report.describe(wait_to_join, function(self)
  return ("a queue's join: %d items have no task_done()"):format(self._unfinished)
end)

local function make(maxsize, name, push, pop)
  local max = maxsize == nil and 0 or maxsize
  return setmetatable({
    _items = {}, _count = 0, _unfinished = 0, _max = max == 0 and math.huge or max, _shut = false,
    _push = push, _pop = pop, _getting = 0, _getters = core.WaitList(), _putters = List.new(),
    _joiners = core.WaitList(), _name = name, _head = 1, _size = 0, _number = 0,
    _ring = false, -- items stand in a ring
    _simple = false, -- ... and no putter waits
    _limit = 0, -- up to how many items a ring takes one more without growing
  }, Queue)
end

local M = {}

--- Makes a queue: first in, first out.
---@param maxsize? integer  how many items fit in; 0, the default, for no limit
---@return Queue
-- Source: asyncio.Queue.
function M.Queue(maxsize)
  if maxsize ~= nil then maxsize = check.count(maxsize, 0, 1, "Queue") end
  local q = make(maxsize, "Queue", fifo_push, fifo_pop)
  q._ring, q._simple, q._size = true, true, 16
  q._limit = math.min(q._max, 16)
  for i = 1, 16 do q._items[i] = false end
  return q
end

local function less_than(a, b) return a < b end

--- Makes a queue that gives its smallest item first, equal ones in the order of arrival.
---@param maxsize? integer  0, the default, for no limit
---@param less? fun(a, b): boolean  `a < b` by default
---@return Queue
-- Source: asyncio.PriorityQueue.
function M.PriorityQueue(maxsize, less)
  if maxsize ~= nil then maxsize = check.count(maxsize, 0, 1, "PriorityQueue") end
  if less ~= nil then check.callable(less, 2, "PriorityQueue") end
  local q = make(maxsize, "PriorityQueue", heap_push, heap_pop)
  q._less = less or less_than
  return q
end

--- Makes a queue that gives its newest item first.
---@param maxsize? integer  0, the default, for no limit
---@return Queue
-- Source: asyncio.LifoQueue.
function M.LifoQueue(maxsize)
  if maxsize ~= nil then maxsize = check.count(maxsize, 0, 1, "LifoQueue") end
  return make(maxsize, "LifoQueue", lifo_push, lifo_pop)
end

return M
