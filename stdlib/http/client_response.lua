--- Responses as a client gets them.
local async = require "rille.async"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local cookies = require "rille.http.cookies"
local fields = require "rille.http.fields"
local http1 = require "rille.core.http1"
local xpcall = require("rille.core.protect").xpcall

local keep_trace, rethrow = task.keep_trace, task.rethrow
local setmetatable, rawset, select = setmetatable, rawset, select
local find, sub = string.find, string.sub

-- `_head` is the head as it came, `_body` the body once it is collected. Of a response that is
-- streamed: `_exchange`, what it is read from (see rille.http.held), and `_decoder`, what undoes
-- its codings.
---@class ClientResponse
---@field status integer
---@field reason string  what the server calls the status
---@field ok boolean  whether the status is below 400
---@field headers Fields
---@field url string  of the request that it answers, without credentials
---@field version string  "2.0", "1.1" or "1.0"
---@field trailers Fields  those that came behind the body, once that has been read
---@field history ClientResponse[]  the redirects on the way, the first one first
---@field cookies table<string, string>  those that it sets
---@field request table  `method`, `url`
local Response = { _body = false, _exchange = false, _decoder = false, _closed = false,
  _trailers = false }

local meta = { __name = "Response" }
-- Few ask for these.
local MADE_WHEN_ASKED_FOR = {
  cookies = function(self) return cookies.read(self.headers:get_all "Set-Cookie") end,
  history = function(self) return self._history or {} end,
  headers = function(self) return fields.headers(self._head) end,
  ok = function(self) return self.status < 400 end,
  reason = function(self) return (select(3, http1.first_line(self._head))) end,
  version = function(self) return http1.first_line(self._head):sub(6) end,
  request = function(self) return { method = self._method, url = self.url } end,
}
meta.__index = function(self, key)
  local method = Response[key]
  if method ~= nil then return method end
  local make = MADE_WHEN_ASKED_FOR[key]
  if key == "trailers" then return fields.headers(self._trailers or {}) end
  if not make then return nil end
  local value = make(self)
  rawset(self, key, value)
  return value
end
meta.__tostring = function(self)
  return ("Response: %d %s: %s %s"):format(self.status, self.reason, self._method, self.url)
end

local function raise(self, kind, message, extra)
  extra = extra or {}
  extra.url = self.url
  errors._raise(kind, ("%s: %s %s"):format(message, self._method, self.url), extra)
end

-- ---- the body -----------------------------------------------------------------------------------

-- Ends the exchange; the connection serves others if all of the response was read.
local function finish(self)
  local exchange = self._exchange
  if not exchange then return end
  self._exchange = false
  exchange:close()
end

local function read_raw(_, self)
  local piece, fault = self._exchange.connection:read_piece()
  if piece == nil then raise(self, "HTTPError", fault) end
  return piece
end

-- The next piece within the limits of time; false at the end.
local function read_in_time(self)
  local exchange = self._exchange
  local left = exchange.deadline and exchange.deadline - async.time()
  local pause, phase = exchange.read, "read"
  if left and (not pause or left < pause) then pause, phase = left, "total" end
  if not pause then return read_raw(nil, self) end
  local in_time, piece = async.move_on_after(pause, read_raw, self)
  if in_time then return piece end
  raise(self, "TimeoutError", ("timed out after %g s"):format(exchange[phase]), { phase = phase })
end

local function give_up(self, e)
  local upload_fault = self._exchange.state.upload_fault
  if upload_fault ~= nil then e = upload_fault end
  finish(self)
  self._closed = true
  if errors.is(e, "OSError") and e.url == nil then e.url = self.url end
  rethrow(e)
end

-- The next piece as it was sent; nil at the end.
local function read_sent(self)
  local exchange = self._exchange
  if self._closed or exchange and exchange.is_over then
    errors._raise("InvalidStateError", "the response is closed: " .. self.url)
  end
  if not exchange then return nil end
  local ok, piece = xpcall(read_in_time, keep_trace, self)
  if not ok then give_up(self, piece) end
  if piece then return piece end
  self._trailers = exchange.connection:trailers()
  finish(self)
end

-- The next piece as it was before it was compressed.
local function read_piece(self)
  local decoder = self._decoder
  if not decoder then return read_sent(self) end
  while true do
    local text, fault = decoder:read()
    if not text then
      finish(self)
      raise(self, "HTTPError", fault)
    end
    if text ~= "" then return text end
    if self._decoded then return nil end
    local piece = read_sent(self)
    self._decoded = piece == nil
    if piece or self._has_begun then decoder:feed(piece) end
    self._has_begun = true
  end
end

