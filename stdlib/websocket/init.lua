--- rille.websocket: WebSocket, over TCP, TLS and Unix sockets.
local async = require "rille.async"
local http1 = require "rille.core.http1"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local fields = require "rille.http.fields"
local url_of = require "rille.http.url"
local connect = require "rille.http.connect"
local options_of = require "rille.http.options"
local handshake = require "rille.websocket.handshake"
local sockets = require "rille.websocket.socket"
local xpcall = require("rille.core.protect").xpcall

local keep_trace, rethrow = task.keep_trace, task.rethrow

local M = { broadcast = sockets.broadcast }

local TIMEOUT = 10 -- seconds for name, connection and handshake

local OPTIONS = { headers = true, subprotocols = true, timeout = true, tls = true, proxy = true,
  auth = true, max_message = true, compress = true, ping_interval = true, ping_timeout = true,
  close_timeout = true }

local SCHEMES = {
  ws = "http", wss = "https", ["ws+unix"] = "http+unix", ["wss+unix"] = "https+unix",
}

local function parse(url, name)
  url = check.string(url, 1, name)
  local scheme, rest = url:match "^(%a[%w+.-]*)(://.*)$"
  local plain = scheme and SCHEMES[scheme:lower()]
  if not plain then
    errors._raise("HTTPError", ("not a URL of WebSocket (ws:, wss:): '%s'"):format(
      url_of.without_credentials(url)), { url = url_of.without_credentials(url) })
  end
  local parts = url_of.parse(plain .. rest)
  parts.url = parts.url:gsub("^http", "ws")
  return parts
end

local OURS = { upgrade = true, connection = true, ["sec-websocket-key"] = true,
  ["sec-websocket-version"] = true, ["sec-websocket-protocol"] = true,
  ["sec-websocket-extensions"] = true, ["content-length"] = true, ["transfer-encoding"] = true }

