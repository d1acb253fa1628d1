--- A client of HTTP, a connection for each request.
local async = require "rille.async"
local http1 = require "rille.core.http1"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local connect_tcp = require("rille.net.connect").tcp
local fields = require "rille.http.fields"
local url_of = require "rille.http.url"

local xpcall = require("rille.core.protect").xpcall
local keep_trace, rethrow = task.keep_trace, task.rethrow
local type, setmetatable, pairs, tostring = type, setmetatable, pairs, tostring

local function raise(kind, message, extra) error(errors.new(kind, message, extra), 0) end

local TOTAL, CONNECT = 300, 30 -- seconds
local MAX_BODY = 64 * 1048576

local M = {}

-- ---- response -----------------------------------------------------------------------------------

---@class ClientResponse
---@field status integer
---@field reason string  what the server calls the status
---@field ok boolean  whether the status is below 400
---@field headers table  names in any case; `get_all`, `iter`
---@field url string  of the request, as it was sent
---@field version string  "1.1" or "1.0"
local Response = {}
Response.__index = Response
Response.__name = "Response"
Response.__tostring = function(self)
  return ("Response: %d %s: %s %s"):format(self.status, self.reason, self._method, self.url)
end

--- The body.
---@async
---@return string
function Response:bytes() return self._body end

--- The body as text.
---@async
---@return string
function Response:text() return self._body end

--- Raises an error if the status is 400 or more.
---@return ClientResponse  itself
-- Errors: HTTPError with `status`, `reason`, `response` and `url`.
function Response:raise_for_status()
  if self.ok then return self end
  local message = ("%d %s: %s %s"):format(self.status, self.reason, self._method, self.url)
  raise("HTTPError", message,
    { status = self.status, reason = self.reason, response = self, url = self.url })
end

--- Gives the connection back.
function Response:close() end

-- ---- request ------------------------------------------------------------------------------------

local function fail(state, message)
  raise("HTTPError", ("%s: %s %s"):format(message, state.method, state.url), { url = state.url })
end

local function time_out(state, seconds)
  local message = ("timed out after %g s: %s %s"):format(seconds, state.method, state.url)
  raise("TimeoutError", message, { url = state.url, phase = state.phase })
end

local function connect(_, host, port) return connect_tcp(host, port) end

local function exchange(socket, request, max_body, is_head)
  local connection = http1.client(socket)
  connection:begin(request, is_head, max_body)
  local head, fault = connection:read_head()
  local body
  if head then body, fault = connection:read_body() end
  connection:close()
  if not body then return nil, fault end
  return head, body
end

local function respond(state, head, body)
  local version, status, reason = http1.first_line(head)
  status = tonumber(status)
  return setmetatable({
    status = status, reason = reason, ok = status < 400, version = version:sub(6),
    headers = fields.headers(head), url = state.url, _method = state.method, _body = body,
  }, Response)
end

local function finish_exchange(state, socket, ok, head, body)
  socket:close()
  if not ok then rethrow(head) end
  if not head then fail(state, body) end
  return respond(state, head, body)
end

local function perform(_, state)
  state.phase = "connect"
  local in_time, socket = async.move_on_after(state.connect, connect, state.host, state.port)
  if not in_time then time_out(state, state.connect) end
  state.phase = "total"
  return finish_exchange(state, socket, xpcall(exchange, keep_trace, socket, state.request,
    state.max_body, state.method == "HEAD"))
end

local function finish(state, ok, in_time, response)
  if ok and in_time then return response end
  if ok then time_out(state, state.total) end
  local e = in_time
  if errors.is(e, "OSError") and e.url == nil then e.url = state.url end
  rethrow(e)
end

-- ---- options ------------------------------------------------------------------------------------

local KNOWN = { headers = true, query = true, body = true, form = true, timeout = true,
  max_body = true }
local TIMEOUTS = { connect = true, total = true }

-- Errors of options belong to whoever called the public function.
local LEVEL = 2

local function read_timeout(value, default, what, name)
  if value == nil then return default end
  if value == false or value == math.huge then return nil end
  if type(value) ~= "number" or value ~= value then
    check.bad(what, name, "a time in seconds, or false, expected, got "
      .. (value ~= value and "NaN" or type(value)), LEVEL)
  end
  return value
end

local function read_timeouts(state, timeout, name)
  if type(timeout) == "table" then
    for key in pairs(timeout) do
      if not TIMEOUTS[key] then
        check.bad("timeout", name, ("unknown option '%s'; there are: connect, total"):format(
          tostring(key)), LEVEL - 1)
      end
    end
    state.connect = read_timeout(timeout.connect, CONNECT, "timeout.connect", name)
    state.total = read_timeout(timeout.total, TOTAL, "timeout.total", name)
  else
    state.connect = timeout == false and nil or CONNECT
    state.total = read_timeout(timeout, TOTAL, "timeout", name)
  end
