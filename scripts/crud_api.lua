-- An API over JSON: making, reading, changing and deleting; what comes in is checked by shapes,
-- which also describe it in an OpenAPI document.
-- From "python-asyncio" (Web Frameworks), which names FastAPI for this; tested as there, without a
-- port.
local async = require "rille.async"
local http = require "rille.http"
local json = require "rille.json"
local shape = http.shape

local books, last = {}, 0

local new_book = shape.object({
  title = shape.string { min = 1, max = 80 },
  year = shape.integer { min = 1450, max = 2100 },
  tags = shape.list("string", { max = 5, default = {} }),
  kind = shape.enum({ "novel", "poems" }, { default = "novel" }),
}, { extra = false })

local function book_of(req) return books[req.params.id] or http.abort(404, "no such book") end

local app = http.App()
local by_id = { id = "integer" }

app:get("/books", function(req)
  local q, found = req:parameters(), json.array {}
  for id = 1, last do
    local book = books[id]
    if book and (not q.year or book.year == q.year) and #found < q.limit then
      found[#found + 1] = book
    end
  end
  return found
end, { query = { year = "integer?", limit = shape.integer { min = 1, max = 100, default = 10 } } })

app:post("/books", function(req)
  local book = req:json()
  last = last + 1
  book.id, books[last] = last, book
  return 201, book, { Location = "/books/" .. last }
end, { request = new_book, summary = "Adds a book", responses = { [201] = new_book } })

app:get("/books/{id}", book_of, { params = by_id })

app:patch("/books/{id}", function(req)
  local book = book_of(req)
  for key, value in pairs(req:json()) do book[key] = value end
  return book
end, { params = by_id, request = shape.object({ title = "string?", year = "integer?" },
  { extra = false }) })

app:delete("/books/{id}", function(req)
  books[book_of(req).id] = nil
  return 204
end, { params = by_id })

async.with(app:test_client(), function(client)
  local function show(response)
    local text = response:text()
    print(("%d %s"):format(response.status, text == "" and "-"
      or json.encode(response:json(), { sort_keys = true })))
  end
  show(client:post("/books", { json = { title = "Emma", year = 1815 } }))
  show(client:post("/books", { json = { title = "Lenz", year = 1839, tags = { "short" } } }))
  show(client:get("/books", { query = { year = 1839 } }))
  show(client:patch("/books/1", { json = { title = "Emma, a novel" } }))
  print(client:delete("/books/2").status, client:get("/books/2"):text())

  print "What is wrong is named, all of it:"
  local response = client:post("/books", { json = {
    title = "", year = "1815", tags = { "a", 2 }, colour = "red",
  } })
  print(response.status, response.reason)
  for _, fault in ipairs(response:json().errors) do
    print(("  %s: %s"):format(fault.path, fault.message))
  end
  print(client:get("/books/first").status, client:get("/books?limit=1000"):json().errors[1].message)

  print "The document has:"
  local doc = app:openapi { title = "Books", version = "1.0" }
  for _, path in ipairs { "/books", "/books/{id}" } do
    local methods = {}
    for method in pairs(doc.paths[path]) do methods[#methods + 1] = method end
    table.sort(methods)
    print(("  %s: %s"):format(path, table.concat(methods, ", ")))
  end
end)
