-- Sessions: bodies of requests and of responses.
local async, test = require "rille.async", require "support.test"
local compress = require "rille.core.compress"
local scripted = require "stdlib.http.scripted"
local serve, answer, session, echo =
  scripted.serve, scripted.answer, scripted.session, scripted.echo

test("a body may be a function, or anything with chunks()", function()
  local base, s = echo(), session()
  local n = 0
  local function pieces()
    n = n + 1
    return ({ "a", "", 7, "bc" })[n]
  end
  test.eq(s:post(base, { body = pieces }):text(), "chunked a|7|bc|")
  n = 0
  test.eq(s:post(base, { body = pieces, headers = { ["Content-Length"] = 4 } }):text(), "a7bc")
  local closed = 0
  local source = {
    chunks = function()
      local left = 2
      return function()
        left = left - 1
        if left >= 0 then return "x" end
      end
    end,
    close = function() closed = closed + 1 end,
  }
  test.eq(s:post(base, { body = source }):text(), "chunked x|x|")
  test.eq(closed, 1)
end)

test("a body that is not what was said fails, and leaves no connection behind", function()
  local base, s = echo(), session()
  local function body(text)
    local given = false
    return function()
      if given then return nil end
      given = true
      return text
    end
  end
  local headers = { ["Content-Length"] = 4 }
  for text, message in pairs {
    abc = "the body ended 1 bytes before its Content-Length",
    abcde = "the body is longer than its Content-Length",
  } do
    local e = test.raises("HTTPError", s.post, s, base, { body = body(text), headers = headers })
    test.contains(e.message, message)
  end
  test.raises("of type boolean, not a string", s.post, s, base, { body = body(true) })
  test.raises("oops", s.post, s, base, { body = function() error "oops" end })
  local used, resting = s._pool:counts()
  test.eq({ used, resting }, { 0, 0 })
end)

