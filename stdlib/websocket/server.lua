--- The server's side: requests that become WebSockets.
local async = require "rille.async"
local errors = require "rille.errors"
local check = require "rille.core.check"
local task = require "rille.core.task"
local handshake = require "rille.websocket.handshake"
local sockets = require "rille.websocket.socket"
local xpcall = require("rille.core.protect").xpcall

local keep_trace, rethrow = task.keep_trace, task.rethrow

local M = {}

local OPTIONS = { max_message = true, subprotocols = true, compress = true, origins = true,
  ping_interval = true, ping_timeout = true, close_timeout = true }

--- Checks the options of App:websocket; gives what `handle` takes.
function M.options(options, name)
  options = check.options(options, OPTIONS, 3, name)
  local settings = sockets.options(options, name)
  settings.subprotocols = handshake.subprotocols(options.subprotocols, name)
  settings.compress = options.compress ~= false
  settings.origins = options.origins
  if options.origins ~= nil then
    for i, origin in ipairs(check.table(options.origins, "origins", name)) do
      if type(origin) ~= "string" then
        check.bad("origins", name, ("entry %d: string expected, got %s"):format(i, type(origin)))
      end
    end
  end
  return settings
end

local function refuse(status, message, headers)
  require("rille.http").abort(status, { body = message .. "\n", headers = headers })
end

-- Browsers tell which page asks; without a list, it has to be one of this host.
local function check_origin(req, origins)
  local origin = req.headers.origin
  if not origin then return end
  if origins then
    for _, allowed in ipairs(origins) do
      if allowed == "*" or allowed:lower() == origin:lower() then return end
    end
  elseif origin:lower():match "^%a[%w+.-]*://(.*)$" == (req.headers.host or ""):lower() then
    return
  end
  refuse(403, "the origin is not allowed")
end

local function choose_protocol(req, supported)
  for wanted in (req.headers["sec-websocket-protocol"] or ""):gmatch "[^%s,]+" do
    for _, protocol in ipairs(supported) do
      if protocol == wanted then return protocol end
    end
  end
end

-- RFC 6455, section 4.2.1.
local function check_request(req)
  local headers = req.headers
  if req.method ~= "GET" or not handshake.has_token(headers.upgrade, "websocket")
    or not handshake.has_token(headers.connection, "upgrade") then
    refuse(426, "a WebSocket handshake is expected here", { Upgrade = "websocket" })
  end
  if req.version == "1.0" then refuse(400, "WebSocket needs HTTP/1.1") end
  if (headers["content-length"] or "0") ~= "0" or headers["transfer-encoding"] then
    refuse(400, "a WebSocket handshake has no body")
  end
  if headers["sec-websocket-version"] ~= "13" then
    refuse(426, "only version 13 of WebSocket is spoken here", { ["Sec-WebSocket-Version"] = "13" })
  end
  local key = headers["sec-websocket-key"]
  if not key or not key:find "^[%w+/]+==$" or #key ~= 24 then
    refuse(400, "the Sec-WebSocket-Key is missing or malformed")
  end
  return key
end

local function open(req, settings)
  local had_headers = rawget(req, "headers")
  local key = check_request(req)
  check_origin(req, settings.origins)
  local protocol = choose_protocol(req, settings.subprotocols)
  local extensions = settings.compress
    and handshake.accept_extensions(req.headers["sec-websocket-extensions"]) or nil
  local fields = {
    { "Upgrade", "websocket" }, { "Sec-WebSocket-Accept", handshake.accept(key) },
  }
  if protocol then fields[#fields + 1] = { "Sec-WebSocket-Protocol", protocol } end
  if extensions then fields[#fields + 1] = { "Sec-WebSocket-Extensions", extensions } end
  local ws
  local stream = req:upgrade(fields, function()
    if ws then sockets.begin_close(ws, 1001, "the server is going away") end
  end)
  ws = sockets.new(stream, "", true, extensions ~= nil, settings,
    { subprotocol = protocol, url = req.target, request = req })
  -- They are read again if somebody asks: many WebSockets are open for long.
  if not had_headers then rawset(req, "headers", nil) end
  return ws
end

--- Makes a request a WebSocket, and runs `handler(ws, req)`; its end closes with 1000, its error
-- with 1011.
---@async
function M.handle(req, handler, settings)
  local ws = open(req, settings)
  local ok, e = xpcall(handler, keep_trace, ws, req)
  -- That the peer has gone is what it does, not a fault of the handler's.
  if ok or errors.is(e, "WebSocketError") and ws.close_code then
    ws:close(1000)
    return
  end
  sockets.begin_close(ws, async.is_cancelled(e) and 1001 or 1011, "")
  async.finally(function() ws:close() end, function() sockets.cut_off(ws) end)
  rethrow(e)
end

return M
