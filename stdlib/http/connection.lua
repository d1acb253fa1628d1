--- What the task of a server's connection does: it takes requests one after another, gives each to
-- the handler, and sends what that returns.
local async = require "rille.async"
local http1 = require "rille.core.http1"
local task = require "rille.core.task"
local report = require "rille.core.report"
local errors = require "rille.errors"
local answer = require "rille.http.answer"
local request = require "rille.http.request"
local compression = require "rille.http.compression"
local sender = require "rille.http.sender"
local address = require "rille.net.address"

local xpcall = require("rille.core.protect").xpcall
local keep_trace, rethrow = task.keep_trace, task.rethrow
local getmetatable, setmetatable, type, rawget, rawset = getmetatable, setmetatable, type, rawget,
  rawset
local traceback = debug.traceback
local Request, ANSWERED, TEXT = request.meta, request.ANSWERED, answer.TEXT
local CONNECTION, SETTINGS = request.CONNECTION, request.SETTINGS
local resolve = answer.resolve

local M = {}

-- ---- errors -------------------------------------------------------------------------------------

-- An error that is no object keeps its traceback in one of these.
local Raised = {}

local function note_traceback(e)
  if errors.is_error(e) or getmetatable(e) == errors._Cancelled then return e end
  -- Something in between may have caught it, and knows better where it comes from.
  local x = task.current()[10]
  local kept = x and x.rethrown
  if kept and rawequal(kept.value, e) then
    x.rethrown = nil
    return setmetatable({ value = e, stack = kept.trace.stack }, Raised)
  end
  return setmetatable({ value = e, stack = traceback("", 2) }, Raised)
end
M.note_traceback = note_traceback

local function report_error(req, e, what)
  local trace
  if getmetatable(e) == Raised then
    trace, e = { stack = e.stack }, e.value
  else
    trace = errors.is_error(e) and rawget(e, "_trace")
  end
  report.report {
    message = ("error in the %s of %s %s"):format(what or "handler", req.method, req.target),
    error = e, task = task.current(), traceback = trace and errors._render(trace) or nil,
  }
end

local function internal_error(conn)
  local text = http1.reason(500)
  conn:respond(500, text, TEXT)
  return 500, #text
end

local function is_cancellation(e)
  return getmetatable(e) == errors._Cancelled and task.is_live(e)
end

-- ---- one answer ---------------------------------------------------------------------------------

-- An error on the way to the answer: before its first byte it becomes an answer itself.
local function fail(conn, req, e, what)
  if is_cancellation(e) then error(e, 0) end
  local ok, own = xpcall(answer.response_of_error, note_traceback, e)
  if ok and own then
    local status, body, content_type, lines, flags
    ok, status, body, content_type, lines, flags =
      xpcall(resolve, note_traceback, req.method == "HEAD", own)
    if ok then
      conn:respond(status, body, content_type, lines, flags)
      return status, #body
    end
    e = status
  end
  report_error(req, e, what)
  return internal_error(conn)
end

local function fail_in_parts(conn, req, e)
  if is_cancellation(e) then error(e, 0) end
  if conn:take_back() then return fail(conn, req, e, "response") end
  report_error(req, e, "response")
  conn:cut()
end

