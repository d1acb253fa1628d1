-- A static site with a proxy before it: files with types, ETags and ranges on one server; the other
-- passes on what it is asked, streams both ways, adds what proxies add, and answers for a server
-- that is gone.
local async = require "rille.async"
local errors = require "rille.errors"
local fs = require "rille.fs"
local http = require "rille.http"
local tempdir = require "lib.tempdir"

local function make_site(dir)
  fs.write_file(dir .. "/index.html", "<h1>Welcome</h1>")
  fs.write_file(dir .. "/data.txt", ("0123456789"):rep(1000))
  fs.write_file(dir .. "/.secret", "not for you")
  local site = http.App()
  site:static("/", dir, { max_age = 60 })
  site:post("/echo", function(req)
    local chunks = req:chunks()
    return http.response { stream = function() return chunks() end,
      headers = { ["X-Seen-From"] = req.headers["x-forwarded-for"] } }
  end)
  return site
end

-- What belongs to one connection, and is not passed on: RFC 9110, section 7.6.1.
local HOP_BY_HOP = { connection = true, ["keep-alive"] = true, te = true, trailer = true,
  ["transfer-encoding"] = true, upgrade = true, ["proxy-connection"] = true, host = true,
  ["content-length"] = true, ["accept-encoding"] = true }

local function passed_on(headers)
  local list = {}
  for name, value in headers:iter() do
    if not HOP_BY_HOP[name:lower()] then list[#list + 1] = { name, value } end
  end
  return list
end

local function make_proxy(upstream)
  local proxy = http.App()
  proxy:cleanup_ctx(async.context(function(yield, app)
    app.session = http.Session { base_url = upstream, redirects = 0, cookies = false }
    async.with(app.session, yield)
  end))
  proxy:route("/{path...}", function(req)
    local headers = passed_on(req.headers)
    headers[#headers + 1] = { "X-Forwarded-For", req.remote }
    local has_body = req.headers["content-length"] or req.headers["transfer-encoding"]
    local ok, response = pcall(req.app.session.request, req.app.session, req.method, req.target, {
      headers = headers, body = has_body and req:chunks() or nil, stream = true,
    })
    if not ok then
      if errors.is(response, "OSError") then return 502, "the site is gone" end
      error(response, 0)
    end
    local own = passed_on(response.headers)
    if req.method == "HEAD" or response.status == 304 then return response.status, "", own end
    return http.response { status = response.status, headers = own, stream = response }
  end)
  return proxy
end

async.with(tempdir(), function(dir)
  local site = make_site(dir):serve {}
  async.with(make_proxy("http://127.0.0.1:" .. site.port):serve {}, function(proxy)
    async.with(http.Session { base_url = "http://127.0.0.1:" .. proxy.port }, function(session)
      local function show(response)
        print(response.status, (response:text():sub(1, 40):gsub("\n", " ")))
        return response
      end
      local index = show(session:get "/")
      print(index.headers["content-type"], index.headers["cache-control"])
      show(session:get("/", { headers = { ["If-None-Match"] = index.headers.etag } }))
      show(session:get("/data.txt", { headers = { Range = "bytes=5-14" } }))
      show(session:head "/data.txt")
      show(session:get "/.secret")
      show(session:get "/../etc/passwd")
      local parts = { "streamed ", "through ", "both" }
      local function next_part() return table.remove(parts, 1) end
      local echo = show(session:post("/echo", { body = next_part }))
      print("seen from " .. echo.headers["x-seen-from"])
      site:close()
      show(session:get "/")
    end)
  end)
end)
