--- Sessions of the client: requests that share connections, cookies and defaults.
local http1 = require "rille.core.http1"
local errors = require "rille.errors"
local check = require "rille.core.check"
local options_of = require "rille.http.options"
local url_of = require "rille.http.url"
local bodies = require "rille.http.body"
local cookies = require "rille.http.cookies"
local destination = require "rille.http.destination"
local exchange = require "rille.http.exchange"
local multiplex = require "rille.http.multiplex"
local perform = require "rille.http.perform"
local new_pool = require "rille.http.pool"

local run, run_plan = perform.run, perform.run_plan
local read_timeouts, read_count = options_of.timeouts, options_of.count
local read_auth, read_headers, add_query = options_of.auth, options_of.headers, options_of.add_query
local read_no_proxy = require("rille.http.no_proxy").read
local time = require("rille.async").time
local type, setmetatable, pairs, ipairs, tostring = type, setmetatable, pairs, ipairs, tostring

local TOTAL, CONNECT = 300, 30 -- seconds
local MAX_BODY = 64 * 1048576
local LIMIT = 100
local IDLE_TIMEOUT = 60
local REDIRECTS = 10

--- Sends a request with the method of that name, as `request` does.
---@alias rille.http.Send
---| async fun(self: Session, url: string, options?: rille.http.RequestOptions): ClientResponse

---@class Session
---@field cookies CookieJar?  none with `cookies=false`
---@field get rille.http.Send
---@field post rille.http.Send
---@field put rille.http.Send
---@field patch rille.http.Send
---@field delete rille.http.Send
---@field head rille.http.Send
---@field options rille.http.Send
local Session = { __name = "Session" }
Session.__index = Session

-- A script mostly asks for few URLs again and again.
local MOST_PARSED = 1000
local parsed, parsed_count = {}, 0

local function parse(text)
  local url = parsed[text]
  if url then return url end
  url = url_of.parse(text)
  if parsed_count >= MOST_PARSED then parsed, parsed_count = {}, 0 end
  parsed[text] = url
  parsed_count = parsed_count + 1
  return url
end

local NOTHING = {}
local WITH_BODY = exchange.WITH_BODY

local REQUEST = {
  headers = true, query = true, body = true, json = true, form = true, multipart = true,
  timeout = true, redirects = true, auth = true, tls = true, stream = true, max_body = true,
  proxy = true, no_proxy = true,
}

local function copy(t)
  local c = {}
  for k, v in pairs(t) do c[k] = v end
  return c
end

local function full_url(session, url)
  local base = session._base_url
  if base == nil then return url end
  return url_of.resolve(base, url)
end

-- Requests without a body and without options, again and again the same: what they are made of.
local function plan_of(self, state)
  local jar = self.cookies
  local usable = state.options == NOTHING and not WITH_BODY[state.method] and state.proxy == nil
    and not state.timeouts.read and (not jar or jar._count == 0)
  if not usable then return end
  state.head, state.bare = exchange.write_head(state), state.method == "HEAD"
  if self._plan_count >= MOST_PARSED then self._plans, self._plan_count = {}, 0 end
  self._plan_count = self._plan_count + 1
  local plans = self._plans[state.method] or {}
  self._plans[state.method] = plans
  plans[state.text] = state
end

