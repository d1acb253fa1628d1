-- A client object that never has more than two requests under way, and hands errors over as
-- results.
-- From "Asyncio Concurrency Patterns" (Example 2: Rate-Limited API Client). The API is a server in
-- this script, which answers with text, not JSON. One user is unknown, to show the line of an
-- error.
local async = require "rille.async"
local errors = require "rille.errors"
local http = require "rille.http"

local Client = {}
Client.__index = Client

local function new_client(rate_limit)
  return setmetatable({ semaphore = async.Semaphore(rate_limit) }, Client)
end

function Client:fetch(url)
  return self.semaphore:with(function()
    print("Fetching " .. url)
    local response = http.get(url):raise_for_status()
    return { url = url, status = response.status, login = response:text() }
  end)
end

function Client:fetch_all(urls)
  local fetches = {}
  for i, url in ipairs(urls) do fetches[i] = function() return self:fetch(url) end end
  return async.gather(fetches, { return_errors = true })
end

local function api(req)
  async.sleep(0.02)
  local user = req.path:match "^/users/(%w+)$"
  if user == "nobody" then return 404 end
  return user
end

async.with(http.serve { handler = api }, function(server)
  local urls = {}
  for _, user in ipairs { "python", "django", "nobody", "flask", "requests", "aiohttp" } do
    urls[#urls + 1] = ("http://127.0.0.1:%d/users/%s"):format(server.port, user)
  end

  for _, result in ipairs(new_client(2):fetch_all(urls)) do
    print(errors.is(result, "HTTPError") and "Error: " .. result.status or "User: " .. result.login)
  end
end)
