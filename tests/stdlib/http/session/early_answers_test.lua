-- Sessions: answers that come before the request has ended.
local async, test = require "rille.async", require "support.test"
local http = require "rille.http"
local scripted = require "stdlib.http.scripted"
local serve, answer, session, slowly =
  scripted.serve, scripted.answer, scripted.session, scripted.slowly

test("a connection on which a body was not sent to its end serves nobody else", function()
  local base, connections = serve(function(r) return answer(r.head:match "^%S+ %S+") end)
  local s = session()
  local never, pieces = async.Future(), slowly { "some" }
  local r = s:post(base, { body = function() return pieces() or never:await() end, timeout = 5 })
  test.eq(r:text(), "POST /")
  test.eq(tostring(s), "Session: 0 connections in use, 0 idle")
  test.eq(s:get(base):text(), "GET /")
  test.eq(connections(), 2)
  -- A refusal in the place of a 100 leaves the body unsent as well.
  base, connections = serve(function(request)
    if request.head:find "^GET" then return answer "x" end
    return "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n"
  end)
  local headers = { Expect = "100-continue" }
  test.eq(s:post(base, { body = slowly { "some" }, headers = headers }).status, 417)
  test.eq(s:get(base):text(), "x")
  test.eq(connections(), 2)
end)

test("a server may answer while it reads: the body goes out to its end", function()
  local server = http.serve {
    handler = function(req) return http.response { stream = req:chunks() } end,
    max_body_bytes = false,
  }
  test.defer(function() server:close(0) end)
  local base, s = "http://127.0.0.1:" .. server.port, session { timeout = 30 }
  for _, stream in ipairs { false, true } do
    test.eq(s:post(base, { body = slowly { "a", "bc", "d" }, stream = stream }):text(), "abcd")
    local big = ("x"):rep(3000000)
    test.eq(#s:post(base, { body = slowly { big, big, big }, stream = stream }):text(), 9000000)
  end
  test.eq(tostring(s), "Session: 0 connections in use, 1 idle")
end)

test("a source of a body has ended when its request has", function()
  local base = serve(function(r)
    r.stream:read_until "never"
    return false
  end)
  local s, ended = session(), false
  local function body()
    async.finally(function() async.sleep(60) end, function()
      async.sleep(0)
      ended = true
    end)
  end
  test.eq((async.move_on_after(0.01, function() s:post(base, { body = body }) end)), false)
  test.eq(ended, true)
  test.eq(tostring(s), "Session: 0 connections in use, 0 idle")
end)

test("the limit for pauses does not count while the request is being sent", function()
  local base = serve(function(r)
    r.stream:read_until "0\r\n\r\n"
    return answer "all"
  end)
  local n = 0
  local function body()
    n = n + 1
    if n > 5 then return nil end
    async.sleep(0.02)
    return "x"
  end
  test.eq(session():post(base, { body = body, timeout = { read = 0.05 } }):text(), "all")
end)
