--- Open files: Lua's own, but for calls that wait instead of blocking and errors that are raised.
-- What is read ahead and what is not yet written is kept by the binding; reading a line of what is
-- there is a call into C, and only when there is too little a trip to the pool.
local binding = require "rille.core.file"
local fs_binding = require "rille.core.fs"
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local report = require "rille.core.report"
local main = require "rille.core.main"
local arguments = require "rille.fs.arguments"

local fill, flush, write = binding.fill, binding.flush, binding.write
local take_line, take_bytes = binding.take_line, binding.take_bytes
local take_all, take_number = binding.take_all, binding.take_number
local wait, wake_one, wake_all = core.wait, core.wake_one, core.wake_all
local give_way = core.give_way
local raise = task.raise
local type, select, unpack, setmetatable, getmetatable, tostring, pairs =
  type, select, unpack, setmetatable, getmetatable, tostring, pairs
local huge = math.huge

for _, fn in pairs(binding) do core.transparent[fn] = true end

local path_argument, permissions = arguments.path_argument, arguments.permissions

local M = {}

-- ---- File ---------------------------------------------------------------------------------------

---@class File
local File = {}
local FileMeta = { __index = File, __name = "File" }

FileMeta.__tostring = function(self)
  return ("File: %s%s"):format(self.path, self._closed and " (closed)" or "")
end

-- Files that may have something in their buffer when the program ends.
local written = setmetatable({}, { __mode = "k" })

local function check_self(self, name)
  if type(self) ~= "table" or getmetatable(self) ~= FileMeta then
    check.bad(1, name, "File expected, got " .. (self == nil and "nil" or type(self)), 1)
  end
  if self._closed then
    errors._raise("InvalidStateError", ("%s: the file '%s' is closed"):format(name, self.path))
  end
end

-- One task at a time. Not an async.Lock: closing the file ends the waits of all.
local function enter(self, name)
  if not self._busy then
    self._busy = true
    return
  end
  local err = wait(self._list)
  if err ~= nil then raise(err, 2) end
  if self._closed then
    errors._raise("InvalidStateError", ("%s: the file '%s' was closed"):format(name, self.path))
  end
end

local function leave(self)
  if not wake_one(self._list) then self._busy = false end
end

-- Ends what `enter` began; `err` is what the wait in between gave.
local function finish(self, err, ...)
  leave(self)
  if err ~= nil then raise(err, 2) end
  return ...
end

-- ---- reading ------------------------------------------------------------------------------------

-- What a format takes: one of the binding's functions, and its argument.
local FORMATS = {}
for names, entry in pairs {
  ["l line"] = { take_line, false }, ["L"] = { take_line, true }, ["a all"] = { take_all },
  ["n number"] = { take_number },
} do
  for name in names:gmatch "%a+" do FORMATS[name], FORMATS["*" .. name] = entry, entry end
end

local function format_argument(format, position, name)
  if type(format) == "number" then
    if not (format >= 0 and format % 1 == 0 and format < 2 ^ 31) then
      check.bad(position, name, ("a size expected, got %s"):format(tostring(format)), 1)
    end
    return take_bytes, format
  end
  local entry = FORMATS[format]
  if not entry then
    if type(format) == "string" then
      check.bad(position, name, ("invalid format '%s'"):format(format), 1)
    end
    check.bad(position, name, "string expected, got " .. type(format), 1)
  end
  return entry[1], entry[2]
end

-- Takes one thing, reading on until it is there. Returns the error of a wait, or nil and the thing.
local function take(handle, fn, argument)
  local missing, value = fn(handle, false, argument)
  while missing ~= 0 do
    local err, ended, turn = fill(handle, missing)
    if turn then err = give_way() end
    if err ~= nil then return err end
    missing, value = fn(handle, ended, argument)
  end
  return nil, value
end

-- Several formats: if it ends early, what was taken is given back.
local function take_several(handle, formats)
  binding.hold(handle)
  local results, n = {}, 0
  for i = 1, #formats, 2 do
    local err, value = take(handle, formats[i], formats[i + 1])
    if err ~= nil then
      binding.release(handle, true)
      return err
    end
    n = n + 1
    results[n] = value
    if value == nil then break end
  end
  binding.release(handle, false)
  return nil, unpack(results, 1, n)
end

local function formats_of(name, ...)
  local formats = {}
  for i = 1, select("#", ...) do
    local fn, argument = format_argument(select(i, ...), i, name)
    formats[2 * i - 1], formats[2 * i] = fn, argument or false
  end
  return formats
end

--- Reads what the formats say, a line without any; nil in the place of what is not there any more.
---@async
---@param format? string|integer  "l" a line, "L" with its end, "a" all, "n" a number; an integer:
-- so many bytes, unless the end comes first
---@param ... string|integer  further formats
---@return ...  a value for each
-- Errors: OSError with EBADF (not open for reading) and others; InvalidStateError if it is closed;
-- Cancelled: nothing is lost, the next read begins where this one did.
-- Source: Lua's file:read.
function File:read(format, ...)
  check_self(self, "read")
  if select("#", ...) > 0 then
    local formats = formats_of("read", format, ...)
    enter(self, "read")
    return finish(self, take_several(self._handle, formats))
  end
  local fn, argument = take_line, false
  if format ~= nil then fn, argument = format_argument(format, 1, "read") end
  if not self._busy then
    -- What is there needs no wait, and so no turn.
    local missing, value = fn(self._handle, false, argument)
    if missing == 0 then return value end
  end
  enter(self, "read")
  return finish(self, take(self._handle, fn, argument))