-- Sends what a handler returned; gives the status and how many bytes the body had.
local function send(conn, req, ...)
  if rawget(req, "_upgraded") then return 101, 0 end
  local ok, status, body, content_type, lines, flags, e6, e7, e8 =
    xpcall(resolve, note_traceback, req.method == "HEAD", ...)
  if not ok then return fail(conn, req, status) end
  if status then
    local policy = req[SETTINGS].compress
    if policy then
      local encoder
      lines, encoder = compression.choose(policy, req, status, content_type, lines or "", #body)
      if encoder then body = encoder:finish(body) end
    end
    conn:respond(status, body, content_type, lines, flags)
    return status, #body
  end
  local r = (...)
  local sent_status, bytes
  -- In parts: everything has moved by one place.
  ok, sent_status, bytes = xpcall(sender.send, note_traceback, conn, req, r, body, content_type,
    lines, flags, e6, e7, e8)
  if not ok then
    local failed = sent_status
    return fail_in_parts(conn, req, failed)
  end
  return sent_status, bytes
end

-- ---- one request --------------------------------------------------------------------------------

local function call_in_scope(scope, settings, conn, req)
  local guard = settings.cancel_on_disconnect and sender.guard(conn, scope, true)
  rawset(req, "_scope", scope)
  rawset(req, "_guard", guard)
  local ok, a, b, c = xpcall(settings.handler, note_traceback, req)
  if guard then guard:cancel() end
  if not ok and is_cancellation(a) then error(a, 0) end
  return ok, a, b, c
end

-- The same as `handle` below, for servers of which more is asked.
local function handle_with_limits(settings, conn, req)
  local limit = settings.handler_timeout
  if not limit and not settings.cancel_on_disconnect then
    return true, xpcall(settings.handler, note_traceback, req)
  end
  return async.move_on_after(limit, call_in_scope, settings, conn, req)
end

local function write_log(log, record)
  local done, e = xpcall(log, keep_trace, record)
  if done then return end
  if is_cancellation(e) then rethrow(e) end
  report.report { message = "error in the access log", error = e, task = task.current() }
end

-- Writes down a request that was refused before anybody saw it; false if there is none.
local function log_refusal(settings, conn)
  local status, bytes, line = conn:refusal()
  if not status then return false end
  local method, target, version = line:match "^(%S+) +(%S+) +HTTP/(%S+)$"
  write_log(settings.access_log, {
    remote = not settings.is_unix and address.parse(conn:peer()).host or nil, method = method,
    target = target, version = version, line = line, status = status, bytes = bytes,
    time = os.time(), duration = 0,
  })
  return true
end
M.log_refusal = log_refusal

local function handle_slowly(settings, conn, req)
  local log = settings.access_log
  local began = log and async.time()
  local in_time, ok, a, b, c = handle_with_limits(settings, conn, req)
  local status, bytes
  if not in_time then
    -- Its own scope has ended it: it took too long, or nobody waits for it any more.
    if settings.cancel_on_disconnect and conn:has_ended() then
      conn:close()
    else
      report_error(req, errors.new("TimeoutError",
        ("the handler took longer than %g s"):format(settings.handler_timeout)))
      local text = http1.reason(503)
      conn:respond(503, text, TEXT)
      status, bytes = 503, #text
    end
  elseif ok then
    status, bytes = send(conn, req, a, b, c)
  else
    status, bytes = fail(conn, req, a)
  end
  if log then
    write_log(log, {
      remote = req.remote, method = req.method, target = req.target, path = req.path,
      version = req.version, status = status, bytes = bytes or 0, id = req.id, time = os.time(),
      duration = async.time() - began, user_agent = req.headers["user-agent"],
      referer = req.headers.referer,
    })
  end
end

--- A request whose connection `conn` is, or with HTTP/2 its stream.
---@param head string  its first line and fields
function M.request(settings, conn, head)
  return setmetatable({ conn, head, settings, false }, Request)
end

--- Answers one request of HTTP/2.
function M.answer(req)
  local conn, settings = req[CONNECTION], req[SETTINGS]
  if settings.is_simple then
    local ok, a, b, c = xpcall(settings.handler, note_traceback, req)
    if ok and b == nil and type(a) == "string" then
      conn:respond(200, a, TEXT)
    elseif ok then
      send(conn, req, a, b, c)
    else
      fail(conn, req, a)
    end
  else
    handle_slowly(settings, conn, req)
  end
  req[ANSWERED] = true
  conn:leave()
end

--- Serves a connection until it ends, or turns out to be one of HTTP/2: then it gives true.
---@param settings table  `handler`, `max_collect_bytes`, and what else `serve` was told
function M.serve(settings, conn)
  local handler, is_simple = settings.handler, settings.is_simple
  local me = task.current()
  local environment = me[5]
  -- Looked up once: methods of an object of C++'s are far from where the interpreter looks first.
  local next_request, respond = conn.next, conn.respond
  while true do
    local head, is_http2 = next_request(conn)
    while not head do
      if not (settings.access_log and log_refusal(settings, conn)) then return is_http2 end
      head, is_http2 = next_request(conn)
    end
    local req = setmetatable({ conn, head, settings, false }, Request)
    if is_simple then
      local ok, a, b, c = xpcall(handler, note_traceback, req)
      if ok and b == nil and type(a) == "string" then
        respond(conn, 200, a, TEXT)
      elseif ok then
        send(conn, req, a, b, c)
      else
        fail(conn, req, a)
      end
    else
      handle_slowly(settings, conn, req)
    end
    req[ANSWERED] = true
    -- Context variables that a handler has set are those of its request.
    me[5] = environment
    local upgraded = rawget(req, "_upgraded")
    if upgraded then
      rawset(req, "_upgraded", false)
      upgraded:close()
    end
  end
end

report.describe(M.serve, function() return "a request, or for one to be sent" end)

return M
