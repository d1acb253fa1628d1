--- Sessions of the client: requests that share connections, cookies and defaults.
local async = require "rille.async"
local core = require "rille.core.scheduler"
local http1 = require "rille.core.http1"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local options_of = require "rille.http.options"
local url_of = require "rille.http.url"
local bodies = require "rille.http.body"
local cookies = require "rille.http.cookies"
local connect = require "rille.http.connect"
local no_proxy = require "rille.http.no_proxy"
local exchange = require "rille.http.exchange"
local encodings = require "rille.http.encodings"
local response_of = require "rille.http.client_response"
local multiplex = require "rille.http.multiplex"
local new_pool = require "rille.http.pool"
local hold = require "rille.http.held"
local is_own = require("rille.async.timeout").is_own
local xpcall = require("rille.core.protect").xpcall

local attempt, fail, time_out = exchange.attempt, exchange.fail, exchange.time_out
local read_in_time = exchange.read_in_time
local read_timeouts, read_count = options_of.timeouts, options_of.count
local read_no_proxy = no_proxy.read
local read_auth, read_headers, add_query = options_of.auth, options_of.headers, options_of.add_query
local keep_trace, rethrow = task.keep_trace, task.rethrow
local move_on_after, time = async.move_on_after, async.time
local enter, leave, deadline_of = core.enter, core.leave, core.deadline
local TIMEOUT, scope_cancels = task.TIMEOUT, task.scope_cancels
local type, setmetatable, getmetatable, pairs = type, setmetatable, getmetatable, pairs
local ipairs, tostring = ipairs, tostring

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

-- ---- responses ----------------------------------------------------------------------------------

local function decode(state, response, body)
  local fault
  body, fault = encodings.decode_all(response._decoder, body, state.max_body)
  response._decoder = nil
  return body or fail(state, fault)
end

local function finish_whole(state, response, connection, body)
  state.session._pool:release(state.destination, connection)
  response._body = response._decoder and decode(state, response, body) or body
end

local MOST_DRAINED = 65536

local function drain(state, connection)
  local parts, size = {}, 0
  while size <= MOST_DRAINED do
    local piece, fault = read_in_time(state, connection.read_piece, connection)
    if piece == nil then fail(state, fault) end
    if not piece then return table.concat(parts) end
    parts[#parts + 1] = piece
    size = size + #piece
  end
end

-- The body of a redirect whose last response will be streamed: nobody has asked for it, and it may
-- have no end.
local function read_little(state, response, connection)
  local ok, body = xpcall(drain, keep_trace, state, connection)
  exchange.end_upload(state)
  if ok and body then return finish_whole(state, response, connection, body) end
  connection:close()
  state.session._pool:release(state.destination, connection)
  if not ok then rethrow(body) end
  response._body, response._decoder = "", nil
end

-- Looks at what a response brings besides the status and the body: bit 1 cookies, 2 a coding, 4
-- trailers.
local function heed(response, present, jar, url, connection)
  if present >= 4 then response._trailers = connection:trailers() end
  local headers, status = response.headers, response.status
  if jar and present % 2 == 1 then jar:_take(headers:get_all "Set-Cookie", url) end
  local coding = headers["Content-Encoding"]
  if coding and response._method ~= "HEAD" and status ~= 204 and status ~= 304 then
    response._decoder = encodings.decoder(coding)
  end
end

local function respond(state, connection, head, present)
  local _, status = http1.first_line(head)
  local response = response_of.new {
    status = tonumber(status), url = state.url.url, _head = head, _method = state.method,
    _history = state.history,
  }
  if present ~= 0 then heed(response, present, state.session.cookies, state.url, connection) end
  return response
end

-- ---- redirects ----------------------------------------------------------------------------------

local REDIRECT = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }
-- These say something of a body that is not sent any more.
local OF_BODY = { "content-type", "content-length", "content-encoding", "content-language",
  "content-location", "expect" }
local SECRET = { "authorization", "cookie", "proxy-authorization", "host" }

local function drop(state, names)
  state.dropped = state.dropped or {}
  for _, name in ipairs(names) do state.dropped[name] = true end
end

