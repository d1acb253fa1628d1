--- A request as a handler sees it. What it holds is read out of the head when somebody asks.
local http1 = require "rille.core.http1"
local errors = require "rille.errors"
local report = require "rille.core.report"
local fields = require "rille.http.fields"
local proxies = require "rille.http.proxies"
local address = require "rille.net.address"
local Lock = require("rille.async").Lock

local rawget, rawset, setmetatable = rawget, rawset, setmetatable
local format = string.format

-- The first places belong to the server: the connection, the head, what the server was told, and
-- whether the request has been answered.
local CONNECTION, HEAD, SETTINGS, ANSWERED = 1, 2, 3, 4

---@class Request
---@field method string
---@field path string  decoded, without the query
---@field target string  as it was sent
---@field query Fields  its parameters
---@field params table  what the parts of the route stand for
---@field headers Fields
---@field trailers Fields  those behind the body, once it has been read
---@field cookies table<string, string>
---@field remote string?  IP address of the client; nil behind a Unix socket
---@field peer Address  the other end of the connection
---@field scheme string  "http" or "https"
---@field host string?  as the client named it, with the port if it did
---@field version string  "2.0", "1.1" or "1.0"
---@field id string  no other request has it
---@field app App?  the application that serves it
local Request = {}

local function raise(kind, message, extra) error(errors.new(kind, message, extra), 0) end

local function fail(status, fault, body)
  raise("HTTPError", format("%d %s: %s", status, http1.reason(status), fault),
    { status = status, _answer = { body = body } })
end

local function refuse(status, fault, name)
  if status then fail(status, fault) end
  raise("InvalidStateError", name .. ": the request has been answered")
end

-- ---- the body -----------------------------------------------------------------------------------

-- A handler may have shared the request among tasks, and one at a time may read.
local function lock_of(self)
  local lock = rawget(self, "_lock")
  if not lock then
    lock = Lock()
    rawset(self, "_lock", lock)
  end
  return lock
end

local function check_not_taken(self, name)
  local taken = rawget(self, "_taken")
  if taken then
    raise("InvalidStateError", format("%s: the body was taken by %s()", name, taken))
  end
end

local function collect(self)
  local body, status, fault = rawget(self, "_body"), nil, nil
  if body then return body end
  check_not_taken(self, "body")
  if not self[ANSWERED] then
    local most = rawget(self, "_most_collected") or self[SETTINGS].max_collect_bytes
    body, status, fault = self[CONNECTION]:read_body(most)
  end
  if not body then refuse(status, fault, "body") end
  rawset(self, "_body", body)
  return body
end

--- The body, collected in memory.
---@async
---@return string
-- Errors: HTTPError (413, 408, 400), which the server answers if nobody else does;
-- InvalidStateError once the request has been answered, or after `chunks` or `multipart`.
function Request:body()
  local body = rawget(self, "_body")
  if body then return body end
  return lock_of(self):with(collect, self)
end

--- The body as text.
---@async
---@return string
function Request:text() return self:body() end

--- The value that the body holds as JSON.
---@async
---@param shape? any  what it has to look like: the name of a type ("string", "number", "integer",
-- "boolean", "object", "list", "any"; with "?" there may be nothing), `{ shape }` for a list,
-- `{ name = shape }` for an object, a function that gives true, or false and what is wrong, or what
-- http.shape makes; by default the `request` of the route
-- Errors: HTTPError (400) if it is none, (422) with a list of what is wrong if it has another
-- shape; those of body().
function Request:json(shape)
  local json = require "rille.json"
  local ok, value = pcall(json.decode, self:body())
  if ok then
    if shape == nil then shape = rawget(self, "_shape") end
    if shape == nil then return value end
    return require("rille.http.schema").check(shape, value)
  end
  if not errors.is(value, "JSONError") then error(value, 0) end
  return fail(400, value.message, "Bad Request: " .. value.message .. "\n")
end

--- The parameters of the query, as the shapes of their names say: numbers and booleans are made of
-- text, lists of all values of a name.
---@param shapes? table  name to shape, see http.shape; by default the `query` of the route
---@return table
-- Errors: HTTPError (422) with a list of what is wrong.
function Request:parameters(shapes)
  local shape = rawget(self, "_query_shape")
  if shapes ~= nil then
    local ok
    ok, shape = pcall(require("rille.http.shape").compile, shapes)
    if ok and not shape.fields then ok, shape = false, "a table of names and shapes expected" end
    if not ok then require("rille.core.check").bad(1, "parameters", shape) end
  end
  if not shape then
    require("rille.core.check").bad(1, "parameters", "shapes expected: the route has no `query`")
  end
  local query = self.query
  return require("rille.http.routes").parameters(shape,
    function(name) return query:get_all(name) end)
end

-- ---- in pieces ----------------------------------------------------------------------------------

local Chunks = { __name = "Chunks" }
Chunks.__index = Chunks

local function read_chunk(self)
  local req = self._req
  if not req then return nil end
  local body = rawget(req, "_body")
  if body then
    self._req = false
    return body ~= "" and body or nil
  end
  local data, status, fault
  if not req[ANSWERED] then data, status, fault = req[CONNECTION]:read_chunk() end
  if not data then
    self._req = false
    refuse(status, fault, "chunks")
  end
  if data == "" then
    self._req = false
    return nil
  end
  return data
end

--- The next piece; nil at the end.
---@async
function Chunks:__call()
  local req = self._req
  if not req then return nil end
  return lock_of(req):with(read_chunk, self)
end

--- Ends the iteration; what was not read is passed over.
function Chunks:close() self._req = false end

report.describe(Chunks.__call, function() return "a part of a request's body" end)

local function take(self, name)
  check_not_taken(self, name)
  rawset(self, "_taken", name)
  return setmetatable({ _req = self }, Chunks)
