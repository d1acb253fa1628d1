-- Responses that are files.
local test = require "support.test"
local http = require "rille.http"
local fs = require "rille.fs"
local raw = require "stdlib.http.raw"

local GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

local start, reported, whole = raw.handle, raw.reported, raw.whole

-- Serves a file of these bytes; gives a function that asks for it.
local function serve_file(bytes, name, more)
  local path = test.write(test.tmpdir() .. "/" .. (name or "f.txt"), bytes)
  local port = start(function()
    local options = { file = path }
    for key, value in pairs(more or {}) do options[key] = value end
    return http.response(options)
  end)
  return function(headers, method)
    local peer = raw.connect(port):send((method or "GET") .. " / HTTP/1.1\r\nHost: a\r\n"
      .. "Connection: close\r\n" .. (headers or "") .. "\r\n")
    local head, body = whole(peer)
    peer:close()
    return tonumber(head:match "^HTTP/1.1 (%d+)"), body, head
  end, path
end

test("a file has a type, a length, a tag and a date", function()
  local ask = serve_file("hello", "a.HTML")
  local status, body, head = ask()
  test.eq({ status, body }, { 200, "hello" })
  for _, field in ipairs { "Content-Type: text/html; charset=utf-8", "Content-Length: 5",
    "Accept-Ranges: bytes", 'ETag: "', "Last-Modified: " } do
    test.contains(head, "\r\n" .. field)
  end
  status, body, head = ask("", "HEAD")
  test.eq({ status, body }, { 200, "" })
  test.contains(head, "Content-Length: 5\r\n")
  status, body = serve_file("")()
  test.eq({ status, body }, { 200, "" })
end)

test("ranges of a file", function()
  local ask = serve_file "0123456789"
  local function range(text, more)
    local status, body, head = ask("Range: " .. text .. "\r\n" .. (more or ""))
    return { status, body, head:match "Content%-Range: ([^\r]*)" }
  end
  test.eq(range "bytes=0-0", { 206, "0", "bytes 0-0/10" })
  test.eq(range "bytes=2-4", { 206, "234", "bytes 2-4/10" })
  test.eq(range "bytes=7-", { 206, "789", "bytes 7-9/10" })
  test.eq(range "bytes=7-100", { 206, "789", "bytes 7-9/10" })
  test.eq(range "bytes=-3", { 206, "789", "bytes 7-9/10" })
  test.eq(range "bytes=-100", { 206, "0123456789", "bytes 0-9/10" })
  test.eq(range "bytes=10-", { 416, "", "bytes */10" })
  test.eq(range "bytes=-0", { 416, "", "bytes */10" })
  for _, odd in ipairs { "bytes=4-2", "bytes=x", "bytes=-", "lines=0-1", "bytes",
    "bytes=0-1,x", "bytes=0-1,4-2", "bytes=,", "bytes=0-1;3-4", ("bytes=" .. ("0-1,"):rep(33)) } do
    test.eq({ odd, unpack(range(odd)) }, { odd, 200, "0123456789" })
  end
  local _, _, head = ask()
  local tag, date = head:match "ETag: ([^\r]*)", head:match "Last%-Modified: ([^\r]*)"
  test.eq(range("bytes=0-1", "If-Range: " .. tag .. "\r\n")[1], 206)
  test.eq(range("bytes=0-1", "If-Range: " .. date .. "\r\n")[1], 206)
  test.eq(range("bytes=0-1", 'If-Range: "other"\r\n')[1], 200)
  test.eq(range("bytes=0-1", "If-Range: Sat, 01 Jan 2000 00:00:00 GMT\r\n")[1], 200)
end)

