--- rille.http's functions of one request: a session that all share, without cookies.
local check = require "rille.core.check"
local http1 = require "rille.core.http1"
local session = require "rille.http.session"

--- Sends a request with the method of that name, as `request` does.
---@alias rille.http.Get
---| async fun(url: string, options?: rille.http.RequestOptions): ClientResponse

---@class rille.http
---@field get rille.http.Get
---@field post rille.http.Get
---@field put rille.http.Get
---@field patch rille.http.Get
---@field delete rille.http.Get
---@field head rille.http.Get
---@field options rille.http.Get
local M = { Session = session.new }

local shared = session.new { cookies = false }

for _, name in ipairs(session.methods) do
  local method = name:upper()
  M[name] = function(url, options) return shared:_request(method, url, options, name, 1) end
end

--- Sends a request and waits for the response, body included unless `stream` is set. It and its
-- short forms (`get`, `post` …) share a session, so connections are reused, but no cookies kept.
-- A part of `multipart` is `{ name =, data = | file =, filename =, content_type = }`.
---@async
---@param method string  "GET", "PROPFIND" …
---@param url string
---@param options? rille.http.RequestOptions
---@return ClientResponse
-- Errors: OSError, TLSError, TimeoutError (with `phase`), HTTPError, each with `url`.
function M.request(method, url, options)
  method = check.string(method, 1, "request")
  if not http1.is_token(method) then
    check.bad(1, "request", ("'%s' is no method"):format(method))
  end
  return shared:_request(method:upper(), url, options, "request", 2)
end

return M
