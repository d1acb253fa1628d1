--- Folders: what is in one, what is below it, and what fits a pattern.
local binding = require "rille.core.fs"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local arguments = require "rille.fs.arguments"
local iterator = require "rille.fs.iterator"

local raise, path_argument = task.raise, arguments.path_argument
local scan_take, scan_on = binding.scan_take, binding.scan_on
local type, setmetatable = type, setmetatable

local M = {}

--- The names in a folder, sorted, without "." and "..".
---@async
---@param path string
---@return string[]
-- Errors: OSError with ENOENT, ENOTDIR, EACCES and others; Cancelled.
function M.list(path)
  path = path_argument(path, 1, "list")
  local err, names = binding.list(path)
  if err ~= nil then raise(err) end
  return names
end

-- ---- scandir ------------------------------------------------------------------------------------

local function scan_step(self)
  local name, kind = scan_take(self._handle)
  while name == true do
    local err = scan_on(self._handle)
    if err ~= nil then return err end
    if not self._handle then return end
    name, kind = scan_take(self._handle)
  end
  return nil, name, kind
end

local function scan_release(self)
  local handle = self._handle
  self._handle = false
  binding.scan_close(handle)
end

local Scan = iterator.class("Scan", scan_step, scan_release)

--- Goes over the entries of a folder as the system gives them, some thousand at a trip to the pool:
-- `for name, type in fs.scandir(dir) do`. The types are those of `stat`.
---@async
---@param path string
---@return fun(): string?, string?  with `close()`
-- Errors: OSError with ENOENT, ENOTDIR, EACCES and others, also in the loop; Cancelled, which ends
-- it.
-- Source: POSIX readdir.
function M.scandir(path)
  path = path_argument(path, 1, "scandir")
  local err, handle = binding.scan(path)
  if err ~= nil then raise(err) end
  return iterator.new(Scan, "scan", { path = path, _handle = handle })
end

-- ---- walk ---------------------------------------------------------------------------------------

local function below(folder, name)
  return folder:sub(-1) == "/" and folder .. name or folder .. "/" .. name
end

-- A folder below the root that has gone meanwhile, or has become something else, is left out.
local function is_gone(err)
  return errors.is(err, "OSError") and (err.code == "ENOENT" or err.code == "ENOTDIR")
end

local function walk_step(self)
  local pending = self._pending
  if self._dirs then
    -- What the loop has left in the list.
    local folder, dirs = self._folder, self._dirs
    for i = #dirs, 1, -1 do
      if type(dirs[i]) == "string" then pending[#pending + 1] = below(folder, dirs[i]) end
    end
    self._dirs = nil
  end
  while true do
    local folder, dirs, files = self._first, self._first_dirs, self._first_files
    if folder then
      self._first, self._first_dirs, self._first_files = nil, nil, nil
    else
      folder = pending[#pending]
      if not folder then return nil end
      pending[#pending] = nil
      local err
      err, dirs, files = binding.folder(folder, false)
      if err == true or err == 1 then
        pending[#pending + 1] = folder
        return err
      end
      if err ~= nil and not is_gone(err) then
        if not (self._on_error and errors.is(err, "OSError")) then return err end
        local ok, e = task.protected(self._on_error, err)
        if not ok then return iterator.FAILED, e end
      end
    end
    if dirs then
      self._folder, self._dirs = folder, dirs
      return nil, folder, dirs, files
    end
  end
end

local function walk_release(self) self._pending, self._dirs, self._first = {}, nil, nil end

local Walk = iterator.class("Walk", walk_step, walk_release)

local WALK_OPTIONS = { on_error = true }

---@class rille.fs.WalkOptions
---@field on_error? fun(err: Error)  gets the errors of folders below the root, left out then

--- Goes through a folder and all below it, top down: `for dir, dirs, files in fs.walk(root) do`.
-- `dirs` are the names of the folders in `dir`, `files` those of all else, both sorted. What the
-- loop takes out of `dirs` is not entered. Links are not followed.
---@async
---@param root string
---@param options? rille.fs.WalkOptions
---@return fun(): string?, string[]?, string[]?  with `close()`
-- Errors: OSError with ENOENT, ENOTDIR, EACCES and others, also in the loop; Cancelled, which ends
-- it.
-- Source: Python's os.walk.
function M.walk(root, options)
  root = path_argument(root, 1, "walk")
  options = check.options(options, WALK_OPTIONS, 2, "walk")
  local on_error = options.on_error
  if on_error ~= nil then check.callable(on_error, "on_error", "walk") end
  local err, dirs, files = binding.folder(root, true)
  if err ~= nil then raise(err) end
  return iterator.new(Walk, "walk", {
    path = root, _pending = {}, _on_error = on_error,
    _first = root, _first_dirs = dirs, _first_files = files,
  })
end

-- ---- glob ---------------------------------------------------------------------------------------

-- A list that can also be called like the iterators; how far that has come.
local positions = setmetatable({}, { __mode = "k" })

local Found = { __name = "Found" }
Found.__index = Found

function Found:__call()
  local i = (positions[self] or 0) + 1
  positions[self] = i
  return self[i]
end

function Found:close() positions[self] = #self end

--- The paths that fit a pattern, sorted: `*` any characters but "/", `?` one, `[a-z]` one of these,
-- `[!a]` one that is none of them, `**` any folders, or none; `\` takes the meaning of what follows
-- it. A leading dot has to be written. Links count, and `**` does not follow them; what may not be
-- looked into is left out. `for path in fs.glob(pattern) do` works too.
---@async
---@param pattern string
---@return string[]
-- Errors: OSError if the system lacks descriptors or memory; Cancelled.
-- Source: POSIX glob.
function M.glob(pattern)
  pattern = path_argument(pattern, 1, "glob")
  local err, paths = binding.glob(pattern)
  if err ~= nil then raise(err) end
  return setmetatable(paths, Found)
end

return M
