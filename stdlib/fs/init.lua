--- rille.fs: files and folders. Whatever may block runs on a pool of threads; a whole file is one
-- trip there. Failures are OSErrors that name the call and the path.
local binding = require "rille.core.fs"
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local check = require "rille.core.check"
local report = require "rille.core.report"
local file = require "rille.fs.file"
local arguments = require "rille.fs.arguments"

local raise = task.raise
local type, find, tostring, pairs = type, string.find, tostring, pairs

for _, fn in pairs(binding) do core.transparent[fn] = true end

local fs = {}

local path_argument, permissions = arguments.path_argument, arguments.permissions

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

---@class rille.fs.WriteOptions
---@field mode? integer|string  permissions of a new file, octal if a string; 0666 less the umask
---@field append? boolean  behind what is in it; not with `atomic`
---@field atomic? boolean  others see the old content or the new, whole, and so does a crashed disk

--- Writes a file, in the place of what was in it.
---@async
---@param path string
---@param data string|number
---@param options? rille.fs.WriteOptions
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

---@class rille.fs.Stat
---@field type "file"|"directory"|"link"|"fifo"|"socket"|"char"|"block"
---@field size integer  bytes
---@field mode integer  permission bits
---@field uid integer  the owner
---@field gid integer  the group
---@field ino integer
---@field dev integer
---@field rdev integer
---@field nlink integer  how many names it has
---@field blocks integer  of 512 bytes
---@field blksize integer
---@field atime number  seconds since 1970, with fractions: last read
---@field mtime number  last written
---@field ctime number  last changed in any way
---@field birthtime number  made

--- What the system knows of a file; links are followed.
---@async
---@param path string
---@return rille.fs.Stat
-- Errors: OSError; Cancelled.
function fs.stat(path)
  path = path_argument(path, 1, "stat")
  local err, stat = binding.stat(path)
  if err ~= nil then raise(err) end
  return stat
end

--- What the system knows of a file; of a link itself, if it is one.
---@async
---@param path string
---@return rille.fs.Stat
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

--- True if the user that the process runs for may do all of this; links are followed.
---@async
---@param path string
---@param mode? string  of "r" (read), "w" (write), "x" (execute, or enter a folder); without it
-- whether there is something
---@return boolean
-- Errors: Cancelled.
-- Source: POSIX access.
function fs.access(path, mode)
  path = path_argument(path, 1, "access")
  mode = mode == nil and "" or check.string(mode, 2, "access")
  if find(mode, "[^rwx]") then
    check.bad(2, "access", ("letters of 'rwx' expected, got '%s'"):format(mode))
  end
  local function has(letter) return find(mode, letter, 1, true) ~= nil end
  local err, granted = binding.access(path, has "r", has "w", has "x")
  if err ~= nil then raise(err) end
  return granted
end

--- Where a link leads, as it was made.
---@async
---@param path string
---@return string
-- Errors: OSError with EINVAL (no link), ENOENT and others; Cancelled.
-- Source: POSIX readlink.
function fs.readlink(path)
  path = path_argument(path, 1, "readlink")
  local err, target = binding.readlink(path)
  if err ~= nil then raise(err) end
  return target
end

--- The absolute path, without links, `.` and `..`.
---@async
---@param path string
---@return string
-- Errors: OSError with ENOENT, ELOOP and others; Cancelled.
-- Source: POSIX realpath.
function fs.realpath(path)
  path = path_argument(path, 1, "realpath")
  local err, real = binding.realpath(path)
  if err ~= nil then raise(err) end
  return real
end

--- The working directory of the process.
---@return string
-- Errors: OSError with ENOENT if it was removed.
function fs.cwd()
  local path, err = binding.cwd()
  if err ~= nil then raise(err) end
  return path
end

--- The folder for temporary files: TMPDIR, or /tmp.
---@return string
fs.tempdir = binding.tempdir

--- Makes a new file that only this user may read and write, and opens it.
---@async
---@param prefix? string  of its name; without a "/" it lands in tempdir()
---@return File
---@return string  its path
-- Errors: OSError; Cancelled.
-- Source: POSIX mkstemp.
fs.mkstemp = file.mkstemp

for _, part in ipairs {
  require "rille.fs.change", require "rille.fs.folder", require "rille.fs.watch",
} do
  for name, fn in pairs(part) do fs[name] = fn end
end

for name, fn in pairs(fs) do
  if name ~= "tempdir" and name ~= "cwd" then
    report.describe(fn, function(path) return ("fs.%s of '%s'"):format(name, tostring(path)) end)
  end
end

return fs
