--- One request and its response over a connection of a pool.
local async = require "rille.async"
local task = require "rille.core.task"
local errors = require "rille.errors"
local bodies = require "rille.http.body"
local connect = require "rille.http.connect"
local encodings = require "rille.http.encodings"
local multiplex = require "rille.http.multiplex"
local xpcall = require("rille.core.protect").xpcall

local keep_trace, rethrow = task.keep_trace, task.rethrow
local move_on_after = async.move_on_after
local type, tonumber, tostring, ipairs = type, tonumber, tostring, ipairs

local CONTINUE_PAUSE = 1 -- RFC 9110 leaves it open; what curl takes

local M = {}

local function nothing() end

-- ---- errors -------------------------------------------------------------------------------------

--- Raises an HTTPError of the request.
function M.fail(state, message, extra)
  extra = extra or {}
  extra.url = state.url.url
  errors._raise("HTTPError", ("%s: %s %s"):format(message, state.method, state.url.url), extra)
end

--- Raises the TimeoutError of a phase.
function M.time_out(state, seconds, phase)
  local url = state.url.url
  errors._raise("TimeoutError",
    ("timed out after %g s: %s %s"):format(seconds, state.method, url),
    { url = url, phase = phase })
end

local fail, time_out = M.fail, M.time_out

-- ---- the request as bytes -----------------------------------------------------------------------

local WITH_BODY = { POST = true, PUT = true, PATCH = true }
M.WITH_BODY = WITH_BODY
local STANDARD = { "Host", "User-Agent", "Accept", "Accept-Encoding", "Content-Type",
  "Content-Length", "Transfer-Encoding", "Proxy-Authorization", "Authorization", "Cookie" }