end

-- ---- iterators ----------------------------------------------------------------------------------

local Lines = { __name = "Lines" }
Lines.__index = Lines

local Chunks = { __name = "Chunks" }
Chunks.__index = Chunks

local function finish_turn(self, first, ...)
  if first == nil then self._file = false end
  return first, ...
end

--- The next line; nil at the end.
---@async
function Lines:__call()
  local file = self._file
  if not file then return nil end
  if self._several then return finish_turn(self, file:read(unpack(self._several))) end
  check_self(file, "lines")
  local fn, argument = self._take, self._argument
  if not file._busy then
    local missing, value = fn(file._handle, false, argument)
    if missing == 0 then return value end
  end
  enter(file, "lines")
  return finish_turn(self, finish(file, take(file._handle, fn, argument)))
end

--- Ends the iteration. The file stays open, and stands behind what was handed out.
function Lines:close() self._file = false end

--- An iterator over lines, or what else `read` takes: `for line in file:lines() do`.
---@param ... string|integer  formats, as for `read`; "l" by default
---@return fun(): any  with `close()`
-- Errors: those of `read`, in the loop.
-- Source: Lua's file:lines.
function File:lines(...)
  check_self(self, "lines")
  local n = select("#", ...)
  if n > 1 then
    formats_of("lines", ...)
    return setmetatable({ _file = self, _several = { ... } }, Lines)
  end
  local fn, argument = take_line, false
  if n == 1 then fn, argument = format_argument((...), 1, "lines") end
  return setmetatable({ _file = self, _take = fn, _argument = argument }, Lines)
end

Chunks.__call = Lines.__call
Chunks.close = Lines.close

--- An iterator over pieces of the file: `for chunk in file:chunks() do`.
---@param size? integer  bytes, 65536 by default; the last piece may be shorter
---@return fun(): string?  with `close()`
-- Errors: those of `read`, in the loop.
function File:chunks(size)
  check_self(self, "chunks")
  size = size == nil and 65536 or check.count(size, 1, 1, "chunks")
  return setmetatable({ _file = self, _take = take_bytes, _argument = size }, Chunks)
end

-- ---- writing ------------------------------------------------------------------------------------

local BUFFERED, FULL, BUSY = 0, 1, 2

local function write_slowly(self, state, ...)
  while state == BUSY do
    local err = flush(self._handle)
    if err ~= nil then return err end
    state = write(self._handle, ...)
  end
  if state == FULL then return (flush(self._handle)) end
  if state ~= BUFFERED then return state end
end

--- Writes texts. They go into a buffer first, which is put out when it is full, by `flush`,
-- `close`, `seek` and `read`, and when the program ends.
---@async
---@param ... string|number
---@return File
-- Errors: OSError with EBADF (not open for writing), ENOSPC and others; InvalidStateError if it is
-- closed; Cancelled: it is written nevertheless.
-- Source: Lua's file:write.
function File:write(...)
  check_self(self, "write")
  local waited = self._busy
  if waited then enter(self, "write") end
  local state = write(self._handle, ...)
  if state == BUFFERED then
    if waited then leave(self) end
    return self
  end
  if type(state) == "number" and state < 0 then
    if waited then leave(self) end
    local value = select(-state, ...)
    check.bad(-state, "write", "string expected, got " .. (value == nil and "nil" or type(value)))
  end
  if not waited then self._busy = true end
  finish(self, write_slowly(self, state, ...))
  return self
end

--- Hands what was written over to the system.
---@async
---@return File
-- Errors: OSError with ENOSPC and others; InvalidStateError if it is closed; Cancelled.
function File:flush()
  check_self(self, "flush")
  enter(self, "flush")
  finish(self, flush(self._handle))
  return self
end

--- Hands what was written over to the system, and waits until it is on the disk.
---@async
---@return File
-- Errors: as flush.
-- Source: POSIX fsync.
function File:sync()
  check_self(self, "sync")
  enter(self, "sync")
  finish(self, binding.sync(self._handle))
  return self
end

local WHENCE = { set = true, cur = true, ["end"] = true }

--- Moves the position.
---@async
---@param whence? string  where `offset` counts from: "set", "cur" (default), "end"
---@param offset? integer  bytes, 0 by default
---@return integer  the new position
-- Errors: OSError with EINVAL (before the beginning), ESPIPE (a FIFO); InvalidStateError if it is
-- closed; Cancelled.
-- Source: Lua's file:seek.
function File:seek(whence, offset)
  check_self(self, "seek")
  whence = whence == nil and "cur" or check.string(whence, 1, "seek")
  if not WHENCE[whence] then check.bad(1, "seek", ("invalid option '%s'"):format(whence)) end
  offset = offset == nil and 0 or check.count(offset, -huge, 2, "seek")
  enter(self, "seek")
  return finish(self, binding.seek(self._handle, whence, offset))