function Session:_request(method, text, options, name, position)
  if self._pool.closed then
    errors._raise("InvalidStateError", ("%s: the session is closed"):format(name))
  end
  if options == nil then
    local plan = self._plans[method] and self._plans[method][text]
    local jar = self.cookies
    if plan and (not jar or jar._count == 0) then return run_plan(self, plan) end
    options = NOTHING
  else
    options = check.options(options, REQUEST, position + 1, name)
  end
  if type(text) ~= "string" then
    check.bad(position, name, "string expected, got " .. type(text))
  end
  local body = options ~= NOTHING and bodies.read(options, name) or nil
  if options.query ~= nil then text = add_query(text, options.query, name) end
  local url = parse(full_url(self, text))
  if self._path then url = copy(url) end
  local authorization = read_auth(options.auth, name) or self._authorization
  if url.user then
    authorization = read_auth({ user = url.user, password = url.password }, name)
  elseif options.auth == false then
    authorization = nil
  elseif not authorization and url.origin == self._base_origin then
    authorization = self._base_authorization
  end
  local headers = self._headers
  if options.headers ~= nil then
    headers = read_headers(options.headers, {}, name)
    local own = {}
    for _, field in ipairs(headers) do own[field[3]] = true end
    for _, field in ipairs(self._headers) do
      if not own[field[3]] then headers[#headers + 1] = field end
    end
  end
  local proxy = options.proxy
  if proxy == nil then proxy = self._proxy end
  local timeouts = read_timeouts(options.timeout, self._timeouts, name)
  local state = {
    session = self, name = name, method = method, url = url, headers = headers, body = body,
    authorization = authorization, timeouts = timeouts, stream = options.stream,
    max_body = read_count(options.max_body, self._max_body, "max_body", name),
    redirects = read_count(options.redirects, self._redirects, "redirects", name),
    tls = options.tls == nil and self._tls or options.tls, history = nil, hops = 0,
    proxy_option = proxy, phase = "connect",
    no_proxy = read_no_proxy(options.no_proxy, name) or self._no_proxy,
  }
  if state.max_body == math.huge then state.max_body = 0 end
  local total = timeouts.total
  if total and options.stream then state.deadline = time() + total end
  destination.prepare(state)
  state.options, state.text = options, text
  plan_of(self, state)
  return run(state, total)
end

local METHODS = {}

---@class rille.http.RequestOptions
---@field headers? table  name to text, number or list, or list of pairs; false takes a default away
---@field query? table  a map (sorted) or a list of pairs; lists repeat the name
---@field body? string|function|table  a text, a function called until nil, or a thing with chunks()
---@field json? any  in place of `body`
---@field form? table  in place of `body`: a map or a list of pairs
---@field multipart? table  in place of `body`: a map, or a list of parts, see below
---@field timeout? number|table|false  seconds in all, or `{ connect =, total =, read = }`
---@field redirects? integer|false  followed at most; 10 by default
---@field auth? table|false  `{ user =, password = }` or `{ bearer = }`; false: not the session's
---@field tls? rille.tls.Options|TLSContext
---@field proxy? string|false  a URL, or "env" for that of the environment
---@field no_proxy? string|string[]|false  hosts that are asked without it
---@field stream? boolean  returns after the head; read by chunks(), lines() or events()
---@field max_body? integer|false  bytes that are collected at most, decoded; 64 MiB by default

--- Sends a request and waits for the response, body included unless `stream` is set. A part of
-- `multipart` is `{ name =, data = | file =, filename =, content_type = }`. `timeout` replaces that
-- of the session key by key.
---@async
---@param method string
---@param url string  resolved against the session's `base_url`
---@param options? rille.http.RequestOptions
---@return ClientResponse
-- Errors: OSError, TLSError, TimeoutError (with `phase`), HTTPError, each with `url`;
-- InvalidStateError once the session is closed.
function Session:request(method, url, options)
  method = check.string(method, 1, "request")
  if not http1.is_token(method) then
    check.bad(1, "request", ("'%s' is no method"):format(method))
  end
  return self:_request(method:upper(), url, options, "request", 2)
end

for _, name in ipairs { "get", "post", "put", "patch", "delete", "head", "options" } do
  local method = name:upper()
  METHODS[#METHODS + 1] = name
  Session[name] = function(self, url, options)
    return self:_request(method, url, options, name, 1)
  end
end

--- Closes every connection. Requests in progress fail; later ones are an InvalidStateError.
function Session:close() self._pool:close() end

Session.__tostring = function(self)
  local used, resting = self._pool:counts()
  return ("Session: %d connections in use, %d idle%s"):format(used, resting,
    self._pool.closed and " (closed)" or "")
end

local OPTIONS = {
  base_url = true, headers = true, timeout = true, limit = true, limit_per_host = true,
  cookies = true, proxy = true, no_proxy = true, auth = true, http2 = true, idle_timeout = true,
  path = true, tls = true, redirects = true, max_body = true,
}

local function read_limit(value, default, what)
  if value == nil then return default end
  if value == false or value == math.huge then return nil end
  return check.count(value, 1, what, "Session")
end

local M = { methods = METHODS }

---@class rille.http.SessionOptions
---@field base_url? string  what URLs are resolved against; a slash is added to it
---@field headers? table  sent with every request
---@field timeout? number|table|false  `{ total = 300, connect = 30 }` by default; false: no limits
---@field limit? integer|false  requests at once, the others wait; 100 by default
---@field limit_per_host? integer|false  the same for each server; no limit by default
---@field cookies? boolean|table  false: none are kept; a map fills the jar
---@field proxy? string|false  a URL, or "env" for that of the environment
---@field no_proxy? string|string[]|false  hosts that are asked without it
---@field auth? table  `{ user =, password = }` or `{ bearer = }`
---@field http2? boolean|"prior"  true: if a server of https chooses it; "prior": without asking
---@field idle_timeout? number|false  seconds that an unused connection is kept; 60 by default
---@field path? string  of a Unix socket, to which all requests go
---@field tls? rille.tls.Options|TLSContext  a context says by its `alpn` whether it offers HTTP/2
---@field redirects? integer|false  followed at most; 10 by default
---@field max_body? integer|false  bytes that are collected at most, decoded; 64 MiB by default

--- Makes a session. With HTTP/1 each request in progress has a connection of its own, so the
-- limits are those of connections too; with HTTP/2 all requests to a server share one. `no_proxy`
-- is a list, or a text with commas, of hosts (with all below them), addresses and networks such as
-- "10.0.0.0/8", each perhaps with a port; `*` for all.
---@param options? rille.http.SessionOptions
---@return Session
-- Source: aiohttp.ClientSession.
function M.new(options)
  local name = "Session"
  options = check.options(options, OPTIONS, 1, name)
  local base_url, base = options.base_url, {}
  if base_url ~= nil then
    base = url_of.parse(check.string(base_url, "base_url", name))
    base_url = base.url
    local path, query = base_url:match "^([^?]*)(.*)$"
    if path:sub(-1) ~= "/" then base_url = path .. "/" .. query end
  end
  local http2 = options.http2
  if http2 == nil then http2 = true end
  if type(http2) ~= "boolean" and http2 ~= "prior" then
    check.bad("http2", name, "true, false or 'prior' expected, got " .. tostring(http2))
  end
  if http2 == "prior" then
    local ok, why = multiplex.available()
    if not ok then check.bad("http2", name, "HTTP/2 is not there: " .. why) end
  end
  local proxy = options.proxy
  if proxy ~= nil and proxy ~= false and proxy ~= "env" then
    url_of.parse(check.string(proxy, "proxy", name))
  end
  local max_body = read_count(options.max_body, MAX_BODY, "max_body", name)
  local jar
  if options.cookies ~= false then
    if options.cookies ~= nil and type(options.cookies) ~= "boolean" then
      check.table(options.cookies, "cookies", name)
    end
    jar = cookies.new(type(options.cookies) == "table" and options.cookies or nil)
  end
  local idle = options.idle_timeout
  if idle == nil then idle = IDLE_TIMEOUT end
  if idle == false or idle == math.huge then idle = 0 end
  return setmetatable({
    _plans = {}, _plan_count = 0, _http2 = http2,
    cookies = jar, _base_url = base_url, _base_origin = base.origin,
    _base_authorization = base.user and read_auth({ user = base.user, password = base.password }),
    _headers = read_headers(options.headers, {}, name),
    _timeouts = read_timeouts(options.timeout, { total = TOTAL, connect = CONNECT }, name),
    _proxy = proxy, _no_proxy = read_no_proxy(options.no_proxy, name),
    _authorization = read_auth(options.auth, name),
    _path = options.path and check.string(options.path, "path", name) or nil, _tls = options.tls,
    _max_body = max_body == math.huge and 0 or max_body,
    _redirects = read_count(options.redirects, REDIRECTS, "redirects", name),
    _pool = new_pool(read_limit(options.limit, LIMIT, "limit"),
      read_limit(options.limit_per_host, nil, "limit_per_host"),
      check.seconds(idle, "idle_timeout", name)),
  }, Session)
end

return M
