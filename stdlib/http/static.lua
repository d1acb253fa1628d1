--- Files of a folder, and nothing else: whatever a path says, what is sent lies within it.
local fs = require "rille.fs"
local open_beneath = require("rille.fs.file").open_beneath
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local response = require "rille.http.response"
local cached = require "rille.http.cached"

local xpcall = require("rille.core.protect").xpcall
local keep_trace, rethrow = task.keep_trace, task.rethrow
local rawget, type, ipairs, tonumber = rawget, type, ipairs, tonumber
local find, byte, format = string.find, string.byte, string.format

local KNOWN = { index = true, dotfiles = true, max_age = true, precompressed = true }
-- What stands for "there is no such file", whatever the reason.
local ABSENT = { ENOENT = true, ENOTDIR = true, ELOOP = true, ENAMETOOLONG = true, EINVAL = true }
local ENCODINGS = { { "br", ".br" }, { "zstd", ".zst" }, { "gzip", ".gz" } }

-- Calls a function of rille.fs; nil if there is nothing.
local function or_nothing(fn, ...)
  local ok, result, more = xpcall(fn, keep_trace, ...)
  if ok then return result, more end
  if errors.is(result, "OSError") and ABSENT[result.code] then return nil end
  if errors.is(result, "OSError") and result.code == "EACCES" then response.abort(403) end
  return rethrow(result)
end

-- The segments as a path below the folder; nil for what cannot be one.
local function relative_path(segments, first, dotfiles)
  local parts = {}
  for i = first, #segments do
    local segment = segments[i]
    local is_last = i == #segments
    if segment == "" and not is_last or segment == "." or segment == ".."
      or find(segment, "[/%z]") or byte(segment) == 46 and not dotfiles then
      return nil
    end
    parts[#parts + 1] = segment
  end
  return table.concat(parts, "/")
end

-- Whether the client takes an encoding.
local function accepts(header, encoding)
  for item in header:gmatch "[^,]+" do
    local name, rest = item:match "^%s*([^;%s]+)(.*)$"
    if name and name:lower() == encoding then
      local q = rest:match "[qQ]=([%d.]+)"
      return not q or (tonumber(q) or 0) > 0
    end
  end
  return false
end

---@param prefix string
---@param dir string
---@param options? table
return function(prefix, dir, options)
  prefix = check.string(prefix, 1, "static")
  if find(prefix, "[{}]") then check.bad(1, "static", "parameters in the prefix") end
  dir = check.string(dir, 2, "static")
  if dir == "" or find(dir, "\0", 1, true) then
    check.bad(2, "static", "path of a folder expected")
  end
  options = check.options(options, KNOWN, 3, "static")
  local index = options.index
  if index == nil then index = "index.html" end
  if index and (type(index) ~= "string" or find(index, "[/%z]")) then
    check.bad("index", "static", "name of a file expected")
  end
  local max_age = options.max_age
  if max_age ~= nil then max_age = check.count(max_age, 0, "max_age", "static") end
  local root

  -- The response with a file that the system has in its cache; nil if it has to be looked for.
  local function from_cache(req, path)
    if options.precompressed and req.headers["accept-encoding"] then return nil end
    local stat, content = cached.take(root, path)
    if not stat then return nil end
    local headers = {}
    if max_age then headers["Cache-Control"] = format("max-age=%d", max_age) end
    if options.precompressed then headers.Vary = "Accept-Encoding" end
    local full = root .. "/" .. path
    return response.new { status = 200, file = full, headers = headers, _type_path = path,
      _path = full, _stat = stat, _content = content }
  end

  -- The file of the same name that is compressed in a way that the client takes.
  local function open_encoded(req, path, headers)
    headers.Vary = "Accept-Encoding"
    local header = req.headers["accept-encoding"]
    if not header then return nil end
    for _, entry in ipairs(ENCODINGS) do
      if accepts(header, entry[1]) then
        local file, stat = or_nothing(open_beneath, root, path .. entry[2])
        if file then
          headers["Content-Encoding"] = entry[1]
          return file, stat
        end
      end
    end
  end

  return function(req)
    root = root or or_nothing(fs.realpath, dir)
    local path = root and relative_path(rawget(req, "_segments"), rawget(req, "_at"),
      options.dotfiles)
    if not path then return 404 end
    local wants_folder = path == "" or byte(path, -1) == 47
    if wants_folder then
      if not index then return 404 end
      path = path .. index
    end
    local ready = from_cache(req, path)
    if ready then return ready end
    local file, stat = or_nothing(open_beneath, root, path)
    if stat == "directory" and not wants_folder and index then
      local found = or_nothing(open_beneath, root, path .. "/" .. index)
      if not found then return 404 end
      found:close()
      local query = req.target:match "%?.*$" or ""
      return response.redirect(req.raw_path .. "/" .. query, 301)
    end
    -- Neither a folder, nor a device, nor a FIFO.
    if not file then return 404 end
    local headers = {}
    if max_age then headers["Cache-Control"] = format("max-age=%d", max_age) end
    if options.precompressed then
      local other, other_stat = open_encoded(req, path, headers)
      if other then
        file:close()
        file, stat = other, other_stat
      end
    end
    return response.new { status = 200, file = file.path, headers = headers, _type_path = path,
      _path = file.path, _stat = stat, _content = file }
  end
end