-- The parts of a multipart/byteranges body, each as "bytes a-b/size: content".
local function byte_ranges_of(head, body)
  local boundary = head:match "Content%-Type: multipart/byteranges; boundary=(%x+)\r\n"
  test.eq(tonumber(head:match "Content%-Length: (%d+)"), #body)
  test.eq(head:find "Content%-Range", nil)
  local list = {}
  local rest = "\r\n" .. body
  local mark = "\r\n--" .. boundary
  while true do
    local _, last = rest:find(mark, 1, true)
    rest = rest:sub(last + 1)
    if rest == "--\r\n" then return list end
    local content = rest:sub(1, rest:find(mark, 1, true) - 1)
    local kind, range, data =
      content:match "^\r\nContent%-Type: ([^\r]*)\r\nContent%-Range: ([^\r]*)\r\n\r\n(.*)$"
    list[#list + 1] = kind .. " " .. range .. ": " .. data
  end
end

test("several ranges of a file come as parts", function()
  for _, filler in ipairs { 200, 200000 } do -- read at once, and piece by piece
    local ask = serve_file("0123456789" .. ("x"):rep(filler) .. "abcdefghij")
    local size = filler + 20
    local function ranges(text)
      local status, body, head = ask("Range: " .. text .. "\r\n")
      test.eq(status, 206)
      return byte_ranges_of(head, body)
    end
    local first = ("text/plain; charset=utf-8 bytes 0-2/%d: 012"):format(size)
    local last = ("text/plain; charset=utf-8 bytes %d-%d/%d: ij"):format(size - 2, size - 1, size)
    test.eq(ranges "bytes=0-2,-2", { first, last })
    test.eq(ranges "bytes=-2 , ,0-2", { last, first })
    test.eq(ranges "bytes=0-0,-2,2-2,1-1", { first, last })
    test.eq(#ranges "bytes=0-1,3-4", 2)
    test.eq(ranges "bytes=0-2,99999999-,-2", { first, last })
    local status, body, head = ask "Range: bytes=0-2,1-4\r\n"
    test.eq({ status, body, head:match "Content%-Range: ([^\r]*)" },
      { 206, "01234", ("bytes 0-4/%d"):format(size) })
    status, body, head = ask "Range: bytes=99999999-,99999999-\r\n"
    test.eq({ status, body, head:match "Content%-Range: ([^\r]*)" },
      { 416, "", ("bytes */%d"):format(size) })
  end
end)

test("conditions on a file", function()
  local ask = serve_file "hello"
  local _, _, head = ask()
  local tag, date = head:match "ETag: ([^\r]*)", head:match "Last%-Modified: ([^\r]*)"
  local old, new = "Sat, 01 Jan 2000 00:00:00 GMT", "Fri, 01 Jan 2038 00:00:00 GMT"
  local function with(field) return (ask(field .. "\r\n")) end
  test.eq({ with("If-None-Match: " .. tag), with("If-None-Match: W/" .. tag),
    with('If-None-Match: "x", ' .. tag), with "If-None-Match: *", with 'If-None-Match: "x"' },
    { 304, 304, 304, 304, 200 })
  test.eq({ with("If-Modified-Since: " .. date), with("If-Modified-Since: " .. old),
    with("If-Modified-Since: " .. new), with "If-Modified-Since: nonsense",
    with("If-Modified-Since: " .. date .. '\r\nIf-None-Match: "x"') }, { 304, 200, 304, 200, 200 })
  test.eq({ with("If-Match: " .. tag), with "If-Match: *", with 'If-Match: "x"',
    with("If-Match: W/" .. tag) }, { 200, 200, 412, 412 })
  test.eq({ with("If-Unmodified-Since: " .. date), with("If-Unmodified-Since: " .. old) },
    { 200, 412 })
  local status, body
  status, body, head = ask("If-None-Match: " .. tag .. "\r\n")
  test.eq({ status, body, head:find "Content%-Length", head:match "ETag: ([^\r]*)" },
    { 304, "", nil, tag })
end)

test("a large file, an open one, one that is missing, one that shrinks", function()
  local bytes = ("0123456789abcdef"):rep(200000)
  local ask, path = serve_file(bytes, "big.bin")
  local status, body = ask()
  test.eq({ status, body == bytes }, { 200, true })
  status, body = ask "Range: bytes=3000000-\r\n"
  test.eq({ status, body == bytes:sub(3000001) }, { 206, true })
  local file
  local port = start(function(req)
    if req.path == "/folder" then return http.response { file = "/tmp" } end
    if req.path == "/missing" then return http.response { file = path .. "x" } end
    file = fs.open(path)
    file:read(10)
    return http.response { file = file }
  end)
  test.eq(raw.answer(port, GET):sub(-#bytes) == bytes, true)
  test.turns()
  test.raises("InvalidStateError", file.read, file)
  test.matches(raw.answer(port, "GET /missing HTTP/1.1\r\nHost: a\r\n\r\n"), "^HTTP/1.1 404 ")
  test.matches(raw.answer(port, "GET /folder HTTP/1.1\r\nHost: a\r\n\r\n"), "^HTTP/1.1 404 ")
  -- While it is sent it becomes shorter.
  os.execute(("truncate -s 100M %s"):format(path))
  local peer = raw.connect(port):send(GET)
  peer:read_until "\r\n\r\n"
  test.write(path, "")
  local got, data = 0, nil -- luacheck: ignore 311
  repeat
    data = peer.socket:read()
    got = got + (data and #data or 0)
  until not data
  assert(got < 100 * 1048576)
  test.contains(reported()[1], "became shorter while it was sent")
end)
