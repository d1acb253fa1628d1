--- Clients that speak to an application without a port.
local check = require "rille.core.check"
local format, tostring, pairs = string.format, tostring, pairs

local OPTIONS = { headers = true, timeout = true, limit = true, cookies = true, auth = true,
  redirects = true, max_body = true }

local clients = 0

-- What a WebSocket is asked for with: the session's own headers, cookies and credentials.
local function websocket_headers(session, target, own)
  local list = {}
  for _, field in ipairs(session._headers) do list[#list + 1] = { field[1], field[2] } end
  if session._authorization then list[#list + 1] = { "Authorization", session._authorization } end
  local cookies = session.cookies
    and session.cookies:_header(require("rille.http.url").parse("http://test" .. target), true)
  if cookies then list[#list + 1] = { "Cookie", cookies } end
  for _, field in ipairs(own) do list[#list + 1] = field end
  for name, value in pairs(own) do
    if type(name) == "string" then list[#list + 1] = { name, value } end
  end
  return list
end

---@param app App
---@param options? table  some of http.Session's
---@return Session
return function(app, options)
  clients = clients + 1
  -- A socket that stands in no folder, and that nobody comes upon by chance.
  local path = format("@rille-test-%d-%s-%d", os.time(), tostring({}):sub(-8), clients)
  local given = { base_url = "http://test/", path = path }
  for name, value in pairs(check.options(options, OPTIONS, 1, "test_client")) do
    given[name] = value
  end
  local session = require("rille.http.session").new(given)
  local server = app:serve { path = path }
  local close = session.close

  --- Closes the session, and ends the application.
  function session.close(self)
    close(self)
    server:close(0)
  end

  --- Opens a WebSocket to the application: websocket.connect's options.
  function session.websocket(self, target, own)
    target = check.string(target, 1, "websocket")
    local all = {}
    for name, value in pairs(own or {}) do all[name] = value end
    all.headers = websocket_headers(self, target, all.headers or {})
    return require("rille.websocket").connect("ws+unix://" .. path:gsub("@", "%%40") .. target, all)
  end
  return session
end
