-- Responses that are compressed for those who want it.
local test = require "support.test"
local http = require "rille.http"
local raw = require "stdlib.http.raw"
local has_codec, encodings = pcall(require, "rille.http.encodings")

if not has_codec then return print "no library that compresses in this build" end

local TEXT = ("hello compression "):rep(1000)

-- Starts a server and gives a function that asks it.
local function start(compress, handler)
  local _, server = raw.start { compress = compress, handler = handler }
  return function(path, accept, method, more)
    local peer = raw.connect(server.port):send((method or "GET") .. " " .. path
      .. " HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept-Encoding: " .. accept .. "\r\n"
      .. (more or "") .. "\r\n")
    local text = peer:read_all()
    peer:close()
    local head, body = text:match "^(.-\r\n\r\n)(.*)$"
    if body ~= "" and head:find "Transfer%-Encoding: chunked" then
      local parts = {}
      while true do
        local size, at = body:match "^(%x+)\r\n()"
        size = tonumber(size, 16)
        if size == 0 then break end
        parts[#parts + 1] = body:sub(at, at + size - 1)
        body = body:sub(at + size + 2)
      end
      body = table.concat(parts)
    end
    local coding = head:match "Content%-Encoding: ([^\r]*)"
    local size = #body
    if coding and coding ~= "identity" and method ~= "HEAD" then
      body = encodings.decode_all(encodings.decoder(coding), body, 0)
    end
    return { coding, body, size < #TEXT / 2 }, head
  end
end

local function parts_of(...)
  local list, i = { ... }, 0
  return function()
    i = i + 1
    return list[i]
  end
end

test("a body is compressed as the client likes it best", function()
  local ask = start(true, function() return TEXT end)
  test.eq(ask("/", "gzip"), { "gzip", TEXT, true })
  test.eq(ask("/", "deflate"), { "deflate", TEXT, true })
  test.eq(ask("/", "gzip;q=1, deflate;q=0.5"), { "gzip", TEXT, true })
  test.eq(ask("/", "gzip;q=0.1, deflate;q=0.5"), { "deflate", TEXT, true })
  for _, none in ipairs { "identity", "gzip;q=0", "nonsense", "gzip;q=0.5, identity;q=1",
    "*;q=0" } do
    test.eq({ none, (ask("/", none)) }, { none, { nil, TEXT, false } })
  end
  assert(ask("/", "*")[1])
  local _, head = ask("/", "gzip")
  test.contains(head, "Vary: Accept-Encoding\r\n")
  _, head = ask("/", "identity")
  test.contains(head, "Vary: Accept-Encoding\r\n")
  local answer
  answer, head = ask("/", "gzip", "HEAD")
  test.eq({ answer[1], answer[2] }, { "gzip", "" })
  assert(tonumber(head:match "Content%-Length: (%d+)") < 1000)
end)

test("what is small, not worth it, or compressed already is sent as it is", function()
  local ask = start(true, function(req)
    local type_of = req.query.type
    return tonumber(req.query.status or "200"), TEXT:sub(1, tonumber(req.query.size or "-1")),
      { ["Content-Type"] = type_of, ["Content-Encoding"] = req.query.coding,
        ["Cache-Control"] = req.query.cache, ETag = '"t"' }
  end)
  for path, coding in pairs {
    ["/?size=1023"] = false, ["/?size=1024"] = "gzip", ["/?type=image/png"] = false,
    ["/?type=image/svg%2Bxml"] = "gzip", ["/?type=application/json"] = "gzip",
    ["/?type=application/x%2Bjson"] = "gzip", ["/?cache=no-transform"] = false,
    ["/?status=404"] = "gzip", ["/?coding=identity"] = "identity",
  } do
    test.eq({ path, ask(path, "gzip")[1] or false }, { path, coding })
  end
  local _, head = ask("/", "gzip")
  test.contains(head, 'ETag: W/"t"\r\n')
end)

test("streams, events and files are compressed as they are sent", function()
  local path = test.write(test.tmpdir() .. "/f.txt", TEXT)
  local ask = start(true, function(req)
    if req.path == "/file" then return http.response { file = path } end
    if req.path == "/sse" then return http.response { sse = parts_of("one", "two") } end
    return http.response { stream = parts_of(TEXT, "", TEXT), headers = {
      ["Content-Type"] = "text/plain", ["Content-Length"] = 2 * #TEXT } }
  end)
  test.eq(ask("/stream", "gzip"), { "gzip", TEXT .. TEXT, true })
  test.eq(ask("/stream", "identity"), { nil, TEXT .. TEXT, false })
  test.eq(ask("/sse", "gzip"), { "gzip", "data: one\n\ndata: two\n\n", true })
  local answer, head = ask("/file", "gzip")
  test.eq(answer, { "gzip", TEXT, true })
  test.contains(head, 'ETag: W/"')
  test.eq(head:find "Accept%-Ranges", nil)
  answer = ask("/file", "gzip", "GET", "Range: bytes=0-4\r\n")
  test.eq(answer, { nil, "hello", true })
  test.eq({ ask("/file", "gzip", "HEAD")[2] }, { "" })
end)

test("what compresses can be told", function()
  local ask = start({ min_bytes = 10, types = { "image/png" }, level = 1 }, function(req)
    return 200, TEXT:sub(1, 20), { ["Content-Type"] = req.query.type }
  end)
  test.eq({ ask("/?type=image/png", "gzip")[1], ask("/?type=text/plain", "gzip")[1] }, { "gzip" })
  local function ok() return 200 end
  test.blames_caller("unknown option 'min'",
    function() http.serve { handler = ok, compress = { min = 1 } } end)
  local plain = start(false, function() return TEXT end)
  test.eq(plain("/", "gzip"), { nil, TEXT, false })
end)

test("curl decodes it", function()
  local base = raw.start { compress = true, handler = function() return TEXT end }
  test.eq(raw.run("curl -sS --compressed " .. base .. "/") == TEXT, true)
end)
