-- Bodies of requests that come in parts.
local async, test = require "rille.async", require "support.test"
local raw = require "stdlib.http.raw"

local GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
local POST = "POST / HTTP/1.1\r\nHost: a\r\n"

local start = raw.handle

test("chunks gives a body as it comes", function()
  local log, got = test.log(), async.Event()
  local port = start(function(req)
    for chunk in req:chunks() do
      log(chunk)
      got:set()
    end
    return "end"
  end)
  local peer = raw.connect(port):send(POST .. "Content-Length: 6\r\n\r\nab")
  got:wait()
  got:clear()
  peer:send "cd"
  got:wait()
  peer:send("ef" .. GET)
  test.matches(peer:read_response(), "end$")
  test.matches(peer:read_response(), "end$")
  test.eq(log, { "ab", "cd", "ef" })
  peer:send(POST .. "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
  test.matches(peer:read_response(), "end$")
  test.eq(log[4], "abc")
end)

test("a body is taken once, and what is left of it is passed over", function()
  local port = start(function(req)
    if req.path == "/part" then
      local chunks = req:chunks()
      local first = chunks()
      chunks:close()
      return tostring(#first > 0) .. tostring(chunks())
    end
    if req.path == "/after" then
      local body = req:body()
      local parts = {}
      for chunk in req:chunks() do parts[#parts + 1] = chunk end
      return body .. table.concat(parts)
    end
    for _ in req:chunks() do break end
    local e = test.raises("InvalidStateError", req.body, req)
    test.raises("InvalidStateError", req.chunks, req)
    return tostring(e)
  end)
  local peer = raw.connect(port):send(POST .. "Content-Length: 3\r\n\r\nabc")
  test.matches(peer:read_response(), "InvalidStateError: body: the body was taken by chunks%(%)$")
  peer:send "POST /part HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n"
  peer:send(("x"):rep(50000))
  test.matches(peer:read_response(), "truenil$")
  peer:send "POST /after HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"
  test.matches(peer:read_response(), "abab$")
end)

test("a client is held back while nobody takes its body", { limit = 3 }, function()
  local go_on = async.Event()
  local port = start(function(req)
    go_on:wait()
    local size = 0
    for chunk in req:chunks() do size = size + #chunk end
    return tostring(size)
  end, { max_body_bytes = 0 })
  local size = 64 * 1048576
  local peer = raw.connect(port):send(POST .. "Content-Length: " .. size .. "\r\n\r\n")
  local sent = 0
  local sender = async.spawn(function()
    local block = ("x"):rep(1048576)
    while sent < size do
      peer:send(block)
      sent = sent + #block
    end
  end)
  for _ = 1, 50 do async.sleep(0.002) end
  assert(sent < size / 2, "it was all taken: " .. sent)
  go_on:set()
  test.matches(peer:read_response(), tostring(size) .. "$")
  sender:await()
end)

test("limits of a body that is read in parts", function()
  local port = start(function(req)
    local size = 0
    for chunk in req:chunks() do size = size + #chunk end
    return tostring(size)
  end, { max_body_bytes = 100, max_collect_bytes = 10, body_timeout = 0.05 })
  local function answer(text) return raw.answer(port, POST .. text):match "^HTTP/1.1 (%d+)" end
  test.eq(answer("Content-Length: 100\r\n\r\n" .. ("x"):rep(100)), "200")
  test.eq(answer "Content-Length: 101\r\n\r\n", "413")
  test.eq(answer("Transfer-Encoding: chunked\r\n\r\n65\r\n" .. ("x"):rep(101)), "413")
  test.eq(answer "Content-Length: 100\r\n\r\nx", "408")
  test.eq(answer "Transfer-Encoding: chunked\r\n\r\nx", "400")
  -- Who dawdles is late, however often a byte comes.
  local peer = raw.connect(port):send(POST .. "Content-Length: 90\r\n\r\n")
  local dripping = async.spawn(function()
    for _ = 1, 90 do
      peer:send "x"
      async.sleep(0.01)
    end
  end)
  test.matches(peer:read_response(), "^HTTP/1.1 408 ")
  dripping:cancel()
  async.wait { dripping }
  -- A body that is cut off.
  peer = raw.connect(port):send(POST .. "Content-Length: 90\r\n\r\nabc")
  peer:finish()
  test.matches(peer:read_response(), "^HTTP/1.1 400 ")
  test.eq(#test.reports(), 0)
end)

test("trailers are there once the body has been read", function()
  local port = start(function(req)
    req:body()
    local list = {}
    for name, value in req.trailers:iter() do list[#list + 1] = name .. "=" .. value end
    return ("%s %s"):format(tostring(req.trailers["x-SUM"]), table.concat(list, ";"))
  end)
  local peer = raw.connect(port):send(POST .. "Transfer-Encoding: chunked\r\n\r\n")
  async.sleep(0)
  peer:send "3\r\nabc\r\n0\r\nX-Sum:  12 \r\nEmpty:\r\nX-B: c d\r\n\r\n"
  test.matches(peer:read_response(), "\r\n12 X%-Sum=12;Empty=;X%-B=c d$")
  peer:send(POST .. "Content-Length: 0\r\n\r\n")
  test.matches(peer:read_response(), "nil $")
end)

test("JSON: the value of a body, and a 400 that says what is wrong with it", function()
  local port = start(function(req) return { got = req:json() } end)
  local answer = raw.answer(port, POST .. 'Content-Length: 7\r\n\r\n{"a":1}')
  test.contains(answer, "Content-Type: application/json\r\n")
  test.matches(answer, '{"got":{"a":1}}$')
  answer = raw.answer(port, POST .. "Content-Length: 3\r\n\r\n{a}")
  test.matches(answer, "^HTTP/1.1 400 ")
  test.contains(answer, "line 1")
  test.matches(raw.answer(port, POST .. "Content-Length: 0\r\n\r\n"), "^HTTP/1.1 400 ")
  test.eq(#test.reports(), 0)
end)

test("JSON that has another shape than is wanted is a 422 that lists what is wrong", function()
  local port = start(function(req)
    local value = req:json {
      name = "string", age = "integer?", tags = { "string" }, at = { x = "number", y = "any" },
      even = function(n) return n == nil or n % 2 == 0, "an even number expected" end,
    }
    return value.name
  end)
  local function answer(body)
    local text = raw.answer(port, ("%sContent-Length: %d\r\n\r\n%s"):format(POST, #body, body))
    return text:match "^HTTP/1.1 (%d+)", text:match "\r\n\r\n(.*)$"
  end
  test.eq({ answer '{"name":"n","age":null,"tags":[],"at":{"x":1.5,"y":false},"more":1}' },
    { "200", "n" })
  local status, body = answer '{"age":1.5,"tags":["a",2],"at":[],"even":3}'
  test.eq(status, "422")
  local faults = require("rille.json").decode(body).errors
  local list = {}
  for i, fault in ipairs(faults) do list[i] = fault.path .. ": " .. fault.message end
  test.eq(list, { "age: integer expected, got number", "at: object expected, got list",
    "even: an even number expected", "name: string expected, got nothing",
    "tags[2]: string expected, got number" })
  status = answer "[1]"
  test.eq(status, "422")
  test.eq(#test.reports(), 0)
end)

test("cookies that were sent", function()
  local port = start(function(req)
    return req.cookies.a .. req.cookies.b .. tostring(req.cookies.c) .. req.cookies.d
  end)
  test.matches(raw.answer(port, "GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1; b=\"2 3\"; a=9\r\n"
    .. "Cookie: d==x=; c\r\n\r\n"), "12 3nil=x=$")
end)
