-- Runs many functions concurrently and waits for all of them; the results come in the order of the
-- list, whichever finishes first. From all five documents: "Async Python Patterns" (Pattern 2),
-- whose line is printed, "Asyncio Concurrency Patterns" (Pattern 1) and "python-asyncio"
-- (Concurrent Execution with gather()), which print nothing. The users come from a real server;
-- sleeps are ten times shorter.
local async = require "rille.async"
local http = require "rille.http"

local app = http.App()
app:get("/users/{id}", function(req)
  async.sleep(0.05)
  return "User " .. req.params.id
end)

async.with(app:serve {}, function(server)
  local function fetch_user(id)
    local response = http.get(("http://127.0.0.1:%d/users/%d"):format(server.port, id))
    return { id = id, name = response:text() }
  end

  local fetches = {}
  for id = 1, 5 do
    fetches[id] = function() return fetch_user(id) end
  end
  local users = async.gather(fetches)

  print(("Fetched %d users"):format(users.n))
  for id, user in ipairs(users) do assert(user.name == "User " .. id) end
end)
