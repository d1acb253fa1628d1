-- A generator that fetches the next page only when the loop asks for it.
-- From "Async Python Patterns" (Pattern 7: Async Iterators and Generators). The pages come from a
-- real server; sleeps are ten times shorter.
local async = require "rille.async"
local http = require "rille.http"

local async_range = async.generator(function(yield, start, stop)
  for i = start, stop - 1 do
    async.sleep(0.01)
    yield(i)
  end
end)

local fetch_pages = async.generator(function(yield, url, max_pages)
  for page = 1, max_pages do
    local data = {}
    for item in http.get(url, { query = { page = page } }):text():gmatch "%S+" do
      data[#data + 1] = item
    end
    yield { page = page, data = data }
  end
end)

local function serve_page(req)
  async.sleep(0.02)
  local lines = {}
  for i = 0, 4 do lines[#lines + 1] = ("item_%s_%d"):format(req.query.page, i) end
  return table.concat(lines, "\n")
end

for number in async_range(1, 5) do
  print("Number: " .. number)
end

print "\nFetching pages:"
async.with(http.serve { handler = serve_page }, function(server)
  for page in fetch_pages(("http://127.0.0.1:%d/items"):format(server.port), 3) do
    print(("Page %d: %d items"):format(page.page, #page.data))
  end
end)
