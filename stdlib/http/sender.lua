--- Responses that are sent in parts: streams, events, files.
local async = require "rille.async"
local task = require "rille.core.task"
local compression = require "rille.http.compression"
local fields = require "rille.http.fields"
local file = require "rille.http.file"
local SETTINGS = require("rille.http.request").SETTINGS

local xpcall = require("rille.core.protect").xpcall
local shielded = require("rille.async.cleanup").shielded
local is_callable = require("rille.core.check").is_callable
local keep_trace, rethrow = task.keep_trace, task.rethrow
local type, tostring, pairs, next, setmetatable, rawget = type, tostring, pairs, next, setmetatable,
  rawget
local format, gsub, find = string.format, string.gsub, string.find

local M = {
  -- Seconds of silence after which a comment tells that the stream of events is still alive.
  SSE_PAUSE = 15,
}

-- Who half-closes a connection may still want the rest of a stream; but after so many seconds
-- without anything to send, it is taken to have gone.
local PATIENCE = 1

-- ---- the peer's end -----------------------------------------------------------------------------

-- Waits until the peer has gone, and ends the scope of what is done for it.
local function watch(guard)
  local half = guard.conn:wait_end()
  if half and not guard.strict then
    local seen
    repeat
      seen = guard.sent
      async.sleep(PATIENCE)
    until guard.sent == seen
  end
  if guard.scope then guard.scope:reschedule(0) end
end

local Guard = {}
Guard.__index = Guard

function Guard:cancel()
  self.scope = nil
  self.task:cancel()
end

--- Ends the scope when the peer has gone, until it is cancelled. `strict`: also if the peer has
-- only ended its side.
function M.guard(conn, scope, strict)
  local guard = setmetatable({ conn = conn, scope = scope, strict = strict, sent = 0 }, Guard)
  guard.task = async.spawn(watch, guard)
  guard.task:set_name "watch over an HTTP connection"
  return guard
end

-- ---- sources ------------------------------------------------------------------------------------

-- Pulls out of what a script gave: a function that gives the next part, and the objects that want
-- to be closed.
local function source_of(value, what)
  local t = type(value)
  if t == "function" then return value, {} end
  local indexable = t == "table" or t == "userdata"
  local function method(object, name)
    local ok, fn = pcall(function() return object[name] end)
    return ok and is_callable(fn) and fn or nil
  end
  if indexable and is_callable(value) then
    return value, { method(value, "close") and value }
  end
  local chunks = indexable and method(value, "chunks")
  if chunks then
    local iterator = chunks(value)
    return iterator, { type(iterator) ~= "function" and method(iterator, "close") and iterator
      or nil, method(value, "close") and value }
  end
  error(format("%s: function, or something with chunks() expected, got %s", what, t), 0)
end

local function close_all(objects)
  for i = 1, 2 do
    local object = objects[i]
    if object then
      local ok, e = shielded(object.close, object)
      if not ok then rethrow(e) end
    end
  end
end

local function finish_closing(objects, ok, ...)
  close_all(objects)
  if not ok then rethrow((...)) end
  return ...
end

-- Runs `fn(...)`, and closes what it has taken from.
local function closing(objects, fn, ...)
  return finish_closing(objects, xpcall(fn, keep_trace, ...))
end

-- ---- streams ------------------------------------------------------------------------------------

local function part_of(part)
  if type(part) == "string" then return part end
  if type(part) == "number" then return tostring(part) end
  error("a part of a stream cannot be of type " .. type(part), 0)
end

-- Called when the stream waits for the first time. What came at once goes out together with the
-- head; else that goes before. Until then nobody needs to watch the peer.
local function look_after(job)
  job.conn:flush()
  job.guard = M.guard(job.conn, job.scope, job.strict)
  if job.pings then job.pinger = async.spawn(job.pings, job) end
end

-- Sends parts until there are no more, or nobody takes them. Gives true at the end.
local function pump(scope, job)
  local conn, next_part, convert, left = job.conn, job.next_part, job.convert, job.length
  local encoder = job.encoder
  job.scope = scope
  job.starter = async.call_soon(look_after, job)
  while true do
    local part = next_part()
    if part == nil then
      local last = encoder and encoder:finish() or ""
      return last == "" or conn:send(last)
    end
    part = convert(part)
    if left then
      left = left - #part
      if left < 0 then
        error(format("the body is longer than the %d bytes of its Content-Length", job.length), 0)
      end
    end
    -- What was given is to arrive now, not when there is more.
    if encoder then part = encoder:flush(part) end
    job.bytes = job.bytes + #part
    if not conn:send(part) then return false end
    local guard = job.guard
    if guard then guard.sent = guard.sent + 1 end
  end
end