local function write_request(state)
  local lines, own = {}, {}
  local ok, e = pcall(fields.each_header, state.headers or {}, function(key, value, lower)
    if OURS[lower] then error(("header '%s' cannot be set"):format(key), 0) end
    own[lower] = true
    if value then lines[#lines + 1] = key .. ": " .. value .. "\r\n" end
  end)
  if not ok then check.bad("headers", "connect", e) end
  local url = state.url
  local function standard(name, value)
    if value and not own[name:lower()] then lines[#lines + 1] = name .. ": " .. value .. "\r\n" end
  end
  standard("Host", url.authority)
  standard("User-Agent", "rille/" .. rille.version)
  standard("Authorization", state.authorization)
  standard("Upgrade", "websocket")
  standard("Connection", "Upgrade")
  standard("Sec-WebSocket-Key", state.key)
  standard("Sec-WebSocket-Version", "13")
  if state.subprotocols[1] then
    standard("Sec-WebSocket-Protocol", table.concat(state.subprotocols, ", "))
  end
  if state.compress then standard("Sec-WebSocket-Extensions", handshake.offer) end
  return ("GET %s HTTP/1.1\r\n%s\r\n"):format(url.target, table.concat(lines))
end

local function fail(state, message, extra)
  extra = extra or {}
  extra.url = state.url.url
  errors._raise("HTTPError", ("%s: %s"):format(message, state.url.url), extra)
end

-- RFC 6455, section 4.1.
local function check_answer(state, head)
  local _, status, reason = http1.first_line(head)
  status = tonumber(status)
  local headers = fields.headers(head)
  if status ~= 101 then
    fail(state, ("the server refused the WebSocket: %d %s"):format(status, reason),
      { status = status, reason = reason, headers = headers })
  end
  if not handshake.has_token(headers.upgrade, "websocket")
    or not handshake.has_token(headers.connection, "upgrade")
    or headers["sec-websocket-accept"] ~= handshake.accept(state.key) then
    fail(state, "the server's handshake is not one of WebSocket", { status = status })
  end
  local protocol = headers["sec-websocket-protocol"]
  local offered = protocol == nil
  for _, name in ipairs(state.subprotocols) do offered = offered or name == protocol end
  if not offered then
    fail(state, ("the server chose a subprotocol that was not offered: '%s'"):format(protocol),
      { status = status })
  end
  local deflates, more = handshake.read_extensions(headers["sec-websocket-extensions"])
  if deflates == nil or deflates and not state.compress then
    fail(state, "the server chose " .. (not deflates and more
      or "compression, which was not offered"),
      { status = status })
  end
  return protocol, deflates, deflates and more
end

local function shake_hands(state, connection)
  connection:begin(write_request(state), false, 0, true)
  local head, fault = connection:read_head()
  if not head then fail(state, fault) end
  local protocol, deflates, keeps_history = check_answer(state, head)
  local stream, early = connection:release()
  return sockets.new(stream, early, false, deflates, state.settings,
    { subprotocol = protocol, url = state.url.url }, keeps_history)
end

local function open(_, state)
  local connection = connect.open(state.url, state.proxy, state.context, state.proxy_context)
  local ok, ws = xpcall(shake_hands, keep_trace, state, connection)
  if ok then return ws end
  connection:close()
  rethrow(ws)
end

local function read_proxy(state, proxy)
  if proxy == nil or proxy == false or state.url.path then return end
  if proxy == "env" then proxy = connect.proxy_of_environment(state.url) end
  if not proxy then return end
  if type(proxy) ~= "string" then
    check.bad("proxy", "connect", "string expected, got " .. type(proxy))
  end
  state.proxy = url_of.parse(proxy)
end

---@class rille.websocket.ConnectOptions
---@field headers? table  of the handshake, as a request has them
---@field subprotocols? string[]  offered, the one that is wanted most first
---@field timeout? number  seconds up to the end of the handshake; 10 by default, false: no limit
---@field tls? rille.tls.Options|TLSContext
---@field proxy? string|false  a URL, or "env"
---@field auth? table  `{ user =, password = }` or `{ bearer = }`
---@field max_message? integer  bytes; 1 MiB by default
---@field compress? boolean  offers compression; true by default
---@field ping_interval? number  seconds; 20 by default, false: no pings
---@field ping_timeout? number  seconds that an answer may take; 20 by default, false: no limit
---@field close_timeout? number  seconds that close() waits for the peer; 10 by default

--- Opens a WebSocket.
---@async
---@param url string  ws:, wss:, ws+unix: or wss+unix:
---@param options? rille.websocket.ConnectOptions
---@return WebSocket
-- Errors: HTTPError with `status` if the server refuses; OSError, TLSError, TimeoutError, each with
-- `url`.
-- Source: RFC 6455; Python's websockets for the options.
function M.connect(url, options)
  options = check.options(options, OPTIONS, 2, "connect")
  local state = {
    url = parse(url, "connect"), settings = sockets.options(options, "connect"),
    headers = options.headers,
    key = handshake.key(), compress = options.compress ~= false,
    subprotocols = handshake.subprotocols(options.subprotocols, "connect"),
  }
  local parts = state.url
  state.authorization = options_of.auth(options.auth, "connect")
    or parts.user and options_of.auth({ user = parts.user, password = parts.password }, "connect")
  read_proxy(state, options.proxy)
  -- A plain WebSocket goes through a tunnel as well: proxies do not know it.
  parts.tunnel = state.proxy ~= nil
  local tls = options.tls == nil and true or options.tls
  local function context() return require("rille.tls.stream").context(tls, "client", "connect") end
  if parts.tls then state.context = context() end
  if state.proxy and state.proxy.tls then state.proxy_context = context() end
  local timeout = options.timeout
  if timeout == nil then timeout = TIMEOUT end
  timeout = timeout and check.seconds(timeout, "timeout", "connect") or nil
  local ok, in_time, ws = xpcall(async.move_on_after, keep_trace, timeout, open, state)
  if ok and in_time then return ws end
  if ok then
    errors._raise("TimeoutError", ("timed out after %g s: %s"):format(timeout, parts.url),
      { url = parts.url })
  end
  local e = in_time
  if errors.is_error(e) and e.url == nil and e.kind ~= "Cancelled" then e.url = parts.url end
  rethrow(e)
end

return M
