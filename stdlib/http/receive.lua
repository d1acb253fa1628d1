--- What the client does with a response that comes: its head, and a body that is kept whole, or
-- read only to be rid of it.
local http1 = require "rille.core.http1"
local task = require "rille.core.task"
local encodings = require "rille.http.encodings"
local exchange = require "rille.http.exchange"
local response_of = require "rille.http.client_response"

local xpcall = require("rille.core.protect").xpcall
local keep_trace, rethrow = task.keep_trace, task.rethrow
local fail, read_in_time = exchange.fail, exchange.read_in_time
local tonumber = tonumber

local MOST_DRAINED = 65536

local M = {}

--- A body that has come, without its coding.
function M.decode(state, response, body)
  local fault
  body, fault = encodings.decode_all(response._decoder, body, state.max_body)
  response._decoder = nil
  return body or fail(state, fault)
end

--- All of the response is there.
function M.finish_whole(state, response, connection, body)
  state.session._pool:release(state.destination, connection)
  response._body = response._decoder and M.decode(state, response, body) or body
end

local function drain(state, connection)
  local parts, size = {}, 0
  while size <= MOST_DRAINED do
    local piece, fault = read_in_time(state, connection.read_piece, connection)
    if piece == nil then fail(state, fault) end
    if not piece then return table.concat(parts) end
    parts[#parts + 1] = piece
    size = size + #piece
  end
end

--- The body of a redirect whose last response will be streamed: nobody has asked for it, and it may
-- have no end.
function M.read_little(state, response, connection)
  local ok, body = xpcall(drain, keep_trace, state, connection)
  exchange.end_upload(state)
  if ok and body then return M.finish_whole(state, response, connection, body) end
  connection:close()
  state.session._pool:release(state.destination, connection)
  if not ok then rethrow(body) end
  response._body, response._decoder = "", nil
end

--- Looks at what a response brings besides the status and the body: bit 1 cookies, 2 a coding, 4
-- trailers.
function M.heed(response, present, jar, url, connection)
  if present >= 4 then response._trailers = connection:trailers() end
  local headers, status = response.headers, response.status
  if jar and present % 2 == 1 then jar:_take(headers:get_all "Set-Cookie", url) end
  local coding = headers["Content-Encoding"]
  if coding and response._method ~= "HEAD" and status ~= 204 and status ~= 304 then
    response._decoder = encodings.decoder(coding)
  end
end

--- The response to which a head belongs.
function M.respond(state, connection, head, present)
  local _, status = http1.first_line(head)
  local response = response_of.new {
    status = tonumber(status), url = state.url.url, _head = head, _method = state.method,
    _history = state.history,
  }
  if present ~= 0 then M.heed(response, present, state.session.cookies, state.url, connection) end
  return response
end

return M
