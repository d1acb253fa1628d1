--- rille.dns: what name servers know. `resolve` asks them alone; `lookup` finds a host's addresses
-- as the other programs of the system do, /etc/hosts and all, and is what connections use.
local names = require "rille.core.names"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local report = require "rille.core.report"
local move_on_after = require("rille.async.timeout").move_on_after

local dns = {}

local TYPES = {
  A = 1, NS = 2, CNAME = 5, PTR = 12, MX = 15, TXT = 16, AAAA = 28, SRV = 33, CAA = 257,
}

local DEFAULT_TIMEOUT, LONGEST_TIMEOUT = 10, 3600
local DEFAULT_TRIES, MOST_TRIES = 3, 10

local BADRESP = 10 -- c-ares's number
local TEXTS = {
  ENOTFOUND = "no such domain name",
  ENODATA = "the name has no record of this type",
  ESERVFAIL = "the name server has failed",
  EREFUSED = "the name server refused to answer",
  EFORMERR = "the name server did not understand the question",
  ENOTIMP = "the name server does not answer such questions",
  EBADRESP = "the answer is damaged",
  EBADNAME = "not a domain name",
  ECONNREFUSED = "no connection to a name server",
}

-- The part that needs c-ares.
local has_binding, binding = pcall(require, "rille.core.dns")

local function need_binding(name)
  if not has_binding then
    check.fail(("%s: this Rille was built without c-ares (libc-ares-dev), which it needs")
      :format(name))
  end
end

local function printable(text) return (text:gsub("%z", "\\0")) end

-- ---- options ------------------------------------------------------------------------------------

local OPTIONS = { servers = true, timeout = true, tries = true }

local function server_list(list, name)
  if list == nil then return {} end
  check.table(list, "servers", name)
  if #list == 0 then check.bad("servers", name, "a list of addresses expected, got none") end
  local copy = {}
  for i, text in ipairs(list) do
    if type(text) ~= "string" or not binding.is_server(text) then
      check.bad("servers", name, ("address of a name server expected, with or without a port, got "
        .. "'%s'"):format(printable(tostring(text))))
    end
    copy[i] = text
  end
  return copy
end

local function read_options(options, position, name)
  options = check.options(options, OPTIONS, position, name)
  local timeout, tries = DEFAULT_TIMEOUT, DEFAULT_TRIES
  if options.timeout ~= nil then
    timeout = check.seconds(options.timeout, "timeout", name)
    if timeout <= 0 then check.bad("timeout", name, "a time above 0 expected") end
  end
  if options.tries ~= nil then tries = check.count(options.tries, 1, "tries", name) end
  return {
    servers = server_list(options.servers, name), timeout = math.min(timeout, LONGEST_TIMEOUT),
    tries = math.min(tries, MOST_TRIES),
  }
end

-- ---- questions ----------------------------------------------------------------------------------

local function check_question(name, kind, called)
  if type(name) ~= "string" or name:find "%z" then
    check.bad(1, called, "domain name expected, got " .. (type(name) == "string"
      and "'" .. printable(name) .. "'" or name == nil and "nil" or type(name)))
  end
  if kind == nil then return "A" end
  kind = check.string(kind, 2, called):upper()
  if not TYPES[kind] then
    check.bad(2, called, ("A, AAAA, CNAME, NS, PTR, TXT, MX, SRV or CAA expected, got '%s'")
      :format(printable(kind)))
  end
  return kind
end

local function raise(code, number, name)
  local text = TEXTS[code] or "the question failed"
  error(errors.os_error(code, number, text, "dns", nil, nil, name), 0)
end

local function query(_, channel, name, kind) return channel:query(name, kind) end

-- The name comes first: it is what a report about this wait shows.
local function ask(name, kind, channel, seconds)
  local question = kind == "PTR" and binding.arpa(name) or name
  local unreadable = channel:unreadable()
  local in_time, list, code, number = move_on_after(seconds, query, channel, question, TYPES[kind])
  if list then return list end
  if not in_time or code == "ETIMEOUT" then
    -- Servers have said something, if nothing that can be understood.
    if channel:unreadable() ~= unreadable then raise("EBADRESP", BADRESP, name) end
    errors._raise("TimeoutError", "no name server has answered in time: dns " .. name,
      { syscall = "dns", address = name })
  end
  if code == "EDESTRUCTION" then errors._raise("InvalidStateError", "the Resolver is closed") end
  raise(code, number, name)
end
report.describe(ask, function(name) return "dns: " .. name end)

---@class Resolver
local Resolver = {}
Resolver.__index = Resolver
Resolver.__name = "Resolver"

