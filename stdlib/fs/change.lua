--- Changes of what is in folders, and of what the system knows of files.
local binding = require "rille.core.fs"
local task = require "rille.core.task"
local check = require "rille.core.check"
local arguments = require "rille.fs.arguments"

local raise, path_argument, permissions = task.raise, arguments.path_argument, arguments.permissions

local M = {}

local REMOVE_OPTIONS = { recursive = true, missing_ok = true }

---@class rille.fs.RemoveOptions
---@field recursive? boolean  a folder with all that is in it; links are not followed
---@field missing_ok? boolean  no error if there is nothing

--- Removes a file, a link, or an empty folder.
---@async
---@param path string
---@param options? rille.fs.RemoveOptions
-- Errors: OSError with ENOENT, ENOTEMPTY, EACCES and others; Cancelled.
function M.remove(path, options)
  path = path_argument(path, 1, "remove")
  options = check.options(options, REMOVE_OPTIONS, 2, "remove")
  local err = binding.remove(path, options.recursive, options.missing_ok)
  if err ~= nil then raise(err) end
end

local MKDIR_OPTIONS = { parents = true, mode = true }

---@class rille.fs.MkdirOptions
---@field parents? boolean  those above it too, and no error if it is there
---@field mode? integer|string  permissions, octal if a string; 0777 less the umask by default

--- Makes a folder.
---@async
---@param path string
---@param options? rille.fs.MkdirOptions
-- Errors: OSError with EEXIST, ENOENT, EACCES and others; Cancelled.
function M.mkdir(path, options)
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
function M.rename(from, to)
  from = path_argument(from, 1, "rename")
  to = path_argument(to, 2, "rename")
  local err = binding.rename(from, to)
  if err ~= nil then raise(err) end
end

--- Copies a file's content and permissions. The copy takes its place when it is complete: after an
-- error or a cancellation there is what was there before.
---@async
---@param from string  a plain file, or a link to one
---@param to string  a file of that name is replaced, a device written to
-- Errors: OSError with `path` and `dest`: EISDIR, EINVAL (onto itself, or not a plain file), ENOSPC
-- and others; Cancelled.
function M.copy(from, to)
  from = path_argument(from, 1, "copy")
  to = path_argument(to, 2, "copy")
  local err = binding.copy(from, to)
  if err ~= nil then raise(err) end
end

--- Gives a file one more name.
---@async
---@param old string
---@param new string  must not exist
-- Errors: OSError with `path` and `dest`: EEXIST, EXDEV, EPERM (a folder) and others; Cancelled.
-- Source: POSIX link.
function M.link(old, new)
  old = path_argument(old, 1, "link")
  new = path_argument(new, 2, "link")
  local err = binding.link(old, new)
  if err ~= nil then raise(err) end
end

--- Makes a symbolic link.
---@async
---@param target string  where it leads, seen from its own folder; it need not exist
---@param path string  must not exist
-- Errors: OSError with `path` (the target) and `dest`: EEXIST and others; Cancelled.
-- Source: POSIX symlink.
function M.symlink(target, path)
  target = path_argument(target, 1, "symlink")
  path = path_argument(path, 2, "symlink")
  local err = binding.symlink(target, path)
  if err ~= nil then raise(err) end
end

--- Sets permissions; links are followed.
---@async
---@param path string
---@param mode integer|string  a number, or an octal string
-- Errors: OSError with EPERM and others; Cancelled.
-- Source: POSIX chmod.
function M.chmod(path, mode)
  path = path_argument(path, 1, "chmod")
  if mode == nil then check.bad(2, "chmod", "permissions expected, got nil") end
  mode = permissions(mode, nil, 2, "chmod")
  local err = binding.chmod(path, mode)
  if err ~= nil then raise(err) end
end

--- Sets the owner and the group; links are followed.
---@async
---@param path string
---@param uid? integer  nil leaves it as it is
---@param gid? integer  nil leaves it as it is
-- Errors: OSError with EPERM and others; Cancelled.
-- Source: POSIX chown.
function M.chown(path, uid, gid)
  path = path_argument(path, 1, "chown")
  uid, gid = arguments.id(uid, 2, "chown"), arguments.id(gid, 3, "chown")
  local err = binding.chown(path, uid, gid)
  if err ~= nil then raise(err) end
end

--- Sets the times of the last access and the last change; links are followed.
---@async
---@param path string
---@param atime? number  seconds since 1970; nil: now
---@param mtime? number  likewise
-- Errors: OSError with ENOENT, EPERM and others; Cancelled.
-- Source: POSIX utimensat.
function M.utime(path, atime, mtime)
  path = path_argument(path, 1, "utime")
  atime, mtime = arguments.time(atime, 2, "utime"), arguments.time(mtime, 3, "utime")
  local err = binding.utime(path, atime, mtime)
  if err ~= nil then raise(err) end
end

--- Makes a new folder that only this user may enter.
---@async
---@param prefix? string  of its name; without a "/" it lands in tempdir()
---@return string  its path
-- Errors: OSError; Cancelled.
-- Source: POSIX mkdtemp.
function M.mkdtemp(prefix)
  local err, path = binding.mkdtemp(arguments.temp_template(prefix, "mkdtemp"))
  if err ~= nil then raise(err) end
  return path
end

--- Changes the working directory of the process, where relative paths begin.
---@async
---@param path string
-- Errors: OSError with ENOENT, ENOTDIR, EACCES and others; Cancelled.
function M.chdir(path)
  path = path_argument(path, 1, "chdir")
  local err = binding.chdir(path)
  if err ~= nil then raise(err) end
end

return M