local function without(headers, names)
  local list = {}
  for _, field in ipairs(headers) do
    local dropped = false
    for _, name in ipairs(names) do dropped = dropped or field[3] == name end
    if not dropped then list[#list + 1] = field end
  end
  return list
end

local prepare_destination

-- Where the session has a socket it stands for every server.
local function use_socket(session, url)
  if session._path and not url.path then
    url.path = session._path
    url.origin = url.origin .. "@" .. session._path
  end
end

-- Makes the state that of the next request.
local function follow(state, response, location)
  state.head = nil
  if #response.history >= state.redirects then
    fail(state, ("more than %d redirects"):format(state.redirects), { response = response })
  end
  local before = state.url
  local ok, url = pcall(url_of.parse, url_of.resolve(before.url, location))
  if not ok then
    if errors.is(url, "HTTPError") then
      fail(state, ("the redirect goes nowhere (%s)"):format(url.message), { response = response })
    end
    error(url, 0)
  end
  use_socket(state.session, url)
  if url.path and url.path ~= before.path then
    fail(state, "a redirect to a Unix socket is not followed", { response = response })
  end
  local status, method = response.status, state.method
  local as_get = status == 303 and method ~= "HEAD" or status < 303 and method == "POST"
  if as_get then
    state.method, state.body = "GET", nil
    state.headers = without(state.headers, OF_BODY)
  elseif not bodies.rewind(state.body) then
    fail(state, ("the body cannot be sent again after %d"):format(status), { response = response })
  end
  if url.origin ~= before.origin then
    state.authorization = nil
    drop(state, SECRET)
    state.hops = state.hops + 1
  end
  if url.user then state.authorization = read_auth({ user = url.user, password = url.password }) end
  local history = {}
  for i, r in ipairs(response.history) do history[i] = r end
  history[#history + 1] = response
  state.history, state.url = history, url
  prepare_destination(state)
end

local function location_of(state, response)
  return REDIRECT[response.status] and state.redirects > 0 and response.headers.Location
end

-- `first`: a response to the request that is a redirect. `fresh`: by a new connection.
local function perform(_, state, first, fresh)
  if first then follow(state, first, first.headers.Location) end
  while true do
    local connection, head, present, body = attempt(state, fresh)
    local response = respond(state, connection, head, present)
    local location = location_of(state, response)
    if body then
      finish_whole(state, response, connection, body)
    elseif location then
      read_little(state, response, connection)
    else
      hold(state, response, connection)
    end
    if not location then return response end
    follow(state, response, location)
  end
end

local function finish(state, ok, in_time, response)
  if ok and in_time then return response end
  if ok then time_out(state, state.timeouts.total, state.phase) end
  local e = in_time
  if errors.is_error(e) and e.url == nil and e.kind ~= "Cancelled" then e.url = state.url.url end
  rethrow(e)
end

local function copy(t)
  local c = {}
  for k, v in pairs(t) do c[k] = v end
  return c
end

-- ---- destinations -------------------------------------------------------------------------------

local PROTOCOLS = { "h2", "http/1.1" }
-- Without HTTP/2 and with it.
local contexts = { [false] = setmetatable({}, { __mode = "k" }),
  [true] = setmetatable({}, { __mode = "k" }) }

-- A server is asked to choose, unless the script has said what it may choose from.
local function with_protocols(tls)
  if tls == true then return { alpn = PROTOCOLS } end
  if type(tls) ~= "table" or getmetatable(tls) ~= nil or tls.alpn ~= nil then return tls end
  local options = copy(tls)
  options.alpn = PROTOCOLS
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

function prepare_destination(state)
  local url, session = state.url, state.session
  use_socket(session, url)
  local proxy = proxy_of(state)
  state.proxy = proxy
  state.http2 = http2_of(session, url, proxy)
  if url.tls then state.context = context_of(state.tls, state.name, state.http2) end
  if proxy and proxy.tls then state.proxy_context = context_of(state.tls, state.name) end
  local key = url.tls and url.origin .. number_of(state.context) or url.origin
  if proxy then
    -- Plain requests to different servers may share a connection to the proxy.
    key = proxy.url .. (proxy.user and proxy.user .. ":" .. tostring(proxy.password) or "")
      .. number_of(proxy.tls and state.proxy_context) .. (url.tls and " " .. key or "")
  end
  state.destination = session._pool:destination(key)
end

-- ---- the face -----------------------------------------------------------------------------------

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

-- `seconds`: what is left of the limit for all of it.
local function run(state, seconds, first, fresh)
  if seconds then
    return finish(state,
      xpcall(move_on_after, keep_trace, seconds, perform, state, first, fresh))
  end
  local ok, response = xpcall(perform, keep_trace, nil, state, first, fresh)
  return finish(state, ok, ok or response, response)
end

local function state_of(self, plan)
  plan.destination = self._pool:destination(plan.destination.key)
  return {
    session = self, name = plan.name, method = plan.method, url = plan.url, headers = plan.headers,
    body = nil, authorization = plan.authorization, timeouts = plan.timeouts, stream = nil,
    max_body = plan.max_body, redirects = plan.redirects, tls = plan.tls, history = nil, hops = 0,
    proxy_option = plan.proxy_option, no_proxy = plan.no_proxy, phase = "connect",
    head = plan.head, destination = plan.destination, reused = false, context = plan.context,
    http2 = plan.http2,
  }
end

-- An exchange by run_plan has ended without a response.
local function recover(self, plan, connection, seconds, expired_id, raised, fault)
  local pool = self._pool
  local stale = not raised and exchange.is_stale(plan, connection, fault)
  pool:give_back(plan.destination, connection, false)
  if expired_id and raised and is_own(expired_id, fault) then
    time_out(plan, plan.timeouts.total, "total")
  end
  if stale and not pool.closed then
    return run(state_of(self, plan), seconds, nil, true)
  elseif type(fault) == "string" then
    fail(plan, fault)
  end
  return finish(plan, false, fault)
end

-- A request that is known already, mostly by a connection that rests, in one wait.
local function run_plan(self, plan)
  local pool, d, total = self._pool, plan.destination, plan.timeouts.total
  local connection = pool:try_acquire(d)
  local id = connection and total and enter(TIMEOUT, total)
  if not connection or total and not id then
    if connection then pool:give_back(d, connection, false) end
    return run(state_of(self, plan), total)
  end
  local ok, status, head, present, body, rests = xpcall(connection.exchange, keep_trace, connection,
    plan.head, plan.bare, plan.max_body, pool.idle_timeout)
  if not ok or not status then
    local seconds = id and deadline_of(id) - time()
    local expired = id and leave(id)
    if ok and status == nil then
      pool:give_back(d, connection, false)
      return run_plan(self, plan)
    end
    return recover(self, plan, connection, seconds, expired and id, not ok, ok and head or status)
  end
  if id and not REDIRECT[status] then
    if leave(id) then scope_cancels[id] = nil end
    id = nil
  end
  pool:give_back(d, connection, rests)
  local response = response_of.new {
    status = status, url = plan.url.url, _head = head, _method = plan.method, _body = body,
  }
  if present ~= 0 then
    heed(response, present, self.cookies, plan.url, connection)
    if response._decoder then response._body = decode(plan, response, body) end
  end
  if not REDIRECT[status] then return response end
  local seconds = id and deadline_of(id) - time()
  if id and leave(id) then scope_cancels[id] = nil end
  if not location_of(plan, response) then return response end
  return run(state_of(self, plan), seconds, response)
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
  prepare_destination(state)
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
---@field auth? table  `{ user =, password = }` or `{ bearer = }`
---@field tls? rille.tls.Options|TLSContext
---@field proxy? string|false  a URL, or "env" for that of the environment
---@field no_proxy? string|string[]  hosts that are asked without it
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
---@field no_proxy? string|string[]  hosts that are asked without it
---@field auth? table  `{ user =, password = }` or `{ bearer = }`
---@field http2? boolean|"prior"  true: if a server of https chooses it; "prior": without asking
---@field idle_timeout? number|false  seconds that an unused connection is kept; 60 by default
---@field path? string  of a Unix socket, to which all requests go
---@field tls? rille.tls.Options|TLSContext  a context says by its `alpn` whether it offers HTTP/2
---@field redirects? integer|false  followed at most; 10 by default
---@field max_body? integer|false  bytes that are collected at most, decoded; 64 MiB by default

--- Makes a session. With HTTP/1 each request in progress has a connection of its own, so the
-- limits are those of connections too; with HTTP/2 all requests to a server share one. `no_proxy` is
-- a list, or a text with commas, of hosts (with all below them), addresses and networks such as
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
