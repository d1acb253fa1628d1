--- rille.fs: files and folders. Whatever may block runs on a pool of threads; a whole file is one
-- trip there. Failures are OSErrors that name the call and the path.
local binding = require "rille.core.fs"
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local check = require "rille.core.check"
local report = require "rille.core.report"
local file = require "rille.fs.file"

local raise = task.raise
local type, find, tostring = type, string.find, tostring

for _, fn in pairs(binding) do core.transparent[fn] = true end

local fs = {}

local path_argument, permissions = file.path_argument, file.permissions

-- ---- whole files --------------------------------------------------------------------------------

local read_file = binding.read_file

--- Reads a file to its end, whatever its size says: /proc and FIFOs too.
---@async
---@param path string
---@return string
-- Errors: OSError with ENOENT, EACCES, EISDIR and others; Cancelled.
function fs.read_file(path)
  if type(path) ~= "string" or find(path, "\0", 1, true) then
    path = path_argument(path, 1, "read_file")
  end
  local err, data = read_file(path)
  if err ~= nil then raise(err) end
  return data
end

--- Reads a file as a list of lines without their ends; a `\r` stays.
---@async
---@param path string
---@return string[]
-- Errors: as read_file.
function fs.read_lines(path)
  path = path_argument(path, 1, "read_lines")
  local err, lines = binding.read_lines(path)
  if err ~= nil then raise(err) end
  return lines
end

local WRITE_OPTIONS = { mode = true, append = true, atomic = true }

--- Writes a file, in the place of what was in it.
---@async
---@param path string
---@param data string|number
---@param options? table  `mode`: permissions of a new file, a number or an octal string, 0666 less
-- the umask by default; `append=true`: behind what is in it; `atomic=true`: others see the old
-- content or the new, whole, and so does the disk after a crash
-- Errors: OSError with ENOENT, EACCES, ENOSPC and others; Cancelled: the file may then hold a part,
-- but not with `atomic`.
function fs.write_file(path, data, options)
  path = path_argument(path, 1, "write_file")
  if type(data) ~= "string" then data = check.string(data, 2, "write_file") end
  local mode, append, atomic = 438, false, false
  if options ~= nil then
    check.options(options, WRITE_OPTIONS, 3, "write_file")
    mode = permissions(options.mode, 438, "mode", "write_file")
    append, atomic = options.append, options.atomic
    if append and atomic then
      check.bad(3, "write_file", "options 'append' and 'atomic' exclude each other")
    end
  end
  local err = binding.write_file(path, data, mode, append, atomic)
  if err ~= nil then raise(err) end
end

--- Opens a file.
---@async
---@param path string
---@param mode? string  Lua's: "r" (default), "w", "a", each with "+" and "b"; "x" or "wx" makes a
-- file that must not exist
---@param perm? integer|string  permissions of a new file, 0666 less the umask by default
---@return File
-- Errors: OSError with ENOENT, EACCES, EISDIR, EEXIST and others; Cancelled.
-- Source: Lua's io.open; fopen(3) for "x".
fs.open = file.open

-- ---- what is there ------------------------------------------------------------------------------

--- What the system knows of a file; links are followed.
---@async
---@param path string
---@return table  `type` ("file", "directory", "link", "fifo", "socket", "char", "block"), `size`,
-- `mode` (permission bits), `uid`, `gid`, `ino`, `dev`, `rdev`, `nlink`, `blocks`, `blksize`; and
-- `atime`, `mtime`, `ctime`, `birthtime` in seconds
-- Errors: OSError; Cancelled.
function fs.stat(path)
  path = path_argument(path, 1, "stat")
  local err, stat = binding.stat(path)
  if err ~= nil then raise(err) end
  return stat
end

--- The same for a link itself.
---@async
---@param path string
---@return table
-- Errors: OSError; Cancelled.
function fs.lstat(path)
  path = path_argument(path, 1, "lstat")
  local err, stat = binding.lstat(path)
  if err ~= nil then raise(err) end
  return stat
