-- Twenty articles, five at a time, and how large they are on average.
-- From "Mastering asyncio" (Real-World Example: Async Web Scraper). The document makes its pages
-- up; here a real server sends articles of random size after a random time. Times are ten times
-- shorter.
local async = require "rille.async"
local http = require "rille.http"

local function article()
  async.sleep(0.01 + math.random() * 0.04)
  return ("x"):rep(math.random(1000, 50000))
end

local function fetch_page(url)
  local start = async.time()
  local page = { url = url, status = 0, content_length = 0 }
  local ok, response = pcall(http.get, url)
  if ok then
    page.status, page.content_length = response.status, #response:text()
  else
    page.error = tostring(response)
  end
  page.elapsed = async.time() - start
  return page
end

async.with(http.serve { handler = article }, function(server)
  local urls = {}
  for i = 0, 19 do urls[#urls + 1] = ("http://127.0.0.1:%d/article/%d"):format(server.port, i) end

  local start = async.time()
  local pages = async.map(urls, fetch_page, { limit = 5 })
  local elapsed = async.time() - start

  local success, bytes = 0, 0
  for _, page in ipairs(pages) do
    if page.status == 200 then success, bytes = success + 1, bytes + page.content_length end
  end
  print(("Done: %d/%d, elapsed: %.2fs"):format(success, pages.n, elapsed))
  print(("Average size: %.0f bytes"):format(bytes / success))
end)
