-- Sessions: a request made again, of which everything is known already.
local async, test = require "rille.async", require "support.test"
local compress = require "rille.core.compress"
local scripted = require "stdlib.http.scripted"
local serve, answer, session = scripted.serve, scripted.answer, scripted.session

-- The second request like another takes a shorter way.
local function second(answer_second, options)
  local base, connections = serve(function(r)
    if r.count == 1 or r.connection > 1 then return answer "first" end
    return answer_second(r)
  end)
  local s = session(options)
  test.eq(s:get(base):text(), "first")
  return s, base, connections
end

test("a request made again fails as the first one does", function()
  local function never() async.sleep(5) end
  local s, base = second(never, { timeout = { total = 0.01 } })
  local e = test.raises("TimeoutError", s.get, s, base)
  test.eq({ e.phase, e.url }, { "total", base .. "/" })
  test.eq(tostring(s), "Session: 0 connections in use, 0 idle")

  s, base = second(never)
  local request = async.spawn(s.get, s, base)
  async.sleep(0.005)
  request:cancel()
  async.wait { request }
  test.eq({ request:cancelled(), tostring(s) },
    { true, "Session: 0 connections in use, 0 idle" })
  s, base = second(never)
  e = test.raises("TimeoutError", async.wait_for, s.get, 0.01, s, base)
  test.eq(e.url, nil) -- not its own

  s, base = second(function() return "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234" end)
  request = async.spawn(s.get, s, base)
  async.sleep(0.005)
  s:close()
  test.raises("InvalidStateError", request.await, request)

  s, base = second(function() return "rubbish\r\n\r\n" end)
  e = test.raises("HTTPError", s.get, s, base)
  test.eq({ e.message, e.url }, { "malformed status line: GET " .. base .. "/", base .. "/" })

  s, base = second(function(r)
    r.stream:write "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234"
    return false
  end)
  e = test.raises("HTTPError", s.get, s, base)
  test.contains(e.message, "the connection was closed in the middle of the response")

  s, base = second(function() return answer(("x"):rep(100)) end, { max_body = 50 })
  e = test.raises("HTTPError", s.get, s, base)
  test.contains(e.message, "body too large")
  test.eq(tostring(s), "Session: 0 connections in use, 0 idle")
end)

test("a request made again is tried once more, in its time, if its connection ended", function()
  local s, base, connections = second(function(r)
    r.stream:abort()
    return false
  end)
  test.eq({ s:get(base):text(), connections() }, { "first", 2 })

  local asked = 0
  base = serve(function(r)
    asked = asked + 1
    if r.count == 1 and r.connection == 1 then return answer "first" end
    if r.connection > 1 then async.sleep(5) end
    return false
  end)
  s = session { timeout = 0.3 }
  s:get(base)
  local e = test.raises("TimeoutError", s.get, s, base)
  test.eq({ e.phase, asked }, { "total", 3 })
end)

test("a request made again heeds cookies, codings, redirects and Connection: close", function()
  local s, base, connections = second(function(r)
    if r.head:find "Cookie: a=b" then return answer "with a cookie" end
    return answer("x", "Set-Cookie: a=b\r\n")
  end)
  test.eq(s:get(base).cookies, { a = "b" })
  test.eq({ s:get(base):text(), connections() }, { "with a cookie", 1 })

  local bytes = compress.encoder("gzip"):finish "unpacked"
  s, base = second(function() return answer(bytes, "Content-Encoding: gzip\r\n") end)
  test.eq(s:get(base):text(), "unpacked")

  s, base, connections = second(function(r)
    if r.head:find "/there" then return answer "arrived" end
    return "HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"
  end)
  local response = s:get(base)
  test.eq({ response:text(), response.url, #response.history, connections() },
    { "arrived", base .. "/there", 1, 1 })

  s, base, connections = second(function() return answer("last", "Connection: close\r\n") end)
  test.eq({ s:get(base):text(), s:get(base):text(), connections() }, { "last", "first", 2 })
end)

test("a request made again waits for its turn", function()
  local s, base, connections = second(function(r)
    async.sleep(0.005)
    return answer(tostring(r.count))
  end, { limit = 1 })
  local got = async.map({ 1, 2, 3 }, function() return s:get(base):text() end)
  test.eq({ got[1], got[2], got[3], connections() }, { "2", "3", "4", 1 })
end)