end

--- True if there is something; links are followed.
---@async
---@param path string
---@return boolean
-- Errors: Cancelled.
function fs.exists(path)
  path = path_argument(path, 1, "exists")
  local err, kind = binding.type(path)
  if err ~= nil then raise(err) end
  return kind ~= nil
end

--- True for a plain file, or a link to one.
---@async
---@param path string
---@return boolean
-- Errors: Cancelled.
function fs.is_file(path)
  path = path_argument(path, 1, "is_file")
  local err, kind = binding.type(path)
  if err ~= nil then raise(err) end
  return kind == "file"
end

--- True for a folder, or a link to one.
---@async
---@param path string
---@return boolean
-- Errors: Cancelled.
function fs.is_dir(path)
  path = path_argument(path, 1, "is_dir")
  local err, kind = binding.type(path)
  if err ~= nil then raise(err) end
  return kind == "directory"
end

--- The names in a folder, sorted, without "." and "..".
---@async
---@param path string
---@return string[]
-- Errors: OSError with ENOENT, ENOTDIR, EACCES and others; Cancelled.
function fs.list(path)
  path = path_argument(path, 1, "list")
  local err, names = binding.list(path)
  if err ~= nil then raise(err) end
  return names
end

-- ---- changes ------------------------------------------------------------------------------------

local REMOVE_OPTIONS = { recursive = true, missing_ok = true }

--- Removes a file, a link, or an empty folder.
---@async
---@param path string
---@param options? table  `recursive=true`: a folder with all that is in it, without following
-- links; `missing_ok=true`: no error if there is nothing
-- Errors: OSError with ENOENT, ENOTEMPTY, EACCES and others; Cancelled.
function fs.remove(path, options)
  path = path_argument(path, 1, "remove")
  options = check.options(options, REMOVE_OPTIONS, 2, "remove")
  local err = binding.remove(path, options.recursive, options.missing_ok)
  if err ~= nil then raise(err) end
end

local MKDIR_OPTIONS = { parents = true, mode = true }

--- Makes a folder.
---@async
---@param path string
---@param options? table  `parents=true`: those above it too, and no error if it is there; `mode`:
-- permissions, a number or an octal string, 0777 less the umask by default
-- Errors: OSError with EEXIST, ENOENT, EACCES and others; Cancelled.
function fs.mkdir(path, options)
  path = path_argument(path, 1, "mkdir")
  options = check.options(options, MKDIR_OPTIONS, 2, "mkdir")
  local mode = permissions(options.mode, 511, "mode", "mkdir")
  local err = binding.mkdir(path, options.parents, mode)
  if err ~= nil then raise(err) end
end

--- Gives a file or a folder another name; a file of that name is replaced.
---@async
---@param from string
---@param to string
-- Errors: OSError with `path` and `dest`; Cancelled.
function fs.rename(from, to)
  from = path_argument(from, 1, "rename")
  to = path_argument(to, 2, "rename")
  local err = binding.rename(from, to)
  if err ~= nil then raise(err) end
end

--- The folder for temporary files: TMPDIR, or /tmp.
---@return string
fs.tempdir = binding.tempdir

--- Makes a new folder that only this user may enter.
---@async
---@param prefix? string  of its name; without a "/" it lands in tempdir()
---@return string  its path
-- Errors: OSError; Cancelled.
-- Source: POSIX mkdtemp.
function fs.mkdtemp(prefix)
  prefix = prefix == nil and "rille-" or path_argument(prefix, 1, "mkdtemp")
  if not find(prefix, "/", 1, true) then prefix = binding.tempdir() .. "/" .. prefix end
  local err, path = binding.mkdtemp(prefix .. "XXXXXX")
  if err ~= nil then raise(err) end
  return path
end

for name, fn in pairs(fs) do
  if name ~= "tempdir" then
    report.describe(fn, function(path) return ("fs.%s of '%s'"):format(name, tostring(path)) end)
  end
end

return fs
