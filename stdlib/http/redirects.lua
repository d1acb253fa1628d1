--- Redirects: what becomes of a request that a response sends elsewhere.
local errors = require "rille.errors"
local bodies = require "rille.http.body"
local destination = require "rille.http.destination"
local fail = require("rille.http.exchange").fail
local read_auth = require("rille.http.options").auth
local url_of = require "rille.http.url"

local M = {}

--- The statuses that send a request elsewhere.
local REDIRECT = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }
M.REDIRECT = REDIRECT

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

--- Makes the state that of the next request.
function M.follow(state, response, location)
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
  destination.use_socket(state.session, url)
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
  destination.prepare(state)
end

--- Where the response sends the request, if it is to go there.
function M.location_of(state, response)
  return REDIRECT[response.status] and state.redirects > 0 and response.headers.Location
end

return M
