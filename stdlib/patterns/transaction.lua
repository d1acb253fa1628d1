--- All or nothing: what a block does is committed when it ends well, and rolled back otherwise.
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local support = require "rille.patterns.support"
local async = require "rille.async"

local protected, rethrow = task.protected, task.rethrow
local setmetatable = setmetatable

---@class Transaction
local Transaction = {}
Transaction.__index = Transaction
Transaction.__name = "Transaction"

-- Called by async.with.
function Transaction:enter()
  if self._active then
    errors._raise("InvalidStateError", "the transaction has begun already")
  end
  self._active = true
  local ok, value = protected(self._begin)
  if not ok then
    self._active = false
    rethrow(value)
  end
  self._value = value
  return value
end

local function settle(self, value, e)
  local ok, failure = true, e
  if e == nil then
    ok, failure = protected(self._commit, value)
    if ok then return end
  end
  local undone, worse = protected(self._rollback, value, failure)
  if not undone then support.replace(worse, failure) end
  if not ok then rethrow(failure) end
end

-- Called by async.with, which holds cancellation off meanwhile.
function Transaction:exit(e)
  local value = self._value
  self._value, self._active = nil, false
  settle(self, value, e)
end

--- The same as async.with(transaction, fn, ...).
---@async
---@param fn function
---@param ... any  for `fn`
---@return ...  its results
function Transaction:with(fn, ...)
  if type(fn) ~= "function" then check.callable(fn, 1, "with") end
  return async.with(self, fn, ...)
end

--- Makes a resource for async.with. `begin()` is called first, and what it gives is handed to the
-- block. After the block `commit(value)` is called, or `rollback(value, err)` if the block raised
-- an error, was cancelled, or could not be committed. A cancellation waits until they are through.
-- It can be used again afterwards, but not twice at a time.
---@param begin function
---@param commit function
---@param rollback function
---@return Transaction
-- Errors: the block's own, or that of `commit`; one of `rollback` replaces it, with the former as
-- its `cause`. If `begin` fails, nothing is rolled back.
-- Source: SQLAlchemy's and asyncpg's transactions.
return function(begin, commit, rollback)
  check.callable(begin, 1, "transaction")
  check.callable(commit, 2, "transaction")
  check.callable(rollback, 3, "transaction")
  return setmetatable({
    _begin = begin, _commit = commit, _rollback = rollback, _active = false, _value = nil,
  }, Transaction)
end
