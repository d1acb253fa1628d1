-- A generator that does not know how many pages there are: it ends at the first empty one. A loop
-- may leave it earlier, and closing it runs whatever clean-up is pending in it.
-- From "python-asyncio" (Async Generators). The pages come from a real server that has ten; the
-- last line is not in the document.
local async = require "rille.async"
local http = require "rille.http"

local LAST_PAGE = 10

local function serve_page(req)
  local page = tonumber(req.query.page)
  return page <= LAST_PAGE and ("item "):rep(10) or ""
end

local fetch_pages = async.generator(function(yield, url)
  local page = 1
  while true do
    local items = http.get(url, { query = { page = page } }):text()
    if items == "" then return end
    yield(page, items)
    page = page + 1
  end
end)

async.with(http.serve { handler = serve_page }, function(server)
  local url = "http://127.0.0.1:" .. server.port .. "/"

  local count = 0
  for page, items in fetch_pages(url) do
    print("Processing page " .. page)
    for _ in items:gmatch "item" do count = count + 1 end
  end
  print(count .. " items")
end)
