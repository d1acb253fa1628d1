--- Performs the client's requests: one exchange after another, until a response is no redirect.
local async = require "rille.async"
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local exchange = require "rille.http.exchange"
local hold = require "rille.http.held"
local receive = require "rille.http.receive"
local redirects = require "rille.http.redirects"
local response_of = require "rille.http.client_response"

local is_own = require("rille.async.timeout").is_own
local xpcall = require("rille.core.protect").xpcall
local attempt, fail, time_out = exchange.attempt, exchange.fail, exchange.time_out
local decode, heed, respond = receive.decode, receive.heed, receive.respond
local finish_whole, read_little = receive.finish_whole, receive.read_little
local follow, location_of, REDIRECT = redirects.follow, redirects.location_of, redirects.REDIRECT
local keep_trace, rethrow = task.keep_trace, task.rethrow
local move_on_after, time = async.move_on_after, async.time
local enter, leave, deadline_of = core.enter, core.leave, core.deadline
local TIMEOUT, scope_cancels = task.TIMEOUT, task.scope_cancels
local type = type

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

--- Performs a request. `seconds`: what is left of the limit for all of it.
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

--- Performs a request that is known already, mostly by a connection that rests, in one wait.
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

return { run = run, run_plan = run_plan }