local function new_resolver(options)
  local channel, e = binding.channel(options.servers, math.ceil(options.timeout * 1000),
    options.tries)
  if not channel then task.raise(e) end
  return setmetatable({ _channel = channel, _timeout = options.timeout }, Resolver)
end

--- Asks this resolver's name servers, as dns.resolve does.
---@async
---@param name string
---@param kind? string  "A" by default
---@return table  a list, as dns.resolve gives it
-- Errors: as dns.resolve; InvalidStateError once it is closed.
function Resolver:resolve(name, kind)
  kind = check_question(name, kind, "resolve")
  return (ask(name, kind, self._channel, self._timeout))
end

--- Ends its questions with an InvalidStateError; a second time does nothing.
function Resolver:close() self._channel:close() end

---@class rille.dns.Options
---@field servers? string[]  IP addresses, with a port or not; those of the system by default
---@field timeout? number  seconds that an answer may take in all; 10 by default
---@field tries? integer  how often each server is asked within that time; 3 by default

--- Makes a resolver with name servers and limits of its own, for any number of questions.
---@param options? rille.dns.Options
---@return Resolver
function dns.Resolver(options)
  need_binding "Resolver"
  return new_resolver(read_options(options, 1, "Resolver"))
end

-- Resolvers by their options, so that questions with the same ones share sockets.
local shared, shared_count = {}, 0
local MOST_SHARED = 64

local function shared_resolver(options)
  local key = "default"
  if options then
    options = read_options(options, 3, "resolve")
    key = table.concat({ options.timeout, options.tries, unpack(options.servers) }, " ")
  end
  local resolver = shared[key]
  if resolver then return resolver end
  if shared_count >= MOST_SHARED then shared, shared_count = {}, 0 end
  resolver = new_resolver(options or read_options(nil, 3, "resolve"))
  shared[key], shared_count = resolver, shared_count + 1
  return resolver
end

--- Asks name servers for the records of a name. It is taken as it stands: neither /etc/hosts nor
-- the search list of the system has a part in it; letters beyond ASCII are encoded (Punycode).
---@async
---@param name string  for PTR an IP address or a name below arpa
---@param kind? string  "A" (default), "AAAA", "CNAME", "NS", "PTR", "TXT", "MX", "SRV" or "CAA"
---@param options? rille.dns.Options
---@return table  a list: of texts, for A, AAAA, CNAME, NS, PTR and TXT; of `{ priority =,
-- exchange = }` for MX; of `{ priority =, weight =, port =, name = }` for SRV; of `{ flags =,
-- tag =, value = }` for CAA
-- Errors: OSError with syscall "dns" and the name as address: ENOTFOUND (no such name), ENODATA (no
-- such record), ESERVFAIL, EREFUSED, EBADRESP (a damaged answer), EBADNAME, ECONNREFUSED (no server
-- there); TimeoutError.
-- Source: Node's dns.resolve.
function dns.resolve(name, kind, options)
  need_binding "resolve"
  kind = check_question(name, kind, "resolve")
  local resolver = shared_resolver(options)
  return (ask(name, kind, resolver._channel, resolver._timeout))
end

-- ---- the system's way ---------------------------------------------------------------------------

local LOOKUP_OPTIONS = { family = true }
local FAMILIES = { inet = "inet", inet6 = "inet6", [4] = "inet", [6] = "inet6" }

local function look_up(host, family) return (names.lookup(host, family)) end
report.describe(look_up, function(host) return "the addresses of " .. host end)

---@class rille.dns.LookupOptions
---@field family? "inet"|"inet6"  addresses of IPv4 or IPv6 alone; both by default

--- Finds the addresses of a host as the system is set up to: /etc/hosts, name servers and whatever
-- else nsswitch.conf says.
---@async
---@param host string  a name or an IP address
---@param options? rille.dns.LookupOptions
---@return string[]  in the system's order, which is the order to try them in
-- Errors: OSError with syscall "getaddrinfo" and the host as address: EAI_NONAME, EAI_AGAIN (no
-- name server answers) and others.
-- Source: getaddrinfo(3).
function dns.lookup(host, options)
  if type(host) ~= "string" or host == "" or host:find "%z" then
    check.bad(1, "lookup", "name or address of a host expected, got " .. (type(host) == "string"
      and "'" .. printable(host) .. "'" or host == nil and "nil" or type(host)))
  end
  options = check.options(options, LOOKUP_OPTIONS, 2, "lookup")
  local family = options.family
  if family ~= nil and not FAMILIES[family] then
    check.bad("family", "lookup", ("'inet' or 'inet6' expected, got '%s'"):format(
      printable(tostring(family))))
  end
  return look_up(host, FAMILIES[family])
end

return dns