local function standard_fields(state)
  local url, body = state.url, state.body
  local defaults = {
    Host = url.authority, Accept = "*/*", ["User-Agent"] = "rille/" .. rille.version,
    ["Accept-Encoding"] = encodings.accepted, ["Content-Type"] = body and body.content_type,
    Authorization = state.authorization,
  }
  if body and body.stream and body.length then
    defaults["Content-Length"] = ("%.0f"):format(body.length)
  elseif body and body.stream then
    defaults["Transfer-Encoding"] = "chunked"
  elseif body or WITH_BODY[state.method] then
    defaults["Content-Length"] = tostring(body and #body.data or 0)
  end
  if state.proxy and not url.tls then
    defaults["Proxy-Authorization"] = connect.proxy_authorization(state.proxy)
  end
  local jar = state.session.cookies
  if jar then defaults.Cookie = jar:_header(url, state.hops == 0) end
  return defaults
end

local LENGTH = { ["content-length"] = true }

-- Length and coding follow from the body; of a stream the script may tell the length.
local function set_length(state, defaults, field)
  local body = state.body
  local length = tonumber(field[2])
  if not length or length < 0 or length % 1 ~= 0 then
    fail(state, ("header '%s' is no length: '%s'"):format(field[1], tostring(field[2])))
  end
  if body and body.stream then
    defaults["Transfer-Encoding"] = nil
    defaults["Content-Length"] = ("%.0f"):format(length)
    state.length = length
  elseif length ~= (body and #body.data or 0) then
    fail(state, ("header '%s' says %s bytes, the body has %d"):format(field[1], field[2],
      body and #body.data or 0))
  end
end

--- The request as bytes, up to its body.
function M.write_head(state)
  local defaults, own = standard_fields(state), {}
  local names = {}
  state.length, state.expects = state.body and state.body.length or nil, false
  for _, field in ipairs(state.headers) do
    local key, value, lower = field[1], field[2], field[3]
    if LENGTH[lower] then
      if value then set_length(state, defaults, field) end
    elseif not (state.dropped and state.dropped[lower]) then
      names[lower] = true
      if value then own[#own + 1] = key .. ": " .. value .. "\r\n" end
      if lower == "expect" and value and value:lower() == "100-continue" then
        state.expects = state.body ~= nil
      end
    end
  end
  local url = state.url
  local target = state.proxy and not url.tls and url.url or url.target
  local parts = { state.method, " ", target, " HTTP/1.1\r\n" }
  local n = 4
  for i = 1, #STANDARD do
    local field = STANDARD[i]
    local value = defaults[field]
    if value and not names[field:lower()] then
      parts[n + 1], parts[n + 2], parts[n + 3], parts[n + 4] = field, ": ", value, "\r\n"
      n = n + 4
    end
  end
  for i = 1, #own do parts[n + i] = own[i] end
  parts[n + #own + 1] = "\r\n"
  return table.concat(parts)
end

-- ---- one exchange -------------------------------------------------------------------------------

-- All of the body is on its way.
local function end_request(connection)
  if connection.finish then return connection:finish() end
  connection:end_request()
end

local function send_stream(state, connection, stream)
  local left, upload = state.length, state.upload
  while true do
    local piece = stream:next()
    -- Its response has come, and the connection may be another's by now.
    if upload and upload.is_over then return end
    if not piece then break end
    if left then
      left = left - #piece
      if left < 0 then fail(state, "the body is longer than its Content-Length") end
    elseif not connection.finish then
      piece = ("%x\r\n%s\r\n"):format(#piece, piece)
    end
    -- A server that has refused it does not want the rest.
    if not connection:wants_more() then return end
    connection:send(piece)
    -- The server may answer before the source has told that this was its last piece.
    if left == 0 then end_request(connection) end
  end
  if left and left > 0 then
    fail(state, ("the body ended %d bytes before its Content-Length"):format(left))
  end
  if not left and not connection.finish then connection:send "0\r\n\r\n" end
  end_request(connection)
end

local function await_continue(_, connection) return connection:wait_for_continue() end

local function send_body(state, connection)
  local body = state.body
  if state.expects then
    local in_time, go_on = move_on_after(CONTINUE_PAUSE, await_continue, connection)
    if in_time and not go_on then return end
  end
  if body.stream then return send_stream(state, connection, body.stream) end
  if body.data ~= "" then connection:send(body.data) end
  end_request(connection)
end

-- A server may answer and close before it has read everything: its answer counts more than the
-- error of the write.
local function send_or_find_answer(state, connection)
  local ok, e = xpcall(send_body, keep_trace, state, connection)
  bodies.close(state.body)
  if ok then return end
  if not errors.is(e, "OSError") or e.syscall ~= "write" then rethrow(e) end
  local found, head = xpcall(connection.read_head, keep_trace, connection)
  if not found or not head then rethrow(e) end
end

local function upload(state, connection, own)
  local stream = state.body.stream
  local ok, e = xpcall(send_stream, keep_trace, state, connection, stream)
  local closed, fault = xpcall(bodies.close_stream, keep_trace, stream)
  if ok then ok, e = closed, fault end
  if ok or own.is_over then return end
  state.upload_fault = e
  -- Whoever reads the response learns of it; but where the server takes no more it may have said
  -- why.
  if not errors.is(e, "OSError") or e.syscall ~= "write" then connection:close() end
end

-- A server may answer while it reads, and wait until its answer is read; or it answers, and reads
-- no more. So the body is a task's own; over HTTP/2, where nothing is in the way of a response that
-- is collected, only if that is streamed.
local function uploads_apart(state, connection)
  return state.body.stream and not state.expects and (state.stream or not connection.finish)
end

--- The request's body is not wanted any more. With `waits` its source has ended afterwards.
function M.end_upload(state, waits)
  local own = state.upload
  if not own or own.is_over then return end
  own.is_over = true
  local uploader = own.task
  if not uploader or uploader:done() then return end
  uploader:cancel()
  if waits then async.finally(nothing, function() async.wait { uploader } end) end
end

--- Calls `read(connection)` within the request's limit for pauses, which do not begin before the
-- request was sent.
function M.read_in_time(state, read, connection)
  local pause = state.timeouts.read
  if not pause then return read(connection) end
  local uploader = state.upload and state.upload.task
  while true do
    local was_sent = not uploader or uploader:done()
    local in_time, a, b, c = move_on_after(pause, function() return read(connection) end)
    if in_time then return a, b, c end
    if was_sent then time_out(state, pause, "read") end
  end
end

local read_in_time = M.read_in_time

-- The response's head, the fields to look at, and, where it is read at once, the body.
local function exchange(state, connection)
  state.phase, state.upload = "total", nil
  bodies.measure(state.body)
  local head = state.head or M.write_head(state)
  local body = state.body
  local at_once = body and body.data and not state.expects
  if at_once then head = head .. body.data end
  local most, more = state.stream and 0 or state.max_body, body and not at_once
  if not connection:begin(head, state.method == "HEAD", most, false, more, not state.stream) then
    return nil, "the connection was closed before a response came"
  end
  if more and uploads_apart(state, connection) then
    local own = { is_over = false }
    state.upload = own
    own.task = async.spawn_eager(upload, state, connection, own)
  elseif more then
    send_or_find_answer(state, connection)
  end
  if state.stream then return read_in_time(state, connection.read_head, connection) end
  return read_in_time(state, connection.read_all, connection)
end

-- ---- connections --------------------------------------------------------------------------------

local function open(scope, state, fresh)
  local session = state.session
  local pool = session._pool
  if state.has_permit then
    state.has_permit = false
  else
    local connection = pool:acquire(state.destination, fresh)
    if connection then
      state.reused = true
      return connection
    end
  end
  local ok, connection, reused
  pool.dialing[scope] = true
  if state.http2 then
    ok, connection, reused = xpcall(multiplex.open, keep_trace, pool, state.destination, state)
  else
    ok, connection = xpcall(connect.open, keep_trace, state.url, state.proxy, state.context,
      state.proxy_context)
  end
  pool.dialing[scope] = nil
  if not ok then
    pool:release(state.destination)
    rethrow(connection)
  end
  state.reused = reused or false
  if pool.closed then
    connection:close()
    pool:release(state.destination)
    pool:refuse()
  end
  if not connection.finish then pool:made(connection) end
  return connection
end

local function acquire(state, fresh)
  state.phase = "connect"
  local seconds, pool = state.timeouts.connect, state.session._pool
  local in_time, connection = move_on_after(seconds, open, state, fresh)
  if in_time then return connection end
  if pool.closed then pool:refuse() end
  return time_out(state, seconds, "connect")
end

local IDEMPOTENT = { GET = true, HEAD = true, OPTIONS = true, PUT = true, DELETE = true,
  TRACE = true }

local CLOSED = { ECONNRESET = true, EPIPE = true, ECONNABORTED = true, ENOTCONN = true }

--- True if a connection that had rested was closed by the server, so that the request may be sent
-- again. `fault` is a text or an error.
-- Source: RFC 9110, section 9.2.2.
function M.is_stale(state, connection, fault)
  local closed = type(fault) == "string" or errors.is(fault, "OSError") and CLOSED[fault.code]
  return closed and IDEMPOTENT[state.method] and connection:is_untouched() or false
end

local MOST_MOVES = 5
-- Many requests at once, to a server that takes few for each connection, need many of those.
local MOST_REFUSALS = 50

-- Whether the request may be sent once more. A connection of HTTP/2 that ends, as servers have it
-- after some requests or some time, takes others' requests along: so there it may happen more than
-- once. What a server refuses it has not looked at: RFC 9113, section 8.7.
local function may_go_again(state, connection, fault, fresh)
  local shared = connection.finish ~= nil
  if state.session._pool.closed then return false end
  if shared and connection:was_refused() then
    state.refusals = (state.refusals or 0) + 1
    return state.refusals <= MOST_REFUSALS and bodies.rewind(state.body)
  end
  if not state.reused or fresh and not shared or not M.is_stale(state, connection, fault) then
    return false
  end
  state.moves = (state.moves or 0) + 1
  return state.moves <= MOST_MOVES and bodies.rewind(state.body)
end

--- Sends the request, and gives the connection, the response's head, the fields to look at, and the
-- body unless it is to be streamed.
---@async
function M.attempt(state, fresh)
  local pool, destination = state.session._pool, state.destination
  state.ticket = state.ticket or pool:ticket()
  local connection = acquire(state, fresh)
  local ok, head, fault, body = xpcall(exchange, keep_trace, state, connection)
  if ok and head then
    if body then M.end_upload(state) end
    return connection, head, fault, body
  end
  local again = may_go_again(state, connection, ok and fault or head, fresh)
  connection:close()
  -- Who was refused has waited for its turn, and keeps it.
  if again and connection.finish and connection:was_refused() and not state.upload then
    state.has_permit = true
  else
    pool:release(destination, connection)
  end
  M.end_upload(state, true)
  if again then
    state.upload_fault = nil
    return M.attempt(state, true)
  end
  bodies.close(state.body)
  if state.upload_fault ~= nil then rethrow(state.upload_fault) end
  if ok then fail(state, fault) end
  rethrow(head)
end

return M
