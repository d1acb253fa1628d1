--- Where a client's request goes: to which server, by which proxy, protected by which TLS context.
-- Requests with the same destination share its connections.
local check_host = require("rille.core.tcp").check_host
local connect = require "rille.http.connect"
local fail = require("rille.http.exchange").fail
local multiplex = require "rille.http.multiplex"
local no_proxy = require "rille.http.no_proxy"
local url_of = require "rille.http.url"

local type, setmetatable, getmetatable, pairs, tostring =
  type, setmetatable, getmetatable, pairs, tostring

local M = {}

local PROTOCOLS = { "h2", "http/1.1" }
-- Without HTTP/2 and with it.
local contexts = { [false] = setmetatable({}, { __mode = "k" }),
  [true] = setmetatable({}, { __mode = "k" }) }

-- A server is asked to choose, unless the script has said what it may choose from.
local function with_protocols(tls)
  if tls == true then return { alpn = PROTOCOLS } end
  if type(tls) ~= "table" or getmetatable(tls) ~= nil or tls.alpn ~= nil then return tls end
  local options = { alpn = PROTOCOLS }
  for k, v in pairs(tls) do options[k] = v end
  return options
end

-- Each context has a number: where one lies in memory another may lie later, which must not get
-- connections whose servers were verified otherwise.
local numbers, last_number = setmetatable({}, { __mode = "k" }), 0

local function number_of(context)
  if not context then return "" end
  local number = numbers[context]
  if not number then
    last_number = last_number + 1
    number = " #" .. last_number
    numbers[context] = number
  end
  return number
end

-- One context for each table of options, so that its sessions and connections are found again.
local function context_of(tls, name, http2)
  if tls == nil then tls = true end
  local known = contexts[http2 and true or false]
  local key = tls == true and contexts or tls
  local context = type(key) == "table" and known[key]
  if not context then
    if http2 then tls = with_protocols(tls) end
    context = require("rille.tls.stream").context(tls, "client", name)
    if type(key) == "table" then
      -- Files may have been read meanwhile by several tasks.
      context = known[key] or context
      known[key] = context
    end
  end
  return context
end

-- Whether a request may go by HTTP/2: by ALPN, or anyway.
local function http2_of(session, url, proxy)
  local mode = session._http2
  if url.tls then return mode and multiplex.available() end
  -- A proxy is asked by HTTP/1.
  return mode == "prior" and not proxy and "prior" or false
end

local function proxy_of(state)
  local proxy, url = state.proxy_option, state.url
  if not proxy or url.path then return nil end
  if proxy == "env" then
    proxy = connect.proxy_of_environment(url)
    if not proxy then return nil end
  elseif no_proxy.names(state.no_proxy, url) then
    return nil
  end
  local parts = url_of.parse(proxy)
  if parts.path then fail(state, "a proxy cannot be a Unix socket") end
  return parts
end

--- Where the session has a socket it stands for every server.
local function use_socket(session, url)
  if session._path and not url.path then
    url.path = session._path
    url.origin = url.origin .. "@" .. session._path
  end
end
M.use_socket = use_socket

--- Finds out where the next request of `state` goes, and by what.
function M.prepare(state)
  local url, session = state.url, state.session
  use_socket(session, url)
  local proxy = proxy_of(state)
  state.proxy = proxy
  state.http2 = http2_of(session, url, proxy)
  if url.tls then state.context = context_of(state.tls, state.name, state.http2) end
  if proxy and proxy.tls then state.proxy_context = context_of(state.tls, state.name) end
  local key = url.tls and url.origin .. number_of(state.context) or url.origin
  if proxy then
    check_host(url.host, url.port)
    -- Plain requests to different servers may share a connection to the proxy.
    key = proxy.url .. (proxy.user and proxy.user .. ":" .. tostring(proxy.password) or "")
      .. number_of(proxy.tls and state.proxy_context) .. (url.tls and " " .. key or "")
  end
  state.destination = session._pool:destination(key)
end

return M