local function trailer_lines(r)
  local trailers = rawget(r, "trailers")
  if type(trailers) == "function" then trailers = trailers() end
  if trailers == nil then return nil end
  local lines = {}
  fields.each_header(trailers, function(name, value)
    if value then lines[#lines + 1] = name .. ": " .. value .. "\r\n" end
  end)
  return table.concat(lines)
end

local function run_pump(job)
  local ok, in_time, whole = xpcall(async.move_on_after, keep_trace, nil, pump, job)
  if job.starter then job.starter:cancel() end
  if job.guard then job.guard:cancel() end
  if job.pinger then job.pinger:cancel() end
  if not ok then rethrow(in_time) end
  return in_time and whole
end

-- Sends a stream in full; without a body there is nothing to take out of it.
local function send_stream(job, r, status)
  local conn = job.conn
  if job.has_body and not run_pump(job) then
    -- The peer has gone; if it has not, it must not take this for all.
    conn:cut()
    return status, job.bytes
  end
  if not conn:finish(job.has_body and trailer_lines(r) or nil) then
    error(format("the body is shorter than the %d bytes of its Content-Length", job.length), 0)
  end
  return status, job.bytes
end

-- ---- events -------------------------------------------------------------------------------------

local EVENT = { data = true, event = true, id = true, retry = true, comment = true }

local function each_line(lines, prefix, text)
  text = gsub(gsub(tostring(text), "\r\n", "\n"), "\r", "\n")
  for line in (text .. "\n"):gmatch "(.-)\n" do lines[#lines + 1] = prefix .. line end
end

local function single(value, name, pattern)
  if type(value) == "number" then value = tostring(value) end
  if type(value) ~= "string" or find(value, pattern) then
    error(format("an event's '%s' cannot be %s", name,
      type(value) == "string" and "'" .. value:gsub("%c", "?") .. "'" or "of type " .. type(value)),
      0)
  end
  return value
end

--- The bytes of an event.
-- Source: WHATWG HTML, "Server-sent events".
function M.event(event)
  local t = type(event)
  local text = event
  if t == "table" and next(event) == "data" and next(event, "data") == nil then
    text = event.data
  end
  -- Most are a single line.
  if type(text) == "string" and not find(text, "[\r\n]") then return "data: " .. text .. "\n\n" end
  if t == "string" or t == "number" then event = { data = event } end
  if type(event) ~= "table" then error("an event cannot be of type " .. t, 0) end
  for key in pairs(event) do
    if not EVENT[key] then error(format("an event has no field '%s'", tostring(key)), 0) end
  end
  local lines = {}
  if event.comment ~= nil then each_line(lines, ": ", event.comment) end
  if event.event ~= nil then
    lines[#lines + 1] = "event: " .. single(event.event, "event", "[\r\n]")
  end
  if event.id ~= nil then lines[#lines + 1] = "id: " .. single(event.id, "id", "[%z\r\n]") end
  if event.retry ~= nil then
    lines[#lines + 1] = "retry: " .. single(event.retry, "retry", "[^%d]")
  end
  if event.data ~= nil then
    local data = event.data
    if type(data) == "table" then data = require("rille.json").encode(data) end
    each_line(lines, "data: ", data)
  end
  return table.concat(lines, "\n") .. "\n\n"
end

local function ping(job)
  while true do
    local seen = job.bytes
    async.sleep(M.SSE_PAUSE)
    local comment = ":\n\n"
    if job.bytes == seen then
      if job.encoder then comment = job.encoder:flush(comment) end
      if not job.conn:send(comment) then return end
    end
  end
end

-- A list of events, or what a stream takes.
local function event_source(value)
  if type(value) == "table" and not is_callable(value) and value.chunks == nil then
    local i = 0
    return function()
      i = i + 1
      return value[i]
    end, {}
  end
  return source_of(value, "sse")
end

local function send_events(job, r, status)
  job.strict, job.convert = true, M.event
  job.pings = ping
  return send_stream(job, r, status)
end

-- ---- all of them --------------------------------------------------------------------------------

--- Sends a response in parts. Gives its status and the size of its body. An error before its first
-- byte leaves it to be taken back.
---@param conn any  the connection
---@param req Request
---@param r Response
---@param status integer
---@param kind "stream"|"sse"|"file"|"text"
function M.send(conn, req, r, status, kind, value, content_type, lines, flags, length)
  if kind == "file" then
    return file.send(conn, req, r, status, value, content_type, lines, flags)
  end
  local is_head = req.method == "HEAD"
  local job = { conn = conn, bytes = 0, length = length, convert = part_of }
  local objects = {}
  if kind == "text" then
    local sent = false
    job.next_part = function()
      if sent or value == "" then return nil end
      sent = true
      return value
    end
  elseif kind == "sse" then
    job.next_part, objects = event_source(value)
    if lines == "" or not lines:lower():find("cache-control:", 1, true) then
      lines = lines .. "Cache-Control: no-cache\r\n"
    end
  else
    job.next_part, objects = source_of(value, "stream")
  end
  local policy = req[SETTINGS].compress
  if policy then
    lines, job.encoder = compression.choose(policy, req, status, content_type, lines,
      kind == "text" and #value or nil)
    -- A length that was announced holds for what is compressed.
    if job.encoder then length = nil end
  end
  job.has_body = conn:start(status, length, content_type, lines, flags) and not is_head
  return closing(objects, kind == "sse" and send_events or send_stream, job, r, status)
end

return M