end

--- An iterator over the body in pieces, as they come: `for chunk in req:chunks() do`. The client is
-- held back while nobody takes them.
---@return fun(): string?  with `close()`
-- Errors: InvalidStateError if the body was taken before; in the loop HTTPError (413, 408, 400).
function Request:chunks() return take(self, "chunks") end

local function media_type(self)
  return (self.headers["content-type"] or ""):match("^[^;%s]*"):lower()
end

--- An iterator over the parts of a body of type multipart/form-data, or another multipart type:
-- `for part in req:multipart() do`. A part has `name`, `filename`, `headers`, `content_type`,
-- `bytes()`, `text()`, `chunks()` and `save(path)`, and is passed over if it is not read before the
-- next one.
---@return fun(): Part?  with `close()`
-- Errors: HTTPError (415) if it is something else; InvalidStateError if the body was taken before;
-- in the loop HTTPError (400, 413, 408).
function Request:multipart()
  local content_type = self.headers["content-type"] or ""
  if not media_type(self):find "^multipart/" then
    fail(415, format("no multipart body but '%s'", content_type))
  end
  local boundary = fields.parameter(content_type, "boundary")
  if not boundary or boundary == "" or #boundary > 200 then
    fail(400, "a multipart body without a boundary")
  end
  local most = self[SETTINGS].max_collect_bytes
  return require("rille.http.parts").read(take(self, "multipart"), boundary, most)
end

local function parts_of(self)
  local list = {}
  for part in self:multipart() do
    list[#list + 1] = part.name or ""
    list[#list + 1] = part:text()
  end
  return fields.parameters(list)
end

--- The parameters of a form that was posted.
---@async
---@return Fields
-- Errors: HTTPError (415) if it is no form; those of body().
function Request:form()
  local form = rawget(self, "_form")
  if form then return form end
  local content_type = media_type(self)
  if content_type == "multipart/form-data" then
    form = parts_of(self)
  elseif content_type == "application/x-www-form-urlencoded" then
    form = fields.parse_parameters(self:body())
  else
    fail(415, format("no form but '%s'", content_type))
  end
  rawset(self, "_form", form)
  return form
end

-- ---- another protocol ---------------------------------------------------------------------------

--- Answers with 101 Switching Protocols, and takes the connection over. It is closed when the
-- handler ends.
---@async
---@param headers table  of the answer, with Upgrade
---@param on_close? fun(reason: string)  called when the server begins to close; must not wait
---@return Stream
-- Errors: InvalidStateError if the request has been answered or its body was not read.
function Request:upgrade(headers, on_close)
  if self[ANSWERED] or rawget(self, "_upgraded") then
    raise("InvalidStateError", "upgrade: the request has been answered")
  end
  local lines = require("rille.http.answer").lines_of(headers)
  -- Neither of these is for what comes now: it may last, and sees by itself when its peer goes.
  local guard, scope = rawget(self, "_guard"), rawget(self, "_scope")
  if guard then guard:cancel() end
  if scope then scope:reschedule(nil) end
  local stream = self[CONNECTION]:upgrade("Connection: Upgrade\r\n" .. lines)
  rawset(self, "_upgraded", stream)
  self[SETTINGS].upgraded(self[CONNECTION], stream, on_close)
  return stream
end

-- ---- what the head says -------------------------------------------------------------------------

local function first_line(self)
  local method, target, version = http1.first_line(self[HEAD])
  rawset(self, "method", method)
  rawset(self, "target", target)
  rawset(self, "version", version:sub(6))
end

local getters = { method = first_line, target = first_line, version = first_line }

--- The path as it was sent, without the query.
function getters:raw_path()
  local path = self.target
  local mark = path:find("?", 1, true)
  if mark then path = path:sub(1, mark - 1) end
  -- Proxies send the whole URL.
  if path:byte() ~= 47 then path = path:gsub("^%a+://[^/]*", "") end
  if path == "" then path = "/" end
  rawset(self, "raw_path", path)
end

-- The one that the server was made for; in a mounted one, that is set by who calls it.
function getters:app() rawset(self, "app", self[SETTINGS].app) end

function getters:path() rawset(self, "path", http1.unescape(self.raw_path)) end

function getters:query()
  local text = self.target:match "%?(.*)$"
  rawset(self, "query", fields.parse_parameters(text or ""))
end

function getters:params() rawset(self, "params", {}) end

function getters:headers() rawset(self, "headers", fields.headers(self[HEAD])) end

function getters:cookies()
  rawset(self, "cookies", fields.parse_cookies(self.headers.cookie or ""))
end

function getters:peer()
  local name, settings = self[CONNECTION]:peer(), self[SETTINGS]
  rawset(self, "peer", settings.is_unix and address.new("unix", name) or address.parse(name))
end

local function forwarded(self)
  local own = proxies.read(self[SETTINGS], self)
  rawset(self, "remote", own.remote)
  rawset(self, "scheme", own.scheme)
  rawset(self, "host", own.host)
  rawset(self, "id", own.id)
end

getters.remote, getters.scheme, getters.host, getters.id = forwarded, forwarded, forwarded,
  forwarded

local function index(self, key)
  local method = Request[key]
  if method then return method end
  local get = getters[key]
  if get then
    get(self)
    return rawget(self, key)
  end
  if key == "trailers" then
    -- Not kept: there may be more of them when the body has been read.
    return fields.headers(self[ANSWERED] and {} or self[CONNECTION]:trailers())
  end
  return nil
end

return {
  CONNECTION = CONNECTION, HEAD = HEAD, SETTINGS = SETTINGS, ANSWERED = ANSWERED,
  fail = fail,
  meta = { __name = "Request", __index = index },
}
