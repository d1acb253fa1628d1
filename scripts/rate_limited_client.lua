-- A client object that never has more than two requests under way, and hands errors over as
-- results.
-- From "Asyncio Concurrency Patterns" (Example 2: Rate-Limited API Client). The API is a server in
-- this script; one user is unknown, to show the line of an error. There is no sleep at the end:
-- closing a session waits until it is closed.
local async = require "rille.async"
local errors = require "rille.errors"
local http = require "rille.http"

local Client = {}
Client.__index = Client

local function new_client(rate_limit)
  return setmetatable({ semaphore = async.Semaphore(rate_limit) }, Client)
end

function Client:enter()
  self.session = http.Session {}
  return self
end

function Client:exit()
  self.session:close()
end

function Client:fetch(url)
  return self.semaphore:with(function()
    print("Fetching " .. url)
    local response = self.session:get(url):raise_for_status()
    return { url = url, status = response.status, data = response:json() }
  end)
end

function Client:fetch_all(urls)
  local fetches = {}
  for i, url in ipairs(urls) do fetches[i] = function() return self:fetch(url) end end
  return async.gather(fetches, { return_errors = true })
end

local api = http.App()
api:get("/users/{name}", function(req)
  async.sleep(0.02)
  if req.params.name == "nobody" then return 404 end
  return { login = req.params.name }
end)

async.with(api:serve {}, function(server)
  local urls = {}
  for _, user in ipairs { "python", "django", "nobody", "flask", "requests", "aiohttp" } do
    urls[#urls + 1] = ("http://127.0.0.1:%d/users/%s"):format(server.port, user)
  end

  async.with(new_client(2), function(client)
    for _, result in ipairs(client:fetch_all(urls)) do
      if errors.is(result, "HTTPError") then
        print("Error: " .. result.status)
      else
        print("User: " .. (result.data.login or "unknown"))
      end
    end
  end)
end)