end

-- The body and its type.
local function read_body(options, name)
  local body, form = options.body, options.form
  if body ~= nil and form ~= nil then
    check.bad("body", name, "more than one of body, form", LEVEL - 1)
  end
  if form ~= nil then
    local ok, text = pcall(fields.format_parameters, form, "form")
    if not ok then check.bad("form", name, text, LEVEL - 1) end
    return text, "application/x-www-form-urlencoded"
  end
  if type(body) == "number" then body = tostring(body) end
  if body ~= nil and type(body) ~= "string" then
    check.bad("body", name, "string expected, got " .. type(body), LEVEL - 1)
  end
  return body
end

local function add_query(url, query, name)
  if query == nil then return url end
  local ok, text = pcall(fields.format_parameters, query, "query")
  if not ok then check.bad("query", name, text, LEVEL - 1) end
  if text == "" then return url end
  local base, fragment = url:match "^([^#]*)(.*)$"
  local glue = not base:find("?", 1, true) and "?" or base:find "[?&]$" and "" or "&"
  return base .. glue .. text .. fragment
end

local WITH_BODY = { POST = true, PUT = true, PATCH = true }

-- The request as bytes.
local function write_request(state, target, authority, body, content_type, headers, name)
  local defaults = {
    host = authority, accept = "*/*", ["user-agent"] = "rille/" .. rille.version,
    ["content-type"] = content_type, connection = "close",
  }
  if body or WITH_BODY[state.method] then defaults["content-length"] = tostring(#(body or "")) end
  local lines = {}
  if headers ~= nil then
    local ok, e = pcall(fields.each_header, headers, function(key, value, lower)
      if lower == "content-length" or lower == "transfer-encoding" then
        if value == defaults[lower] then return end
        error(("header '%s' cannot be set"):format(key), 0)
      end
      -- The connection is closed after the response, whatever else is asked for.
      if lower == "connection" then return end
      defaults[lower] = nil
      if value then lines[#lines + 1] = ("%s: %s\r\n"):format(key, value) end
    end)
    if not ok then check.bad("headers", name, e, LEVEL - 1) end
  end
  local parts = { ("%s %s HTTP/1.1\r\n"):format(state.method, target) }
  for _, field in ipairs { "Host", "User-Agent", "Accept", "Content-Type", "Content-Length",
    "Connection" } do
    local value = defaults[field:lower()]
    if value then parts[#parts + 1] = ("%s: %s\r\n"):format(field, value) end
  end
  parts[#parts + 1] = table.concat(lines)
  parts[#parts + 1] = "\r\n"
  parts[#parts + 1] = body
  return table.concat(parts)
end

local function request(method, url, options, name, position)
  options = check.options(options, KNOWN, position + 1, name)
  if type(url) ~= "string" then
    check.bad(position, name, "string expected, got " .. type(url), LEVEL - 1)
  end
  local max_body = options.max_body
  if max_body == nil then max_body = MAX_BODY end
  if max_body == false or max_body == math.huge then max_body = 0 end
  if type(max_body) ~= "number" or max_body ~= max_body or max_body < 0 then
    check.bad("max_body", name, "number of bytes, or false, expected, got "
      .. tostring(options.max_body), LEVEL - 1)
  end
  local state = { method = method, max_body = max_body }
  read_timeouts(state, options.timeout, name)
  local body, content_type = read_body(options, name)
  local parts = url_of.parse(add_query(url, options.query, name))
  state.url, state.host, state.port = parts.url, parts.host, parts.port
  state.request = write_request(state, parts.target, parts.authority, body, content_type,
    options.headers, name)
  return finish(state, xpcall(async.move_on_after, keep_trace, state.total, perform, state))
end

--- Sends a request and waits for the response, body included.
---@async
---@param method string
---@param url string
---@param options? table  `headers`, `query`, `body`, `form`, `timeout` (seconds, or `{ connect =,
-- total = }`; false for none; 300 in all and 30 to connect by default), `max_body`
---@return ClientResponse
-- Errors: OSError, TimeoutError, HTTPError, each with `url`.
function M.request(method, url, options)
  method = check.string(method, 1, "request")
  if not http1.is_token(method) then
    check.bad(1, "request", ("'%s' is no method"):format(method))
  end
  return request(method:upper(), url, options, "request", 2)
end

for _, name in ipairs { "get", "post", "put", "patch", "delete", "head", "options" } do
  local method = name:upper()
  M[name] = function(url, options) return request(method, url, options, name, 1) end
end

return M
