--- TLS on streams: what net.connect, net.listen and Stream:start_tls are made of.
local binding = require "rille.tls.binding"
local task = require "rille.core.task"
local check = require "rille.core.check"
local report = require "rille.core.report"
local context = require "rille.tls.context"
local address = require "rille.net.address"
local protected = require("rille.core.protect").xpcall

local raise, rethrow, keep_trace = task.raise, task.rethrow, task.keep_trace

local HANDSHAKE_LIMIT = 10 -- seconds

local M = { context = context.of }

local function raise_if(err)
  if err ~= nil then raise(err) end
end

--- Waits until a stream's handshake is done; a plain stream has none.
---@async
-- Errors: TLSError, OSError: those of the handshake; InvalidStateError if it is closed.
function M.handshake(stream)
  raise_if((binding.handshake(stream)))
end

-- A stream that is half-way in TLS is of no use.
local function or_close(stream, fn, ...)
  local ok, e = protected(fn, keep_trace, ...)
  if ok then return stream end
  stream:close()
  return rethrow(e)
end

local function peer_text(stream, host, port)
  return host and port and address.text(host, port) or stream:name()
end

-- The name to check: an address has no zone there, and a name no dot at its end.
local function plain_name(host)
  if host:find(":", 1, true) then return (host:gsub("%%.*", "")) end
  return (host:gsub("%.$", ""))
end

local function start_client(stream, ctx, host, port, name)
  local wanted = ctx._server_name or host
  wanted = wanted and plain_name(wanted) or ""
  if wanted == "" and binding.verifies(ctx._handle) then
    check.bad("server_name", name, "it is needed to check the certificate of a peer without a host")
  end
  local peer = peer_text(stream, host, port)
  local store = context.store_of(ctx, "client")
  raise_if(binding.client(stream, ctx._handle, store, peer, wanted,
    peer .. "/" .. wanted))
  M.handshake(stream)
end

--- Begins TLS as a client, and waits for the handshake.
---@async
---@param stream Stream
---@param ctx TLSContext
---@param host? string  as the script named it
---@param port? integer
---@return Stream
-- Errors: TLSError, OSError, Cancelled; the stream is closed then.
function M.client(stream, ctx, host, port)
  return or_close(stream, start_client, stream, ctx, host, port, "connect")
end

--- Begins TLS as a server, and does not wait for anything.
---@param stream Stream
---@param ctx TLSContext
---@param limit? number  seconds that the client has for the handshake, 10 by default
function M.server(stream, ctx, limit)
  raise_if(binding.server(stream, ctx._handle, ctx._server_store, stream:name(), nil, nil,
    limit or HANDSHAKE_LIMIT))
end

local function start(stream, options, accepted, host, port)
  -- At once: while files are read, the peer may begin its handshake.
  raise_if(binding.prepare(stream, peer_text(stream, host, port)))
  if options == nil then options = true end
  local ctx = context.of(options, accepted and "server" or "client", "start_tls")
  if not accepted then return start_client(stream, ctx, host, port, "start_tls") end
  M.server(stream, ctx)
  M.handshake(stream)
end

--- Goes on in TLS, on the server's side if the stream was accepted.
---@async
---@return Stream
-- Errors: as `client`; InvalidStateError if another task uses the stream.
function M.start_tls(stream, options, accepted, host, port)
  if options == false then
    check.bad(1, "start_tls", "true, a table of options or a TLS context expected, got boolean")
  end
  return or_close(stream, start, stream, options, accepted, host, port)
end

--- What was agreed on, once the handshake is done; nil for a plain stream.
---@async
---@return table?  `version` ("TLSv1.3"), `cipher`, `alpn`, `server_name`, `resumed`, `peer`:
-- { subject =, issuer =, names =, not_before =, not_after = }, times in seconds since 1970
-- Errors: as `handshake`.
function M.info(stream)
  M.handshake(stream)
  return binding.info(stream)
end

report.describe(M.handshake, function(stream)
  return ("the TLS handshake with %s"):format(stream:name())
end)

return M
