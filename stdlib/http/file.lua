--- Files as responses: conditions, ranges, and what tells versions apart. Reading goes through the
-- pool of threads, in pieces, so that files may be larger than memory.
local fs = require "rille.fs"
local task = require "rille.core.task"
local errors = require "rille.errors"
local date = require "rille.http.date"
local cached = require "rille.http.cached"
local ranges = require "rille.http.ranges"
local compression = require "rille.http.compression"
local type_of = require "rille.http.types"
local SETTINGS = require("rille.http.request").SETTINGS

local xpcall = require("rille.core.protect").xpcall
local shielded = require("rille.async.cleanup").shielded
local keep_trace, rethrow = task.keep_trace, task.rethrow
local type, ipairs = type, ipairs
local format, floor, min, random = string.format, math.floor, math.min, math.random

local trim = require("rille.http.fields").trim

local PIECE = 262144 -- bytes read at once

local M = {}

-- ---- conditions ---------------------------------------------------------------------------------

-- A field among lines, by its name in lower case.
local function field(lines, name)
  local first, last = ("\n" .. lines):lower():find("\n" .. name:gsub("%-", "%%-") .. ":[^\r]*")
  if not first then return nil end
  return trim(lines:sub(first + #name + 1, last - 1))
end

-- Whether a list of tags names this one. Weakly: what is semantically the same is enough.
local function names_tag(list, tag, weakly)
  if list:match "^%s*%*%s*$" then return true end
  for weak, found in list:gmatch '(W?/?)("[^"]*")' do
    local is_strong = weak == "" and tag:sub(1, 2) ~= "W/"
    if found == tag:gsub("^W/", "") and (weakly or is_strong) then return true end
  end
  return false
end

-- 412, 304, or nil if the request is to be performed.
-- Source: RFC 9110, section 13.2.2.
local function judge(req, tag, modified)
  local headers = req.headers
  local list = headers["if-match"]
  if list then
    if not names_tag(list, tag, false) then return 412 end
  else
    local since = headers["if-unmodified-since"]
    since = since and date.parse(since)
    if since and modified > since then return 412 end
  end
  list = headers["if-none-match"]
  if list then
    if names_tag(list, tag, true) then return 304 end
  else
    local since = headers["if-modified-since"]
    since = since and date.parse(since)
    if since and modified <= since then return 304 end
  end
  return nil
end

-- The parts of a file that are asked for: see rille.http.ranges.
local function ranges_of(req, size, tag, modified)
  local text = req.headers.range
  if not text or req.method ~= "GET" then return nil end
  local condition = req.headers["if-range"]
  if condition then
    local time = date.parse(condition)
    if time then
      if time ~= modified then return nil end
    elseif condition ~= tag or tag:sub(1, 2) == "W/" then
      return nil
    end
  end
  return ranges.read(text, size)
end

-- ---- sending ------------------------------------------------------------------------------------

-- Sends `length` bytes from where the file stands; false if the peer has gone.
local function send_piece_by_piece(conn, file, length, encoder)
  while length > 0 do
    local data = file:read(min(length, PIECE))
    if not data then
      error(format("the file '%s' became shorter while it was sent", file.path), 0)
    end
    length = length - #data
    if encoder then data = length == 0 and encoder:finish(data) or encoder:write(data) end
    if data ~= "" and not conn:send(data) then return false end
  end
  return true
end

-- Several parts: each gets a head, the last one an end too. Gives the type and length of it all.
local function add_heads(parts, size, content_type)
  local boundary = format("%08x%08x%08x", random(0, 2 ^ 31 - 1), random(0, 2 ^ 31 - 1),
    random(0, 2 ^ 31 - 1))
  local length = 0
  local field_of_type = content_type ~= "" and "Content-Type: " .. content_type .. "\r\n" or ""
  for i, part in ipairs(parts) do
    part.head = format("%s--%s\r\n%sContent-Range: bytes %d-%d/%d\r\n\r\n", i > 1 and "\r\n" or "",
      boundary, field_of_type, part[1], part[2], size)
    length = length + #part.head + part[2] - part[1] + 1
  end
  parts.last = format("\r\n--%s--\r\n", boundary)
  return "multipart/byteranges; boundary=" .. boundary, length + #parts.last
end

-- The same of a file that is in memory.
local function cut(data, parts)
  local list = {}
  for _, part in ipairs(parts) do
    list[#list + 1] = part.head
    list[#list + 1] = data:sub(part[1] + 1, part[2] + 1)
  end
  list[#list + 1] = parts.last
  return table.concat(list)
end

-- Sends parts of an open file; false if the peer has gone.
local function send_parts(conn, file, parts, encoder, at_start)
  local is_cached = cached.is_cached(file)
  for _, part in ipairs(parts) do
    local at, length = part[1], part[2] - part[1] + 1
    if part.head and not conn:send(part.head) then return false end
    local taken
    if is_cached then
      taken = file:send(conn, at, length, encoder)
    else
      if at > 0 or not at_start then file:seek("set", at) end
      at_start = false
      taken = send_piece_by_piece(conn, file, length, encoder)
    end
    if not taken then return false end
  end
  return not parts.last or conn:send(parts.last)
end

local function not_found(path)
  error(errors.new("HTTPError", "404 Not Found: '" .. path .. "'", { status = 404, _answer = {} }),
    0)
end

-- What a small file holds; nil if it is not the one that `stat` tells of any more.
local function small_content(file, stat)
  local data = file:read(stat.size + 1) or ""
  return #data == stat.size and data or nil
end

-- Text of the versions seen last, by time and size: most files are asked for again and again.
local versions, count = {}, 0
local MOST_VERSIONS = 1000

-- Its tag, the time of its last change, and the fields that say so.
local function make_version(stat, lines)
  local size, modified = stat.size, floor(stat.mtime)
  local added = ""
  local tag = field(lines, "etag")
  if not tag then
    tag = format('"%x-%x-%x"', size, modified, floor((stat.mtime - modified) * 1e6))
    added = "ETag: " .. tag .. "\r\n"
  end
  local given = field(lines, "last-modified")
  if given then
    modified = date.parse(given) or modified
  else
    added = added .. "Last-Modified: " .. date.format(modified) .. "\r\n"
  end
  return tag, modified, added
end

local function version_of(stat, lines)
  if lines ~= "" then return make_version(stat, lines) end
  local version = versions[stat.mtime]
  if not version or version.size ~= stat.size then
    if count == MOST_VERSIONS then versions, count = {}, 0 end
    count = count + 1
    local tag, modified, added = make_version(stat, lines)
    version = { size = stat.size, tag = tag, modified = modified, added = added }
    versions[stat.mtime] = version
  end
  return version.tag, version.modified, version.added
end

-- Sends a file: open, or what a small one holds. Gives the status and how many bytes were sent.
-- `at_start`: the file stands there.
local function send(conn, req, status, file, at_start, stat, content_type, lines, flags, type_path,
    content)
  local size = stat.size
  local tag, modified, added = version_of(stat, lines)
  lines = lines .. added
  local parts
  if status == 200 and (req.method == "GET" or req.method == "HEAD") then
    local other = judge(req, tag, modified)
    if other then
      conn:respond(other, "", nil, lines, flags)
      return other, 0
    end
    lines = lines .. "Accept-Ranges: bytes\r\n"
    parts = ranges_of(req, size, tag, modified)
  end
  if parts == false then
    conn:respond(416, "", nil, lines .. format("Content-Range: bytes */%d\r\n", size), flags)
    return 416, 0
  end
  if content_type == nil then content_type = type_of(type_path) end
  local length, encoder = size, nil
  if parts then
    status = 206
    if #parts > 1 then
      content_type, length = add_heads(parts, size, content_type)
    else
      local first, last = parts[1][1], parts[1][2]
      length = last - first + 1
      lines = lines .. format("Content-Range: bytes %d-%d/%d\r\n", first, last, size)
    end
  else
    parts = { { 0, size - 1 } }
    local policy = req[SETTINGS].compress
    if policy then
      lines, encoder = compression.choose(policy, req, status, content_type, lines, size)
      -- Ranges are of the file's bytes.
      if encoder then lines = lines:gsub("Accept%-Ranges: bytes\r\n", "") end
    end
  end
  if content then
    local data = content
    if status == 206 then data = cut(data, parts) end
    if encoder then data = encoder:finish(data) end
    conn:respond(status, data, content_type, lines, flags)
    return status, #data
  end
  local has_body = conn:start(status, not encoder and length or nil, content_type, lines, flags)
  local sent = 0
  if has_body and length > 0 then
    if not send_parts(conn, file, parts, encoder, at_start) then
      conn:cut()
      return status, 0
    end
    sent = length
  end
  conn:finish()
  return status, sent
end

-- Calls a function of rille.fs; what is not there is a 404.
local function or_not_found(fn, path)
  local ok, result = xpcall(fn, keep_trace, path)
  if ok then return result end
  local e = result
  if errors.is(e, "OSError") and (e.code == "ENOENT" or e.code == "ENOTDIR"
      or e.code == "ENAMETOOLONG" or e.code == "EISDIR") then
    not_found(path)
  end
  rethrow(e)
end

local function finish(file, ok, ...)
  local closed, e = shielded(file.close, file)
  if not ok then rethrow((...)) end
  if not closed then rethrow(e) end
  return ...
end

local function send_open(conn, req, status, file, ...)
  local stat = file:stat()
  if stat.type ~= "file" then not_found(file.path) end
  return send(conn, req, status, file, false, stat, ...)
end

-- A file that was opened just now, perhaps with what was found out about it.
local function send_fresh(conn, req, status, file, stat, ...)
  if not stat then
    stat = file:stat()
    if stat.type ~= "file" then not_found(file.path) end
  end
  if stat.size > cached.SMALL or cached.is_cached(file) then
    return send(conn, req, status, file, true, stat, ...)
  end
  local content = small_content(file, stat)
  if not content then return send_open(conn, req, status, file, ...) end
  local content_type, lines, flags, type_path = ...
  return send(conn, req, status, nil, true, stat, content_type, lines, flags, type_path, content)
end

--- Sends a file, given as a path or open; an open one is closed afterwards.
---@async
---@param conn any  the connection
---@param req Request
---@param r Response
---@param value string|File
---@return integer status, integer bytes
function M.send(conn, req, r, status, value, content_type, lines, flags)
  if type(value) == "string" then
    local type_path = r._type_path or value
    local stat, content
    -- What was found already, unless somebody has put another file in its place.
    if r._path == value then
      stat, content = r._stat, r._content
    else
      stat, content = cached.take(nil, value)
    end
    if type(content) == "string" then
      return send(conn, req, status, nil, true, stat, content_type, lines, flags, type_path,
        content)
    elseif not content then
      -- Others, such as FIFOs, might not even open.
      if or_not_found(fs.stat, value).type ~= "file" then not_found(value) end
      content = or_not_found(fs.open, value)
    end
    return finish(content, xpcall(send_fresh, keep_trace, conn, req, status, content, stat,
      content_type, lines, flags, type_path))
  elseif type(value) ~= "table" or type(value.stat) ~= "function" then
    error("file: path or File expected, got " .. type(value), 0)
  end
  return finish(value, xpcall(send_open, keep_trace, conn, req, status, value, content_type, lines,
    flags, value.path))
end

return M
