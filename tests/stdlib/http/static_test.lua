-- Files of a folder: what is sent out of the system's cache, and what never leaves another folder.
local async, test = require "rille.async", require "support.test"
local http, fs = require "rille.http", require "rille.fs"
local worker, cached = require "rille.worker", require "rille.http.cached"
local raw = require "stdlib.http.raw"
local tls = require "support.tls"

-- A server of a fresh folder.
local function serve(options, more)
  local dir = fs.realpath(test.tmpdir())
  local root = dir .. "/root"
  fs.mkdir(root)
  local app = http.App()
  app:static("/", root, options)
  local given = {}
  for key, value in pairs(more or {}) do given[key] = value end
  local server = app:serve(given)
  test.defer(function() server:close(0) end)
  return server, root, dir
end

local function get(server, path, fields)
  local peer = raw.connect(server.port)
  peer:send(("GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s\r\n"):format(path,
    fields or ""))
  local text = peer:read_all()
  peer:close()
  local head, body = text:match "^(.-\r\n\r\n)(.*)$"
  return tonumber(head:match "^HTTP/1.1 (%d+)"), body, head
end

local LARGE = ("0123456789abcdef"):rep(200000) -- more than any socket takes at once

test("small and large files are sent, again and again, and as they are now", function()
  local server, root = serve()
  local before
  for _, content in ipairs { "one", "", "two", LARGE, ("x"):rep(65536), ("y"):rep(65537) } do
    test.write(root .. "/file.txt", content)
    for _ = 1, 3 do
      local status, body, head = get(server, "/file.txt")
      test.eq({ status, tonumber(head:match "Content%-Length: (%d+)") }, { 200, #content })
      assert(body == content)
      test.matches(head, '\r\nETag: "%x+%-%x+%-%x+"\r\nLast%-Modified: [^\r]+ GMT\r\n')
    end
    before = before or raw.open_files()
  end
  raw.open_files(before)
end)

test("parts of a large file, one and several", function()
  local server, root = serve()
  test.write(root .. "/large.bin", LARGE)
  local status, body = get(server, "/large.bin", "Range: bytes=100000-2999999\r\n")
  test.eq({ status, #body }, { 206, 2900000 })
  assert(body == LARGE:sub(100001, 3000000))
  status, body = get(server, "/large.bin", "Range: bytes=1-1000000,1000002-2000000\r\n")
  test.eq(status, 206)
  assert(body:find(LARGE:sub(2, 1000001), 1, true))
  assert(body:find(LARGE:sub(1000003, 2000001), 1, true))
end)

test("a client that reads slowly gets all of a large file, one that goes ends it", function()
  local server, root = serve()
  test.write(root .. "/large.bin", LARGE)
  local before = raw.open_files()
  local peer = raw.connect(server.port)
  peer:send "GET /large.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
  peer:read_until "\r\n\r\n"
  local size = #peer.input
  peer.input = ""
  while true do
    local data = peer.socket:read(16384)
    if not data then break end
    size = size + #data
    async.sleep(0)
  end
  test.eq(size, #LARGE)
  peer:close()
  peer = raw.connect(server.port):send "GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n"
  peer:read_until "\r\n\r\n"
  peer:abort()
  raw.open_files(before)
end)

test("a file that shrinks while it is sent ends the connection, and is reported", function()
  local server, root = serve()
  local content = ("x"):rep(64 * 1048576)
  test.write(root .. "/large.bin", content)
  local peer = raw.connect(server.port)
  peer:send "GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n"
  peer:read_until "\r\n\r\n"
  test.write(root .. "/large.bin", "short")
  local size = #peer.input
  local ok = pcall(function()
    while true do
      local data = peer.socket:read()
      if not data then return end
      size = size + #data
    end
  end)
  assert(not ok or size < #content)
  local reports = test.reports()
  test.eq(#reports, 1)
  test.matches(tostring(reports[1].error), "large.bin' became shorter while it was sent")
end)

test("files over TLS and HTTP/2, and compressed ones", function()
  local server, root = serve(nil, { tls = tls.server_options(), compress = true })
  test.write(root .. "/large.bin", LARGE)
  test.write(root .. "/large.txt", LARGE)
  local url = "https://127.0.0.1:" .. server.port
  for _, protocol in ipairs { "--http1.1", "--http2" } do
    for _, name in ipairs { "/large.bin", "/large.txt" } do
      local out = test.tmpdir() .. "/out"
      local text, status = raw.run(("curl -sk %s --compressed -o %s -w '%%{http_code}' %s%s")
        :format(protocol, out, url, name))
      test.eq({ text, status }, { "200", 0 })
      assert(test.read(out) == LARGE)
    end
  end
end)

test("links lead within the folder alone, to wherever they are written", function()
  local server, root, dir = serve()
  test.write(root .. "/file.txt", "inside")
  test.write(dir .. "/secret.txt", "outside")
  fs.mkdir(root .. "/sub")
  fs.symlink("../file.txt", root .. "/sub/relative.txt")
  fs.symlink(root .. "/file.txt", root .. "/absolute.txt")
  fs.symlink("../secret.txt", root .. "/out.txt")
  fs.symlink(dir .. "/secret.txt", root .. "/far.txt")
  fs.symlink("..", root .. "/up")
  fs.symlink("loop.txt", root .. "/loop.txt")
  local got = {}
  for i, path in ipairs { "/sub/relative.txt", "/absolute.txt", "/out.txt", "/far.txt",
    "/up/secret.txt", "/up/root/file.txt", "/loop.txt", "/../secret.txt", "/%2e%2e/secret.txt",
    "/..%2fsecret.txt" } do
    got[i] = get(server, path)
  end
  test.eq(got, { 200, 200, 404, 404, 404, 200, 404, 404, 404, 404 })
end)

test("a folder that becomes a link while a file is looked for shows nothing of the outside",
  { limit = 5 }, function()
    local server, root, dir = serve()
    fs.mkdir(root .. "/a")
    fs.mkdir(dir .. "/secret")
    test.write(root .. "/a/file.txt", "inside")
    test.write(dir .. "/secret/file.txt", "outside")
    fs.symlink(dir .. "/secret", root .. "/b")
    -- Absolute, so that it takes the longer way.
    fs.symlink(root .. "/a/file.txt", root .. "/link.txt")
    local stop = worker.Channel(1)
    local swapper = async.spawn(worker.run, function(folder, channel)
      local rounds = 0
      local a, b, c = folder .. "/a", folder .. "/b", folder .. "/c"
      repeat
        for _ = 1, 100 do
          assert(os.rename(a, c) and os.rename(b, a))
          assert(os.rename(a, b) and os.rename(c, a))
        end
        rounds = rounds + 100
      until require("rille.async").move_on_after(0, function() channel:recv() end)
      return rounds
    end, root, stop)
    local seen = {}
    for _ = 1, 400 do
      local status, body = get(server, "/link.txt")
      seen[status .. (status == 200 and body or "")] = true
    end
    stop:send(true)
    assert(swapper:await() > 0)
    test.eq({ seen["200outside"], seen["200inside"] }, { nil, true })
    test.eq(select(2, get(server, "/link.txt")), "inside")
  end)

test("a file by its path is taken out of the system's cache, and nothing else is", function()
  local dir = test.tmpdir()
  local path = test.write(dir .. "/file.txt", "content")
  assert(os.execute("mkfifo " .. dir .. "/fifo") == 0)
  local stat, content = cached.take(nil, path)
  if not stat then return print "# skipped: the system tells nothing of its cache" end
  test.eq({ stat.size, content }, { 7, "content" })
  fs.mkdir(dir .. "/a")
  test.eq(cached.take(dir, "a/../file.txt").size, 7)
  test.eq(cached.take(dir .. "/a", "../file.txt"), nil)
  for _, other in ipairs { dir .. "/none", dir, dir .. "/fifo", path .. "\0", "/dev/null" } do
    test.eq(cached.take(nil, other), nil, other)
  end
end)

test("another folder may take the place of the first", function()
  local server, root, dir = serve()
  test.write(root .. "/file.txt", "old")
  test.eq(select(2, get(server, "/file.txt")), "old")
  fs.rename(root, dir .. "/old")
  test.eq(get(server, "/file.txt"), 404)
  fs.mkdir(root)
  test.write(root .. "/file.txt", "new")
  test.eq(select(2, get(server, "/file.txt")), "new")
end)

test("middleware may put another file in the place of one", function()
  local dir = test.tmpdir()
  test.write(dir .. "/a.txt", "a")
  test.write(dir .. "/other.html", "other")
  local app = http.App()
  app:static("/", dir)
  app:use(function(req, next)
    local r = next(req)
    r.file = dir .. "/other.html"
    return r
  end)
  local server = app:serve()
  test.defer(function() server:close(0) end)
  local status, body = get(server, "/a.txt")
  test.eq({ status, body }, { 200, "other" })
end)
