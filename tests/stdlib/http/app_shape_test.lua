-- What requests have to look like: shapes of JSON, of parameters, and the document made of them.
local async, test = require "rille.async", require "support.test"
local http, json = require "rille.http", require "rille.json"
local shape = http.shape

-- Runs fn(client) with an application.
local function with_client(app, fn)
  async.with(app:test_client(), fn)
end

-- What a shape says about a JSON text: "path: message" for each fault; {} if it fits.
local function faults_of(wanted, text)
  local app, list = http.App(), {}
  local response
  app:post("/", function(req) return { value = req:json(wanted) } end)
  with_client(app, function(client)
    response = client:post("/", { body = text })
  end)
  if response.status == 200 then return {}, response:json().value end
  test.eq(response.status, 422, response:text())
  for i, fault in ipairs(response:json().errors) do
    list[i] = (fault.path .. ": " .. fault.message):gsub("^: ", "")
  end
  return list, response:json()
end

test("each fault is named with its path, all of them at once", function()
  local order = {
    customer = { name = "string", email = shape.string { pattern = "^[^@]+@[^@]+$" } },
    items = { { sku = "string", price = "number", count = shape.integer { min = 1, max = 99 } } },
    state = shape.enum { "open", "paid" },
    note = "string?",
  }
  test.eq(faults_of(order, [[{"customer": {"name": "Ann", "email": "a@b"}, "state": "open",
    "items": [{"sku": "x", "price": 1.5, "count": 1}]}]]), {})
  test.eq(faults_of(order, [[{"customer": {"name": 1, "email": "ab"}, "state": "lost", "note": [],
    "items": [{"sku": "x", "price": 1, "count": 0}, {"sku": "y", "price": "3", "count": 1.5},
      7, {"price": null, "count": 100}]}]]), {
    "customer.email: it does not match '^[^@]+@[^@]+$'",
    "customer.name: string expected, got number",
    "items[1].count: at least 1 expected, got 0",
    "items[2].count: integer expected, got number",
    "items[2].price: number expected, got string",
    "items[3]: object expected, got number",
    "items[4].count: at most 99 expected, got 100",
    "items[4].price: number expected, got nothing",
    "items[4].sku: string expected, got nothing",
    "note: string expected, got list",
    "state: 'open' or 'paid' expected, got 'lost'",
  })
  test.eq(faults_of(order, "[]"), { "object expected, got list" })
  test.eq(faults_of({ "integer" }, "{}"), { "list expected, got object" })
  test.eq(faults_of({ "integer" }, "[]"), {})
  test.eq(faults_of("integer", "12345678901234567890"), {})
  test.eq(faults_of("any", "null"), { "any expected, got nothing" })
  test.eq(faults_of("any?", "null"), {})
end)

test("lengths, limits and multiples", function()
  for _, case in ipairs {
    { shape.string { min = 2, max = 3 }, '"äö"' },
    { shape.string { min = 2, max = 3 }, '"ä"', "at least 2 characters expected, got 1" },
    { shape.string { max = 1 }, '"ab"', "at most 1 character expected, got 2" },
    { shape.number { above = 0, below = 1 }, "0.5" },
    { shape.number { above = 0 }, "0", "more than 0 expected, got 0" },
    { shape.number { below = 1 }, "1", "less than 1 expected, got 1" },
    { shape.number { multiple_of = 0.1 }, "0.3" },
    { shape.number { multiple_of = 5 }, "12", "a multiple of 5 expected, got 12" },
    { shape.integer { max = 10 }, "12345678901234567890",
      "at most 10 expected, got 1.2345678901235e+19" },
    { shape.list("integer", { min = 1 }), "[]", "at least 1 entry expected, got 0" },
    { shape.list("integer", { max = 2 }), "[1,2,3]", "at most 2 entries expected, got 3" },
    { shape.list("any", { unique = true }), "[1,2,1]", "entries 1 and 3 are the same" },
    { shape.map("integer", { max = 1 }), '{"a":1}' },
    { shape.map("integer", { max = 1 }), '{"a":1,"b":2}', "at most 1 entry expected, got 2" },
    { shape.map("integer", { keys = "^%l+$" }), '{"A":1}', "A: unknown key" },
    { shape.map("integer"), '{"a b":"x"}', '["a b"]: integer expected, got string' },
    { shape.boolean(), "true" },
    { shape.boolean(), "1", "boolean expected, got number" },
    { shape.enum { 1, "one", true }, "1" },
    { shape.enum { 1, "one", true }, "false", "1 or 'one' or true expected, got boolean" },
    { shape.any_of { "integer", { "integer" } }, "[1]" },
    { shape.any_of { "integer", { "integer" } }, '"x"',
      "it has none of the shapes allowed (integer, list)" },
  } do
    test.eq(faults_of(case[1], case[2]), { case[3] }, case[2])
  end
end)

