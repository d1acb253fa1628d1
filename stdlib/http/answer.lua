--- What a handler returned, as what goes over the wire.
local http1 = require "rille.core.http1"
local errors = require "rille.errors"
local fields = require "rille.http.fields"
local response = require "rille.http.response"

local type, rawget, tostring, tonumber, next = type, rawget, tostring, tonumber, next
local format, concat = string.format, table.concat
local is_response, new_response = response.is_response, response.new

local TEXT, HTML, JSON = "text/plain; charset=utf-8", "text/html; charset=utf-8", "application/json"
local NO_CONTENT = { [204] = true, [205] = true, [304] = true }
local CLOSE, NO_DATE = 1, 2 -- flags of connection:respond

local M = { TEXT = TEXT }

-- The errors below are found by whoever reads the log: they are raised as strings.

local function checked_status(status)
  if type(status) ~= "number" or status % 1 ~= 0 or status < 200 or status > 599 then
    error(format("status %s is not one between 200 and 599", tostring(status)), 0)
  end
  return status
end

local function encode(value)
  local ok, json = pcall(require, "rille.json")
  if not ok then error("a table is sent as JSON, and rille.json is not there", 0) end
  return json.encode(value)
end

local function checked_body(body)
  if type(body) == "string" then return body end
  if type(body) == "number" then return tostring(body) end
  error(format("a body cannot be of type %s", type(body)), 0)
end

--- Header fields as they were given, as lines. Returns the lines, the flags, the Content-Type (nil
-- if none is given, false if there shall be none) and the length that is announced.
local function lines_of(headers)
  if type(headers) == "table" and next(headers) == nil then return "", 0 end
  local lines, flags, content_type, length = {}, 0, nil, nil
  local no_date
  fields.each_header(headers, function(name, value, lower)
    if lower == "content-type" then
      content_type = value
    elseif lower == "content-length" then
      if value then
        length = value:find "^%d+$" and tonumber(value)
        if not length then error(format("header 'Content-Length' is no length: '%s'", value), 0) end
      end
    elseif lower == "transfer-encoding" then
      error("header 'Transfer-Encoding' cannot be set", 0)
    elseif lower == "connection" then
      if value and value:lower() == "close" and flags < CLOSE then flags = CLOSE end
    else
      if lower == "date" then no_date = true end
      if value then lines[#lines + 1] = name .. ": " .. value .. "\r\n" end
    end
  end)
  if no_date then flags = flags + NO_DATE end
  return concat(lines), flags, content_type, length
end

-- The arguments of connection:respond after the first.
local function with_headers(status, body, content_type, headers, is_head)
  if headers == nil then return status, body, content_type end
  local lines, flags, given_type, length = lines_of(headers)
  if length and length ~= #body and not (is_head and body == "") then
    -- It is counted here; one that says something else would break the connection.
    error(format("header 'Content-Length' says %d, the body has %d bytes", length, #body), 0)
  end
  if given_type ~= nil then content_type = given_type or nil end
  return status, body, content_type, lines, flags
end

local function trailer_names(trailers)
  local names, seen = {}, {}
  fields.each_header(trailers, function(name, _, lower)
    if not seen[lower] then names[#names + 1] = name end
    seen[lower] = true
  end)
  return concat(names, ", ")
end

--- What is sent in parts: nil, status, the kind of body, the body, its type, lines, flags, length.
local function in_parts(r, status, kind, value, content_type)
  local lines, flags, given_type, length = lines_of(r.headers or {})
  -- Where there shall be none, it is not guessed either.
  if given_type ~= nil then content_type = given_type or "" end
  local trailers = rawget(r, "trailers")
  if type(trailers) == "table" and not lines:lower():find("\ntrailer:", 1, true)
    and not lines:lower():find "^trailer:" then
    lines = lines .. "Trailer: " .. trailer_names(trailers) .. "\r\n"
  elseif trailers ~= nil and type(trailers) ~= "function" and type(trailers) ~= "table" then
    error("trailers: table or function expected, got " .. type(trailers), 0)
  end
  return nil, status, kind, value, content_type, lines, flags, length
end

local function from_response(r, is_head)
  local status = checked_status(rawget(r, "status") or 200)
  local body, html = rawget(r, "body"), rawget(r, "html")
  local content_type = TEXT
  if rawget(r, "stream") ~= nil then
    return in_parts(r, status, "stream", r.stream, "application/octet-stream")
  elseif rawget(r, "sse") ~= nil then
    return in_parts(r, status, "sse", r.sse, "text/event-stream")
  elseif rawget(r, "file") ~= nil then
    return in_parts(r, status, "file", r.file)
  elseif html ~= nil then
    body, content_type = checked_body(html), HTML
  elseif rawget(r, "json") ~= nil then
    body, content_type = encode(r.json), JSON
  elseif body == nil then
    body, content_type = "", nil
  else
    body = checked_body(body)
    if body == "" then content_type = nil end
  end
  if rawget(r, "trailers") ~= nil then return in_parts(r, status, "text", body, content_type) end
  return with_headers(status, body, content_type, r.headers, is_head)
end

--- Turns what a handler returned into the arguments of connection:respond after the first; or nil
-- and what `in_parts` gives. Raises a string for what cannot be sent.
function M.resolve(is_head, a, b, headers)
  local t = type(a)
  if t == "string" and b == nil then return 200, a, TEXT end
  if t == "number" then
    local status = checked_status(a)
    if b == nil and NO_CONTENT[status] then
      return with_headers(status, "", nil, headers, is_head)
    end
    if b == nil then
      return with_headers(status, http1.reason(status), TEXT, headers, is_head)
    end
    if type(b) == "table" and not is_response(b) then
      return with_headers(status, encode(b), JSON, headers, is_head)
    end
    return with_headers(status, checked_body(b), TEXT, headers, is_head)
  end
  if t == "table" and is_response(a) then return from_response(a, is_head) end
  if t == "nil" then error("the handler returned nothing", 0) end
  if t == "string" then error("a body stands before the status", 0) end
  if t == "table" then return 200, encode(a), JSON end
  error(format("a body cannot be of type %s%s", t,
    t == "function" and ": is it a method that was not called?" or ""), 0)
end

--- The same as a response object, for middleware.
function M.response_of(a, b, headers)
  local t = type(a)
  if t == "table" and is_response(a) then return a end
  if t == "string" and b == nil then return new_response { status = 200, body = a } end
  if t == "number" then
    if b == nil then b = NO_CONTENT[a] and "" or http1.reason(a) end
    if type(b) == "table" then return new_response { status = a, json = b, headers = headers } end
    return new_response { status = a, body = b, headers = headers }
  end
  if t == "nil" then error("the handler returned nothing", 0) end
  if t == "string" then error("a body stands before the status", 0) end
  if t == "table" then return new_response { status = 200, json = a } end
  error(format("a body cannot be of type %s", t), 0)
end

--- The answer that an error carries, as a response; nil for any other error.
function M.response_of_error(e)
  local own = errors.is(e, "HTTPError") and rawget(e, "_answer")
  if not own then return nil end
  local body = own.body
  if body == nil then body = NO_CONTENT[e.status] and "" or http1.reason(e.status) end
  if type(body) == "table" then
    return new_response { status = e.status, json = body, headers = own.headers }
  end
  return new_response { status = e.status, body = body, headers = own.headers }
end

M.lines_of = lines_of

return M
