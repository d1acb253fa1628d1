--- Changes in folders, as they happen.
local binding = require "rille.core.fs"
local task = require "rille.core.task"
local check = require "rille.core.check"
local arguments = require "rille.fs.arguments"
local iterator = require "rille.fs.iterator"

local next_event, close = binding.watch_next, binding.watch_close

local M = {}

local Watch = iterator.class("Watch",
  function(self) return next_event(self._handle) end,
  function(self) close(self._handle) end)

local WATCH_OPTIONS = { recursive = true }

---@class rille.fs.WatchOptions
---@field recursive? boolean  all folders below as well, those that come later too

--- Tells of what happens to a folder and what is in it, or to a file, from the moment that it
-- returns: `for event in fs.watch(dir) do`. If what is watched goes, that is the last event.
---@async
---@param path string
---@param options? rille.fs.WatchOptions
---@return fun(): table?  with `close()`. An event has `type`: "create", "change", "delete",
-- "rename", or "overflow" (more has happened than could be kept); `name`, seen from the folder;
-- `path`; and `from`, the former path, where it was renamed
-- Errors: OSError with ENOENT, ENOSPC (the system's limit) and others; Cancelled: no event is lost.
-- Source: Linux inotify.
function M.watch(path, options)
  path = arguments.path_argument(path, 1, "watch")
  options = check.options(options, WATCH_OPTIONS, 2, "watch")
  local err, handle = binding.watch(path, options.recursive)
  if err ~= nil then task.raise(err) end
  -- A wait that is cancelled, by a timeout say, is not the end.
  return iterator.new(Watch, "watch", { path = path, _handle = handle, _goes_on = true })
end

return M
