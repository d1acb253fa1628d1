--- What a handler may return, and how it becomes a response.
local http1 = require "rille.core.http1"
local errors = require "rille.errors"
local check = require "rille.core.check"
local fields = require "rille.http.fields"

local type, getmetatable, setmetatable, rawget, pairs, tostring = type, getmetatable, setmetatable,
  rawget, pairs, tostring

local function raise(kind, message, extra) error(errors.new(kind, message, extra), 0) end

local TEXT, HTML = "text/plain; charset=utf-8", "text/html; charset=utf-8"
local NO_CONTENT = { [204] = true, [205] = true, [304] = true }
local CLOSE, NO_DATE = 1, 2 -- flags of connection:respond

local M = { TEXT = TEXT }

---@class Response
local Response = { __name = "Response" }

local KNOWN = { status = true, headers = true, body = true, html = true }

--- Makes a response. Its fields may be changed until it is sent.
---@param options { status?: integer, headers?: table, body?: string, html?: string }
---@return table
function M.response(options)
  options = check.options(options, KNOWN, 1, "response")
  if options.body ~= nil and options.html ~= nil then
    check.bad(1, "response", "both 'body' and 'html'")
  end
  local response = setmetatable({}, Response)
  for key, value in pairs(options) do response[key] = value end
  return response
end

--- Ends the handler with an answer, from any depth.
---@param status integer
---@param message? string|table  the body, or `{ body =, headers = }`
-- Errors: always raises an HTTPError, which the server answers.
function M.abort(status, message)
  status = check.count(status, 200, 1, "abort")
  local answer = message
  if type(message) ~= "table" then
    if message ~= nil then message = check.string(message, 2, "abort") end
    answer = { body = message }
  end
  local text = ("%d %s"):format(status, http1.reason(status))
  raise("HTTPError", text, { status = status, _answer = answer })
end

-- The errors below are found by whoever reads the log: they are raised as strings.

local function checked_status(status)
  if type(status) ~= "number" or status % 1 ~= 0 or status < 200 or status > 599 then
    error(("status %s is not one between 200 and 599"):format(tostring(status)), 0)
  end
  return status
end

local function checked_body(body)
  if type(body) == "string" then return body end
  if type(body) == "number" then return tostring(body) end
  if type(body) == "table" then
    error("the handler returned a table, which would be sent as JSON; rille.json is not there yet",
      0)
  end
  error(("a body cannot be of type %s"):format(type(body)), 0)
end

-- Puts header fields as the handler gave them into what connection:respond takes.
local function with_headers(status, body, content_type, headers)
  if headers == nil then return status, body, content_type end
  local lines, flags, given_type = {}, 0, nil
  fields.each_header(headers, function(name, value, lower)
    if lower == "content-type" then
      given_type = value
    elseif lower == "content-length" then
      -- It is counted here; one that says something else would break the connection.
      if value and tonumber(value) ~= #body then
        error(("header 'Content-Length' says %s, the body has %d bytes"):format(value, #body), 0)
      end
    elseif lower == "transfer-encoding" then
      error("header 'Transfer-Encoding' cannot be set", 0)
    elseif lower == "connection" then
      if value and value:lower() == "close" then flags = flags + CLOSE end
    else
      if lower == "date" and flags < NO_DATE then flags = flags + NO_DATE end
      if value then lines[#lines + 1] = name .. ": " .. value .. "\r\n" end
    end
  end)
  if given_type ~= nil then content_type = given_type or nil end
  return status, body, content_type, table.concat(lines), flags
end

local function from_response(r)
  local status = checked_status(rawget(r, "status") or 200)
  local html, body = rawget(r, "html"), rawget(r, "body")
  if html ~= nil then return with_headers(status, checked_body(html), HTML, r.headers) end
  if body == nil then return with_headers(status, "", nil, r.headers) end
  return with_headers(status, checked_body(body), TEXT, r.headers)
end

--- Turns what a handler returned into the arguments of connection:respond after the first.
-- Raises a string for what cannot be sent.
function M.resolve(a, b, headers)
  local t = type(a)
  if t == "string" and b == nil then return 200, a, TEXT end
  if t == "number" then
    local status = checked_status(a)
    if b == nil and NO_CONTENT[status] then return with_headers(status, "", nil, headers) end
    if b == nil then return with_headers(status, http1.reason(status), TEXT, headers) end
    return with_headers(status, checked_body(b), TEXT, headers)
  end
  if t == "table" and getmetatable(a) == Response then return from_response(a) end
  if t == "nil" then error("the handler returned nothing", 0) end
  if t == "string" then error("a body stands before the status", 0) end
  return 200, checked_body(a), TEXT
end

--- The same for an error that carries its own answer; nil for any other.
function M.resolve_error(e)
  local answer = errors.is(e, "HTTPError") and rawget(e, "_answer")
  if not answer then return nil end
  local status = checked_status(e.status)
  local body = answer.body == nil and http1.reason(status) or checked_body(answer.body)
  return with_headers(status, body, TEXT, answer.headers)
end

return M
