--- rille.http's functions of one request: a session that all share, without cookies.
local check = require "rille.core.check"
local http1 = require "rille.core.http1"
local session = require "rille.http.session"

---@class rille.http
---@field get fun(url: string, options?: table): ClientResponse  sends GET
---@field post fun(url: string, options?: table): ClientResponse  sends POST
---@field put fun(url: string, options?: table): ClientResponse  sends PUT
---@field patch fun(url: string, options?: table): ClientResponse  sends PATCH
---@field delete fun(url: string, options?: table): ClientResponse  sends DELETE
---@field head fun(url: string, options?: table): ClientResponse  sends HEAD
---@field options fun(url: string, options?: table): ClientResponse  sends OPTIONS
local M = { Session = session.new }

local shared = session.new { cookies = false }

for _, name in ipairs(session.methods) do
  local method = name:upper()
  M[name] = function(url, options) return shared:_request(method, url, options, name, 1) end
end

--- Sends a request and waits for the response: see Session:request.
---@async
---@param method string
---@param url string
---@param options? table
---@return ClientResponse
function M.request(method, url, options)
  method = check.string(method, 1, "request")
  if not http1.is_token(method) then
    check.bad(1, "request", ("'%s' is no method"):format(method))
  end
  return shared:_request(method:upper(), url, options, "request", 2)
end

return M
