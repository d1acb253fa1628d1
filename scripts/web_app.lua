-- A web application: routes with parameters, JSON both ways, what goes around every request, and
-- errors that are answers.
-- From "python-asyncio" (Web Frameworks), whose two programs have one route each. Here a client in
-- the same program asks for them.
local async = require "rille.async"
local http = require "rille.http"

local items = { [1] = "apple", [2] = "pear" }

local app = http.App()

app:use(function(req, next)
  local response = next(req)
  print(("%-6s %-9s -> %d"):format(req.method, req.path, response.status))
  return response
end)

app:get("/", function() return "Welcome" end)

app:get("/items/{id}", function(req)
  local id = tonumber(req.params.id)
  local name = items[id] or http.abort(404, "there is no item " .. req.params.id)
  return { item_id = id, name = name }
end)

app:post("/items", function(req)
  local name = req:json().name
  if type(name) ~= "string" then http.abort(422, "an item needs a name") end
  items[#items + 1] = name
  return 201, { item_id = #items }
end)

async.with(app:serve {}, function(server)
  async.with(http.Session { base_url = "http://127.0.0.1:" .. server.port }, function(session)
    print(session:get("/"):text())
    print(session:post("/items", { json = { name = "plum" } }):text())
    print(session:get("/items/3"):json().name)
    print(session:get("/items/99"):text())
    print(session:post("/items", { json = { colour = "red" } }):text())
    print(session:post("/items", { body = "{ not JSON" }).reason)
    print(session:delete("/items/1").headers["Allow"])
  end)
end)
