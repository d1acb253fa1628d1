--- A request as a handler sees it. What it holds is read out of the head when somebody asks.
local http1 = require "rille.core.http1"
local errors = require "rille.errors"
local fields = require "rille.http.fields"
local Lock = require("rille.async").Lock

local rawget, rawset, type = rawget, rawset, type

local function raise(kind, message, extra) error(errors.new(kind, message, extra), 0) end

-- The first places belong to the server: the connection, the head, the most bytes that body() may
-- collect, and whether the request has been answered.
local CONNECTION, HEAD, MOST, ANSWERED = 1, 2, 3, 4

---@class Request
---@field method string
---@field path string  decoded, without the query
---@field target string  as it was sent
---@field query table  `query.name` is the first value; `get_all`, `iter`
---@field headers table  names in any case; `get_all`, `iter`
---@field remote string  IP address of the peer
---@field version string  "1.1" or "1.0"
local Request = {}

local function collect(self)
  local body, status, fault = rawget(self, "_body"), nil, nil
  if body then return body end
  if not self[ANSWERED] then body, status, fault = self[CONNECTION]:read_body(self[MOST]) end
  if status then
    local message = ("%d %s: %s"):format(status, http1.reason(status), fault)
    raise("HTTPError", message, { status = status, _answer = {} })
  elseif not body then
    raise("InvalidStateError", "body: the request has been answered")
  end
  rawset(self, "_body", body)
  return body
end

--- The body, collected in memory.
---@async
---@return string
-- Errors: HTTPError (413, 408, 400), which the server answers if nobody else does;
-- InvalidStateError once the request has been answered.
function Request:body()
  local body = rawget(self, "_body")
  if body then return body end
  -- A handler may have shared the request among tasks.
  local lock = rawget(self, "_lock")
  if not lock then
    lock = Lock()
    rawset(self, "_lock", lock)
  end
  return lock:with(collect, self)
end

--- The body as text.
---@async
---@return string
function Request:text() return self:body() end

--- The parameters of a form that was posted: the same kind of object as `query`.
---@async
-- Errors: HTTPError (415) if it is no form; those of body().
function Request:form()
  local form = rawget(self, "_form")
  if form then return form end
  local content_type = (self.headers["content-type"] or ""):match "^[^;%s]*"
  if content_type:lower() ~= "application/x-www-form-urlencoded" then
    raise("HTTPError", ("415 Unsupported Media Type: no form but '%s'"):format(content_type),
      { status = 415, _answer = {} })
  end
  form = fields.parse_parameters(self:body())
  rawset(self, "_form", form)
  return form
end

local function first_line(self)
  local method, target, version = http1.first_line(self[HEAD])
  rawset(self, "method", method)
  rawset(self, "target", target)
  rawset(self, "version", version:sub(6))
end

local getters = { method = first_line, target = first_line, version = first_line }

function getters:path()
  local path = self.target:match "^[^?]*"
  -- Proxies send the whole URL.
  if path:byte() ~= 47 then path = path:gsub("^%a+://[^/]*", "") end
  if path == "" then path = "/" end
  rawset(self, "path", http1.unescape(path))
end

function getters:query()
  local text = self.target:match "%?(.*)$"
  rawset(self, "query", fields.parse_parameters(text or ""))
end

function getters:headers() rawset(self, "headers", fields.headers(self[HEAD])) end

function getters:remote() rawset(self, "remote", self[CONNECTION]:remote()) end

return {
  ANSWERED = ANSWERED,
  meta = {
    __name = "Request",
    __index = function(self, key)
      local method = Request[key]
      if method then return method end
      local get = type(key) == "string" and getters[key]
      if not get then return nil end
      get(self)
      return rawget(self, key)
    end,
  },
}
