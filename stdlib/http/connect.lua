--- Connections of the client: straight to the server, or by way of a proxy; plain or with TLS.
local http1 = require "rille.core.http1"
local tcp = require "rille.core.tcp"
local task = require "rille.core.task"
local errors = require "rille.errors"
local base64 = require "rille.http.base64"
local connect = require "rille.net.connect"
local no_proxy = require "rille.http.no_proxy"
local xpcall = require("rille.core.protect").xpcall

local keep_trace, rethrow = task.keep_trace, task.rethrow

local M = {}

local function or_close(resource, fn, ...)
  local ok, result = xpcall(fn, keep_trace, ...)
  if ok then return result end
  resource:close()
  return rethrow(result)
end

--- What a proxy wants to know of us; nil if nothing.
function M.proxy_authorization(proxy)
  if not proxy.user then return nil end
  return "Basic " .. base64(proxy.user .. ":" .. (proxy.password or ""))
end

local function refused(target, proxy, what)
  errors._raise("HTTPError", ("the proxy %s refused the connection to %s: %s"):format(
    proxy.authority, target, what))
end

-- Asks for a tunnel, and gives the stream through it.
local function ask_for_tunnel(connection, target, proxy)
  local lines = { ("CONNECT %s HTTP/1.1\r\nHost: %s\r\n"):format(target, target) }
  local authorization = M.proxy_authorization(proxy)
  if authorization then
    lines[#lines + 1] = "Proxy-Authorization: " .. authorization .. "\r\n"
  end
  lines[#lines + 1] = "\r\n"
  connection:begin(table.concat(lines), true, 0)
  local head, fault = connection:read_head()
  if not head then refused(target, proxy, fault) end
  local _, status, reason = http1.first_line(head)
  if status:sub(1, 1) ~= "2" then refused(target, proxy, status .. " " .. reason) end
  local stream, early = connection:release()
  if early ~= "" then
    stream:close()
    refused(target, proxy, "it sent bytes before there was a connection")
  end
  return stream
end

local function open_tunnel(stream, url, proxy)
  local target = url.authority
  if not target:find ":%d+$" then target = target .. ":" .. url.port end
  local connection = http1.client(stream)
  return or_close(connection, ask_for_tunnel, connection, target, proxy)
end

local function start_tls(stream, context, url)
  return require("rille.tls.stream").client(stream, context, not url.path and url.host or nil,
    url.port)
end

--- Opens a connection for requests to `url`, with or without a proxy.
---@async
---@param url table  a parsed URL
---@param proxy? table  a parsed URL
---@param context? table  for TLS with the server
---@param proxy_context? table  for TLS with the proxy
---@param http2? boolean|"prior"  whether HTTP/2 is spoken if the server has chosen it, or anyway
---@param idle_timeout? number  of a connection of HTTP/2, in seconds
---@return table connection, boolean is_shared  whether it is one of HTTP/2
-- Errors: OSError, TLSError, HTTPError.
function M.open(url, proxy, context, proxy_context, http2, idle_timeout)
  local stream
  if url.path then
    stream = connect.unix(url.path)
  elseif proxy then
    tcp.check_host(url.host, url.port)
    stream = connect.tcp(proxy.host, proxy.port)
    if proxy.tls then stream = start_tls(stream, proxy_context, proxy) end
    if url.tls or url.tunnel then stream = open_tunnel(stream, url, proxy) end
  else
    stream = connect.tcp(url.host, url.port)
  end
  if url.tls then stream = start_tls(stream, context, url) end
  if http2 and (not url.tls or require("rille.tls.stream").info(stream).alpn == "h2") then
    local scheme = url.tls and "https" or "http"
    return or_close(stream, require("rille.http.multiplex").client, stream, scheme, idle_timeout),
      true
  end
  return http1.client(stream), false
end

-- ---- which proxy --------------------------------------------------------------------------------

local getenv = require("rille.process").getenv

local function variable(name) return getenv(name:lower()) or getenv(name:upper()) end

--- The proxy that the environment names for a URL: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY.
---@return string?
-- Source: curl(1). HTTP_PROXY in capitals is what a CGI program is given for a field `Proxy:`, so
-- there only the small letters count.
function M.proxy_of_environment(url)
  if no_proxy.names(variable "no_proxy", url) then return nil end
  local found
  if url.tls then
    found = variable "https_proxy"
  else
    found = getenv "http_proxy"
    if not found and not getenv "REQUEST_METHOD" then found = getenv "HTTP_PROXY" end
  end
  found = found or variable "all_proxy"
  if found == nil or found == "" then return nil end
  if not found:find("://", 1, true) then found = "http://" .. found end
  return found
end

return M