end

--- Cuts the file off, or lengthens it with zeros; the position stays.
---@async
---@param size integer
---@return File
-- Errors: OSError; InvalidStateError if it is closed; Cancelled.
-- Source: POSIX ftruncate.
function File:truncate(size)
  check_self(self, "truncate")
  size = check.count(size, 0, 1, "truncate")
  enter(self, "truncate")
  finish(self, binding.truncate(self._handle, size))
  return self
end

--- What the system knows of the file.
---@async
---@return rille.fs.Stat
-- Errors: OSError; InvalidStateError if it is closed; Cancelled.
function File:stat()
  check_self(self, "stat")
  enter(self, "stat")
  return finish(self, binding.stat(self._handle))
end

--- Puts out what was written, and closes the file. Whoever waits in it gets an InvalidStateError. A
-- second time does nothing.
---@async
-- Errors: OSError with ENOSPC and others; the file is closed nevertheless. Cancelled: likewise.
function File:close()
  if type(self) ~= "table" or getmetatable(self) ~= FileMeta then
    check.bad(1, "close", "File expected, got " .. (self == nil and "nil" or type(self)))
  end
  if self._closed then return end
  -- Where waiting is impossible, nothing must have begun.
  local err = core.check_wait()
  if type(err) == "string" then raise(err) end
  self._closed = true
  wake_all(self._list)
  err = binding.close(self._handle)
  if err ~= nil then raise(err) end
end

for _, name in ipairs { "read", "write", "flush", "sync", "seek", "truncate", "stat", "close" } do
  report.describe(File[name], function(self) return ("%s of '%s'"):format(name, self.path) end)
end
report.describe(Lines.__call, function(self)
  return ("a read of '%s'"):format(self._file and self._file.path or "?")
end)

-- ---- opening ------------------------------------------------------------------------------------

-- The binding's letters.
local MODES = {}
for mode, letters in pairs {
  ["r"] = "r", ["r+"] = "rw", ["w"] = "wtc", ["w+"] = "rwtc", ["a"] = "wac", ["a+"] = "rwac",
  ["x"] = "wcx", ["x+"] = "rwcx", ["wx"] = "wcx", ["wx+"] = "rwcx", ["w+x"] = "rwcx",
} do
  MODES[mode], MODES[mode .. "b"] = letters, letters
  MODES[(mode:gsub("^(%a)", "%1b"))] = letters
end

local function new_file(path, handle, writable)
  local file = setmetatable({
    path = path, _handle = handle, _busy = false, _closed = false, _list = core.WaitList(),
  }, FileMeta)
  if writable then written[file] = true end
  return file
end

function M.open(path, mode, perm)
  path = path_argument(path, 1, "open")
  mode = mode == nil and "r" or check.string(mode, 2, "open")
  local letters = MODES[mode]
  if not letters then check.bad(2, "open", ("invalid mode '%s'"):format(mode)) end
  perm = permissions(perm, 438, 3, "open")
  local err, handle = binding.open(path, letters, perm)
  if err ~= nil then raise(err) end
  return new_file(path, handle, letters:find("w", 1, true))
end

--- Opens a plain file that lies within a folder, links included, whoever changes them meanwhile.
---@async
---@param root string  the folder's real path
---@param path string  relative
---@return File?, table|string  its `type`, `size` and `mtime`; for anything else nil and its type
-- Errors: OSError; ENOENT also for what lies elsewhere.
function M.open_beneath(root, path)
  local err, kind, handle, size, mtime = binding.open_beneath(root, path)
  if err ~= nil then raise(err) end
  if kind ~= "file" then return nil, kind end
  return new_file(root .. "/" .. path, handle, false), { type = kind, size = size, mtime = mtime }
end

--- A plain file by a descriptor that somebody else has, and which it does not close.
---@param path string
---@param descriptor integer
---@return File
function M.adopt(path, descriptor)
  local err, handle = binding.adopt(path, descriptor)
  if err ~= nil then raise(err) end
  return new_file(path, handle, false)
end

function M.mkstemp(prefix)
  local err, handle, path = binding.mkstemp(arguments.temp_template(prefix, "mkstemp"))
  if err ~= nil then raise(err) end
  return new_file(path, handle, true), path
end

-- ---- the end of the program ---------------------------------------------------------------------

-- What nobody has flushed goes out, as in Lua; there is no loop any more to wait on.
main.at_end(function()
  if not fs_binding.wait_for_writers() then
    report.lost = report.lost + 1
    report.report { message = "what is being written to files takes too long, and is lost" }
    return
  end
  for file in pairs(written) do
    local err = not file._closed and binding.put_out(file._handle)
    if err then
      report.lost = report.lost + 1
      report.report { message = "what was written to a file is lost", error = err }
    end
  end
end)

return M