local function collect(self)
  if self._streamed then
    errors._raise("InvalidStateError", "the body has been read in pieces: " .. self.url)
  end
  local parts, size, most = {}, 0, self._max_body
  for piece in read_piece, self do
    size = size + #piece
    if most > 0 and size > most then
      finish(self)
      raise(self, "HTTPError", ("the body is longer than %d bytes"):format(most))
    end
    parts[#parts + 1] = piece
  end
  self._body = table.concat(parts)
  return self._body
end

--- The body as bytes; may be called again.
---@async
---@return string
-- Errors: HTTPError, OSError, TLSError, TimeoutError, each with `url`.
function Response:bytes() return self._body or collect(self) end

--- The body as text: its bytes, which are taken for UTF-8 whatever charset is named.
---@async
---@return string
function Response:text() return self._body or collect(self) end

--- The body as a value.
---@async
-- Errors: JSONError, with `url`; as `bytes`.
function Response:json()
  local ok, value = xpcall(require("rille.json").decode, keep_trace, self:bytes())
  if ok then return value end
  if errors.is(value, "JSONError") and value.url == nil then value.url = self.url end
  rethrow(value)
end

-- ---- iterators ----------------------------------------------------------------------------------

local Iterator = { __index = {} }
function Iterator:__call() return self._next() end

--- Gives up the rest of the response.
function Iterator.__index:close() self._response:close() end

-- Callable objects that hold the response until they are at their end.
local function iterator(self, next_of)
  return setmetatable({ _response = self, _next = next_of }, Iterator)
end

local function pieces_of(self)
  local body = self._body
  if not body then
    self._streamed = true
    return function() return read_piece(self) end
  end
  return function()
    local piece = body
    body = nil
    if piece ~= "" then return piece end
  end
end

--- Iterates over the body in the pieces in which it comes.
---@async
---@return fun(): string?
function Response:chunks() return iterator(self, pieces_of(self)) end

local MAX_LINE = 1048576

-- Lines as they come, without `\n`.
local function line_reader(self, max)
  local pieces, buffer, at, over = pieces_of(self), "", 1, false
  return function()
    while true do
      local stop = find(buffer, "\n", at, true)
      local last = stop or over and at <= #buffer and #buffer + 1
      if (last or #buffer + 1) - at > max then
        self:close()
        raise(self, "LimitOverrunError", ("a line is longer than %d bytes"):format(max))
      end
      if last then
        local line = sub(buffer, at, last - 1)
        at = last + 1
        return line
      end
      if over then return nil end
      local piece = pieces()
      buffer, at, over = sub(buffer, at) .. (piece or ""), 1, piece == nil
    end
  end
end

--- Iterates over the lines of the body, without their ends.
---@async
---@param max? integer  bytes of a line at most; 1 MiB by default
---@return fun(): string?
-- Errors: LimitOverrunError; as `bytes`.
function Response:lines(max)
  return iterator(self, line_reader(self, max and check.count(max, 1, 1, "lines") or MAX_LINE))
end

-- Takes one line of an event; `state` keeps what lasts from event to event.
local function read_field(line, event, state)
  local key, value = line:match "^([^:]*):? ?(.*)$"
  if key == "data" then
    event.data = event.data and event.data .. "\n" .. value or value
  elseif key == "event" then
    event.event = value
  elseif key == "id" and not value:find("\0", 1, true) then
    state.id = value
  elseif key == "retry" and value:find "^%d+$" then
    event.retry = tonumber(value)
  end
end

local function next_event(lines, state)
  local event = {}
  for line in lines do
    line = line:gsub("\r$", "")
    if not state.begun then line = line:gsub("^\239\187\191", "") end
    state.begun = true
    if line ~= "" then
      read_field(line, event, state)
    elseif event.data ~= nil then
      event.id, event.event = state.id, event.event or "message"
      return event
    else
      event = {}
    end
  end
end

--- Iterates over server-sent events: `{ data =, event =, id =, retry = }`.
---@async
---@return fun(): table?
-- Source: WHATWG HTML, server-sent events.
function Response:events()
  local lines, state = line_reader(self, MAX_LINE), { begun = false, id = nil }
  return iterator(self, function() return next_event(lines, state) end)
end

-- ---- the end ------------------------------------------------------------------------------------

--- Raises an error if the status is 400 or more.
---@return ClientResponse  itself
-- Errors: HTTPError with `status`, `reason`, `response` and `url`.
function Response:raise_for_status()
  if self.ok then return self end
  local message = ("%d %s: %s %s"):format(self.status, self.reason, self._method, self.url)
  errors._raise("HTTPError", message,
    { status = self.status, reason = self.reason, response = self, url = self.url })
end

--- Gives the connection back. What was not read of a streamed body is dropped with its connection.
function Response:close()
  if not self._exchange then return end
  self._closed = true
  finish(self)
end

local M = {}

--- Makes a response of the fields of the class that are not made when somebody asks.
function M.new(response) return setmetatable(response, meta) end

return M