test("unknown keys are nothing, or faults, or have a shape of their own", function()
  test.eq(faults_of({ a = "integer" }, '{"a":1,"b":2}'), {})
  test.eq(faults_of(shape.object({ a = "integer" }, { extra = false }), '{"a":1,"c":2,"b b":2}'),
    { '["b b"]: unknown key', "c: unknown key" })
  local others = shape.object({ a = "integer" }, { extra = "string" })
  test.eq(faults_of(others, '{"a":1,"b":"x"}'), {})
  test.eq(faults_of(others, '{"a":1,"b":2}'), { "b: string expected, got number" })
end)

test("defaults stand in for what is not there, and are nobody else's", function()
  local wanted = {
    page = shape.integer { default = 1 }, tags = shape.list("string", { default = { "new" } }),
    user = { role = shape.optional("string", "guest"), name = shape.optional "string" },
  }
  local _, value = faults_of(wanted, '{"page":null,"user":{}}')
  test.eq(value, { page = 1, tags = { "new" }, user = { role = "guest" } })
  _, value = faults_of(wanted, '{"page":2,"tags":[],"user":{"role":"root","name":null}}')
  test.eq({ value.page, #value.tags, value.user.role }, { 2, 0, "root" })
  local app = http.App()
  app:post("/empty", function(req)
    return req:json { a = shape.list("any", { default = {} }),
      b = shape.optional({ "any" }, {}), c = shape.optional({ x = "any" }, {}) }
  end)
  with_client(app, function(client)
    local text = client:post("/empty", { json = {} }):text()
    test.eq(json.decode(text), { a = {}, b = {}, c = {} })
    test.contains(text, '"a":[]')
    test.contains(text, '"b":[]')
    test.contains(text, '"c":{}')
  end)
  app:post("/", function(req)
    local list = req:json(wanted).tags
    list[#list + 1] = "more"
    return { n = #list }
  end)
  with_client(app, function(client)
    for _ = 1, 2 do test.eq(client:post("/", { body = '{"user":{}}' }):json(), { n = 2 }) end
  end)
end)

test("no more than twenty faults are listed, however many there are", function()
  local text = "[" .. ('"x",'):rep(100000) .. '"x"]'
  local list, body = faults_of({ "integer" }, text)
  test.eq({ #list, list[20], body.truncated },
    { 20, "[20]: integer expected, got string", true })
  list, body = faults_of({ "integer" }, '["x","y"]')
  test.eq({ #list, body.truncated }, { 2, nil })
end)

test("the error that a handler may catch has all faults", function()
  local app = http.App()
  app:post("/", function(req)
    local ok, e = pcall(req.json, req, { a = "integer", b = "integer" })
    assert(not ok)
    return ("%s %d %d %s"):format(e.kind, e.status, #e.errors, e.message)
  end)
  with_client(app, function(client)
    test.eq(client:post("/", { json = { a = "x" } }):text(), "HTTPError 422 2 "
      .. "422 Unprocessable Content: a: integer expected, got string (and 1 more)")
  end)
end)

test("shapes that are none are errors where they are written", function()
  local app = http.App()
  local function ok() return 200 end
  test.blames_caller("bad argument 'request' to 'post' ('text' is no type",
    function() app:post("/", ok, { request = { a = "text" } }) end)
  test.blames_caller("bad argument 'params' to 'get' ('b' does not stand in '/{a}')",
    function() app:get("/{a}", ok, { params = { b = "integer" } }) end)
  test.blames_caller("bad argument 'query' to 'get'",
    function() app:get("/", ok, { query = "integer" }) end)
  test.blames_caller("bad argument 'responses' to 'get' ('x' is no status)",
    function() app:get("/", ok, { responses = { x = "no" } }) end)
  test.blames_caller("unknown option 'minimum'", function() shape.integer { minimum = 1 } end)
  test.blames_caller("bad argument 'min' to 'shape.string'",
    function() shape.string { min = -1 } end)
  test.blames_caller("3 is more than max, 2",
    function() shape.list("any", { min = 3, max = 2 }) end)
  test.blames_caller("bad argument 'pattern' to 'shape.string'",
    function() shape.string { pattern = "[" } end)
  test.blames_caller("an empty list", function() shape.enum {} end)
  test.blames_caller("bad argument #1 to 'shape.list' ('x' is no type",
    function() shape.list "x" end)
  test.blames_caller("a list has one shape", function() shape.list { "string", "integer" } end)
  test.blames_caller("a shape cannot be of type boolean",
    function() shape.object { a = true } end)
  app:post("/bad", function(req) return req:json "nothing" end)
  with_client(app, function(client) test.eq(client:post("/bad", { json = 1 }).status, 500) end)
  test.contains(tostring(test.reports()[1].error), "'nothing' is no type")
end)

-- ---- parameters ---------------------------------------------------------------------------------

test("a route's shapes: its JSON, the parameters of its path and of its query", function()
  local app = http.App()
  app:post("/items", function(req) return req:json() end, { request = { name = "string" } })
  app:get("/items/{id}", function(req)
    local q = req:parameters()
    return { id = req.params.id, limit = q.limit, tag = q.tag, all = q.all, free = q.free }
  end, {
    params = { id = shape.integer { min = 1 } },
    query = { limit = shape.integer { default = 10, max = 100 }, tag = { "string" },
      all = "boolean?", free = "string?" },
  })
  with_client(app, function(client)
    test.eq(client:post("/items", { json = { name = "x" } }):json(), { name = "x" })
    test.eq(client:post("/items", { json = { name = 1 } }).status, 422)
    test.eq(client:get("/items/7"):json(), { id = 7, limit = 10, tag = {} })
    test.eq(client:get("/items/7?limit=5&tag=a&tag=b&all=true&free=3"):json(),
      { id = 7, limit = 5, tag = { "a", "b" }, all = true, free = "3" })
    local function errors_of(path)
      local response = client:get(path)
      test.eq(response.status, 422)
      local list = {}
      for i, e in ipairs(response:json().errors) do list[i] = e.path .. ": " .. e.message end
      return list
    end
    test.eq(errors_of "/items/x", { "id: integer expected, got string" })
    test.eq(errors_of "/items/0", { "id: at least 1 expected, got 0" })
    test.eq(errors_of "/items/0x10", { "id: integer expected, got string" })
    test.eq(errors_of "/items/1?limit=1000&all=perhaps",
      { "all: boolean expected, got string", "limit: at most 100 expected, got 1000" })
  end)
end)

test("req:parameters takes shapes of its own", function()
  local app = http.App()
  app:get("/", function(req)
    local q = req:parameters { x = "number", kind = shape.enum { "a", 2 } }
    return { q.x, q.kind }
  end)
  app:get("/none", function(req) return req:parameters() end)
  with_client(app, function(client)
    test.eq(client:get("/?x=-1.5e1&kind=2"):json(), { -15, 2 })
    test.eq(client:get("/?x=1&kind=b").status, 422)
    test.eq(client:get("/?kind=a").status, 422)
    test.eq(client:get("/none").status, 500)
  end)
  test.contains(tostring(test.reports()[1].error), "the route has no `query`")
end)

-- ---- the document -------------------------------------------------------------------------------

test("the OpenAPI document has the routes with what they take and give", function()
  local app, users = http.App(), http.App()
  local function ok() return 200 end
  local item = { id = "integer", name = shape.string { max = 80, description = "its name" } }
  app:get("/items", ok, { summary = "All items", tags = { "items" }, response = { item },
    query = { limit = shape.integer { default = 10, max = 100 } } })
  app:post("/items", ok, { request = { name = "string", note = "string?" },
    responses = { [201] = item, [409] = "There is one already" }, operation_id = "add_item" })
  app:get("/items/{id}", ok, { params = { id = "integer" }, deprecated = true })
  app:get("/files/{path...}", ok)
  app:get("/internal", ok, { hidden = true })
  app:websocket("/live", ok)
  app:static("/static", "/tmp")
  app:route("/any", ok)
  app:route("/some", ok, { methods = { "PUT", "LINK" } })
  users:get("/", ok)
  users:get("/{name}", ok, { description = "One user" })
  app:mount("/teams/{team}", users)
  local doc = app:openapi { title = "Shop", version = "2.1", servers = { "https://shop.test" } }
  test.eq({ doc.openapi, doc.info.title, doc.info.version, doc.servers[1].url },
    { "3.1.0", "Shop", "2.1", "https://shop.test" })
  local paths = {}
  for path, methods in pairs(doc.paths) do
    local names = {}
    for name in pairs(methods) do names[#names + 1] = name end
    table.sort(names)
    paths[#paths + 1] = path .. " " .. table.concat(names, ",")
  end
  table.sort(paths)
  test.eq(paths, { "/any delete,get,patch,post,put", "/files/{path} get", "/items get,post",
    "/items/{id} get", "/some put", "/teams/{team}/ get", "/teams/{team}/{name} get" })
  test.eq(json.encode(doc.paths["/items"].get, { sort_keys = true }), json.encode({
    operationId = "get_items", summary = "All items", tags = { "items" },
    parameters = { { name = "limit", ["in"] = "query", required = false,
      schema = { type = { "integer", "null" }, default = 10, maximum = 100 } } },
    responses = {
      ["200"] = { description = "OK", content = { ["application/json"] = { schema = {
        type = "array", items = { type = "object", required = { "id", "name" }, properties = {
          id = { type = "integer" },
          name = { type = "string", maxLength = 80, description = "its name" },
        } },
      } } } },
      ["422"] = { description = "Unprocessable Content", content = { ["application/json"] = {
        schema = { ["$ref"] = "#/components/schemas/Errors" } } } },
    },
  }, { sort_keys = true }))
  local post = doc.paths["/items"].post
  test.eq({ post.operationId, post.requestBody.required, post.responses["409"].description,
    post.responses["201"].description }, { "add_item", true, "There is one already", "Created" })
  test.eq(post.requestBody.content["application/json"].schema.required, { "name" })
  test.eq(doc.paths["/items/{id}"].get.deprecated, true)
  local user = doc.paths["/teams/{team}/{name}"].get
  test.eq({ user.parameters[1].name, user.parameters[2].name, user.description },
    { "team", "name", "One user" })
  assert(json.encode(doc):find('"paths":{', 1, true))
  test.contains(json.encode(http.App():openapi()), '"paths":{}')
end)

test("the document is served where it is asked for, with routes that came later", function()
  local app = http.App()
  app:openapi { path = true, title = "Live" }
  with_client(app, function(client)
    local response = client:get "/openapi.json"
    test.eq({ response.headers["content-type"], response:json().info.title, response:json().paths },
      { "application/json", "Live", {} })
    app:get("/later", function() return 200 end)
    test.eq(client:get("/openapi.json"):json().paths["/later"].get.operationId, "get_later")
  end)
  test.blames_caller("there is a route for GET /openapi.json already",
    function() app:openapi { path = true } end)
  test.blames_caller("unknown option 'tittle'", function() app:openapi { tittle = "x" } end)
end)

test("Lua's patterns become regular expressions where there are any that say the same", function()
  local regex = require("rille.http.openapi").regex
  for pattern, want in pairs {
    ["^%a[%w_]*$"] = "^[A-Za-z][A-Za-z0-9_]*$", ["^%d+%.%d%d$"] = "^[0-9]+\\.[0-9][0-9]$",
    ["a-b"] = "a*?b", ["[^%s]"] = "[^\\s]", ["x{2}|y"] = "x\\{2\\}\\|y", ["%D"] = "[^0-9]",
    ["(ab)$"] = "(ab)$", ["[]]"] = "[\\]]", ["^-"] = "^-", ["a^b"] = "a\\^b",
  } do
    test.eq(regex(pattern), want, pattern)
  end
  for _, pattern in ipairs { "%b()", "%f[%a]", "()", "(a)%1", "(a)*", "[%A]", "%p" } do
    test.eq(regex(pattern), nil, pattern)
  end
end)
