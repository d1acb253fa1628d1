--- Files of a folder that the system has in its cache: they are sent without a trip to the pool of
-- threads, which costs more than the rest of a request. What is not there is read as any file.
local binding = require "rille.core.cached_file"
local adopt = require("rille.fs.file").adopt

local take = binding.take
local setmetatable = setmetatable
local format, min = string.format, math.min

local PIECE = 262144 -- bytes read at once
-- What a socket is given that takes no more: when it has gone, there is room for more of the file.
local FULL = 65536

local M = {
  -- Files up to that are read in one go.
  SMALL = 65536,
}

---@class CachedFile
---@package
local Cached = {}
Cached.__index = Cached

--- Looks for a file, with a folder for one that lies within it, links included.
---@param root string?  the folder's real path
---@param path string  relative to the folder, if there is one
---@return table? stat  `size`, `mtime`, `type`; nil if it has to be looked for in another way
---@return string|CachedFile content
function M.take(root, path)
  local size, mtime, content = take(root, path, M.SMALL)
  if not size then return nil end
  local stat = { size = size, mtime = mtime, type = "file" }
  if type(content) == "string" then return stat, content end
  if root then path = root .. "/" .. path end
  return stat, setmetatable({ path = path, _file = content, _stat = stat }, Cached)
end

function M.is_cached(value) return getmetatable(value) == Cached end

-- What the system has not in its cache, by way of the pool.
local function fetch(self, at, size)
  local file = self._open or adopt(self.path, self._file:descriptor())
  self._open = file
  file:seek("set", at)
  local data = file:read(size)
  if data then return data end
  error(format("the file '%s' became shorter while it was sent", self.path), 0)
end

--- Sends a part; false if the peer has gone.
---@async
function Cached:send(conn, at, length, encoder)
  local file = self._file
  local send_file = not encoder and conn.send_file
  while length > 0 do
    if send_file then
      local n = send_file(conn, file, at, length)
      if not n then return false end
      at, length = at + n, length - n
    end
    if length > 0 then
      local size = min(length, send_file and FULL or PIECE)
      local data = file:read(at, size) or fetch(self, at, size)
      at, length = at + #data, length - #data
      if encoder then data = length == 0 and encoder:finish(data) or encoder:write(data) end
      if data ~= "" and not conn:send(data) then return false end
    end
  end
  return true
end

function Cached:close()
  self._file:close()
  if self._open then self._open:close() end
end

return M