test("multipart: texts and files, as servers read them", function()
  local dir = test.tmpdir()
  test.write(dir .. "/report.txt", ("line\n"):rep(20000))
  local seen
  local base = serve(function(r)
    seen = r
    if r.head:find "chunked" then
      local parts = {}
      while true do
        local size = tonumber(r.stream:read_until "\r\n":match "%x+", 16)
        parts[#parts + 1] = r.stream:read_exactly(size)
        r.stream:read_exactly(2)
        if size == 0 then break end
      end
      r.body = table.concat(parts)
    end
    return answer "x"
  end)
  local s = session()
  s:post(base, { multipart = { b = "2", ['a"'] = { data = "1", content_type = "text/x" } } })
  local mark = seen.head:match "multipart/form%-data; boundary=(%S+)"
  test.eq(seen.body, (([[
--MARK
Content-Disposition: form-data; name="a%22"
Content-Type: text/x

1
--MARK
Content-Disposition: form-data; name="b"

2
--MARK--
]]):gsub("MARK", (mark:gsub("%-", "%%-"))):gsub("%%%-", "-"):gsub("\n", "\r\n")))
  s:post(base, { multipart = { { name = "f", file = dir .. "/report.txt" } } })
  test.contains(seen.body, 'name="f"; filename="report.txt"\r\n')
  test.contains(seen.body, "\r\nContent-Type: application/octet-stream\r\n\r\n")
  test.contains(seen.body, ("line\n"):rep(20000) .. "\r\n--")
  local e = test.raises("OSError", s.post, s, base,
    { multipart = { { name = "f", file = dir .. "/none" } } })
  test.eq({ e.code, e.path }, { "ENOENT", dir .. "/none" })
  test.blames_caller("part 1: one of data and file expected",
    function() s:post(base, { multipart = { { name = "f" } } }) end)
end)

test("Expect: 100-continue waits for leave, and takes a refusal", function()
  local base = serve(function(r)
    if r.head:find "POST /no" then return "HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n" end
    r.stream:write "HTTP/1.1 100 Continue\r\n\r\n"
    return answer(r.stream:read_until "0\r\n\r\n")
  end)
  local s = session()
  local given
  local function post(path)
    given = 0
    return s:post(base .. path, {
      body = function()
        given = given + 1
        if given == 1 then return "abcd" end
      end,
      headers = { Expect = "100-continue" },
    })
  end
  test.eq(post("/no").status, 413)
  test.eq(given, 0)
  test.eq(post("/yes"):text(), "4\r\nabcd\r\n0\r\n\r\n")
end)

test("compressed bodies are decoded, whole and in pieces", function()
  local text = ("The same line again and again.\n"):rep(5000)
  local coding
  local base = serve(function(r)
    local e = compress.encoder(coding)
    local bytes = e:finish(text)
    if r.head:find "/cut" then bytes = bytes:sub(1, -9) end
    if r.head:find "/bad" then bytes = bytes:sub(1, 20) .. ("\255"):rep(50) .. bytes:sub(71) end
    if r.head:find "/more" then bytes = bytes .. "garbage" end
    return answer(bytes, "Content-Encoding: " .. coding .. "\r\n")
  end)
  local s = session()
  for name in compress.accepted:gmatch "[%w]+" do
    coding = name
    test.eq(s:get(base):text(), text, name)
    local parts = {}
    for piece in s:get(base, { stream = true }):chunks() do parts[#parts + 1] = piece end
    test.eq(table.concat(parts), text, name)
    for _, path in ipairs { "/cut", "/bad", "/more" } do
      local e = test.raises("HTTPError", s.get, s, base .. path)
      test.contains(e.message, "compressed body")
      test.eq(e.url, base .. path)
    end
    local e = test.raises("HTTPError", s.get, s, base, { max_body = 1000 })
    test.contains(e.message, "the body is longer than 1000 bytes")
  end
end)

test("a body of several codings, and one that nobody knows", function()
  local text = ("abc"):rep(1000)
  local fields, bytes
  local base = serve(function() return answer(bytes, fields) end)
  local s = session()
  bytes = compress.encoder("br"):finish(compress.encoder("gzip"):finish(text))
  fields = "Content-Encoding: gzip, br\r\n"
  test.eq(s:get(base):text(), text)
  bytes, fields = "raw", "Content-Encoding: mine\r\n"
  test.eq(s:get(base):text(), "raw")
  bytes, fields = "", "Content-Encoding: gzip\r\n"
  test.eq(s:get(base):text(), "")
end)

test("a file as the body goes with its length, in a form too", function()
  local fs = require "rille.fs"
  local path = test.tmpdir() .. "/f"
  fs.write_file(path, ("0123456789"):rep(20000))
  local heads = {}
  local base = serve(function(r)
    heads[#heads + 1] = r.head
    if r.head:find "Transfer%-Encoding" then
      return answer(r.stream:read_until "\r\n0\r\n\r\n")
    end
    return answer(r.body)
  end)
  local s = session()
  async.with(fs.open(path, "rb"), function(file)
    file:read(5)
    local response = s:put(base, { body = file })
    test.eq({ #response:bytes(), response:text():sub(1, 5) }, { 199995, "56789" })
    test.contains(heads[1], "Content-Length: 199995\r\n")
  end)
  local parts = { { name = "a", data = "1" }, { name = "f", file = path } }
  test.contains(s:post(base, { multipart = parts }):text(), ("0123456789"):rep(20000))
  test.eq({ heads[2]:find "Content%-Length: %d+\r\n" ~= nil, heads[2]:find "Transfer%-Enc" },
    { true, nil })
  async.with(fs.open(path, "rb"), function(file)
    parts[2].file = file
    test.contains(s:post(base, { multipart = parts }):text(), ("0123456789"):rep(20000))
  end)
  test.contains(heads[3], "Content-Length: ")
  local e = test.raises("OSError", s.post, s, base, { multipart = { f = { file = path .. "x" } } })
  test.eq({ e.code, e.url }, { "ENOENT", base .. "/" })
end)
