--- TLS contexts: what connections are set up with, parsed once.
local binding = require "rille.tls.binding"
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local check = require "rille.core.check"
local options_of = require "rille.tls.options"

local raise = task.raise
local getenv = os.getenv

for _, fn in pairs(binding) do core.transparent[fn] = true end

---@class TLSContext
local Context = { __name = "TLSContext" }
Context.__index = Context

local M = {}

-- The system's certificates take their time to load, so they are kept as long as the environment
-- names the same ones.
local system = { store = nil, from = nil }

local function system_store()
  local from = (getenv "SSL_CERT_FILE" or "") .. "\0" .. (getenv "SSL_CERT_DIR" or "")
  if system.from ~= from then
    local err, store = binding.system_store()
    if err ~= nil then raise(err) end
    system.store, system.from = store, from
  end
  return system.store
end

local function make(options, side, position, name)
  local spec = options_of.read(options, side, position, name)
  local err, handle = binding.context(spec)
  if err ~= nil then raise(err) end
  return setmetatable({ _handle = handle, _server_name = options.server_name }, Context)
end

--- Makes a context for both sides.
function M.new(options) return make(check.table(options, 1, "context"), nil, 1, "context") end

-- What `tls=true` means for a client.
local default

--- A context of what a script gave as `tls=`, ready for use.
---@async
---@param value boolean|table|TLSContext
---@param side string  "client" or "server"
---@param name string  the function whose argument it is
---@return TLSContext
-- Errors: OSError for files that cannot be read, TLSError for what is wrong in them.
function M.of(value, side, name)
  local context
  if getmetatable(value) == Context then
    context = value
    if side == "server" and not binding.has_certificate(context._handle) then
      check.bad("tls", name, "a server needs a context with 'cert' and 'key'")
    end
  elseif value == true and side == "client" then
    default = default or make({}, "client", "tls", name)
    context = default
  elseif value == true or type(value) == "table" then
    context = make(value == true and {} or value, side, "tls", name)
  else
    check.bad("tls", name, "true, a table of options or a TLS context expected, got "
      .. type(value))
  end
  M.store_of(context, side)
  return context
end

--- The store by which a context without `ca` verifies, or nil.
---@async
function M.store_of(context, side)
  local for_client, for_server = binding.needs_store(context._handle)
  if side == "client" then return for_client and system_store() or nil end
  -- A server starts its handshakes where it cannot wait.
  if for_server then context._server_store = context._server_store or system_store() end
  return context._server_store
end

return M
