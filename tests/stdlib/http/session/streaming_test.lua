-- Sessions: responses that are read as they come.
local async, test = require "rille.async", require "support.test"
local http = require "rille.http"
local process = require "rille.process"
local scripted = require "stdlib.http.scripted"
local serve, answer, session = scripted.serve, scripted.answer, scripted.session

test("a streamed response is read as it comes, and frees its connection at its end", function()
  local go_on = async.Event()
  local base, connections = serve(function(r)
    r.stream:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    go_on:wait()
    return "6\r\nsecond\r\n0\r\n\r\n"
  end)
  local s = session()
  local r = s:get(base, { stream = true })
  local chunks = r:chunks()
  test.eq(chunks(), "first")
  test.eq(tostring(s), "Session: 1 connections in use, 0 idle")
  go_on:set()
  test.eq(chunks(), "second")
  test.eq(chunks(), nil)
  test.eq(tostring(s), "Session: 0 connections in use, 1 idle")
  s:get(base)
  test.eq(connections(), 1)
  test.raises("InvalidStateError", r.text, r)
end)

test("a streamed response is dropped by close, by with, and at the end of its task", function()
  local base = serve(function()
    return "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" .. ("x"):rep(100000)
  end)
  local s = session()
  local r = s:get(base, { stream = true })
  r:close()
  r:close()
  test.raises("InvalidStateError", r.bytes, r)
  async.with(s:get(base, { stream = true }), function(inner)
    test.eq(inner:chunks()():sub(1, 1), "x")
  end)
  local t = async.spawn(function()
    s:get(base, { stream = true })
    return "done"
  end)
  test.eq(t:await(), "done")
  test.turns(3)
  test.eq(tostring(s), "Session: 0 connections in use, 0 idle")
end)

test("a slow reader holds the server up, and memory stays bounded", function()
  local written = 0
  local base = serve(function(r)
    r.stream:write "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
    local piece = ("x"):rep(1048576)
    pcall(function()
      for _ = 1, 900 do
        r.stream:write(piece)
        written = written + 1
      end
    end)
    return false
  end)
  local s = session()
  local r = s:get(base, { stream = true })
  local before
  repeat
    before = written
    async.sleep(0.05)
  until written == before
  assert(written < 100, written)
  r:close()
end)

test("lines and events of a response", function()
  local base = serve(function(r)
    if r.head:find "/lines" then return answer "one\ntwo\r\n\nlast" end
    return answer("\239\187\191: comment\nid: 7\ndata: a\ndata:  b\n\nevent: ping\r\ndata\r\n\r\n"
      .. "retry: 10\nid: 8\ndata:x\n\ndata: cut")
  end)
  local s = session()
  for _, options in ipairs { {}, { stream = true } } do
    local lines = {}
    for line in s:get(base .. "/lines", options):lines() do lines[#lines + 1] = line end
    test.eq(lines, { "one", "two\r", "", "last" })
    local events = {}
    for event in s:get(base, options):events() do events[#events + 1] = event end
    test.eq(events, {
      { data = "a\n b", event = "message", id = "7" }, { data = "", event = "ping", id = "7" },
      { data = "x", event = "message", id = "8", retry = 10 },
    })
  end
  test.raises("LimitOverrunError", function()
    for _ in s:get(base .. "/lines", { stream = true }):lines(2) do local _ = nil end
  end)
end)

test("trailers are there once the body has been read, with and without stream", function()
  local base, connections = serve(function(r)
    local last = r.head:find "/none" and "" or "Sum: 1\r\nX:  a \r\nx: b\r\n"
    return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      .. "3\r\nabc\r\n0\r\n" .. last .. "\r\n"
  end)
  local s = session()
  for _ = 1, 3 do -- by a connection that is new, and by one that has rested
    for _, options in ipairs { false, { stream = true } } do
      local response = s:get(base .. "/some", options or nil)
      if options then test.eq(response.trailers.sum, nil) end
      test.eq(response:text(), "abc")
      test.eq({ response.trailers.sum, response.trailers.X }, { "1", "a, b" })
      test.eq(response.trailers:get_all "x", { "a", "b" })
      response = s:get(base .. "/none", options or nil)
      test.eq({ response:text(), response.trailers.sum }, { "abc" })
    end
  end
  test.eq(connections(), 1)
  local own = http.serve { handler = function()
    return http.response { body = "abc", trailers = { Sum = "6" } }
  end }
  test.defer(function() own:close(0) end)
  test.eq(s:get("http://127.0.0.1:" .. own.port).trailers.sum, "6")
end)

test("a streamed response that nobody has any more gives its place back", function()
  local base = serve(function(r)
    if r.head:find "/short" then return answer "short" end
    r.stream:write "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
    r.stream:read()
    return false
  end)
  local s = session { limit = 1 }
  for _ = 1, 3 do
    local function drop() s:get(base, { stream = true }):chunks()() end
    drop()
    collectgarbage()
    collectgarbage()
    test.eq(s:get(base .. "/short"):text(), "short")
  end
  test.eq(tostring(s), "Session: 0 connections in use, 1 idle")
  -- One that is in use keeps it, whatever the collector does.
  local response = s:get(base, { stream = true })
  collectgarbage()
  collectgarbage()
  local pieces = response:chunks()
  test.eq({ pieces(), tostring(s) }, { "half", "Session: 1 connections in use, 0 idle" })
  response:close()
end)

test("a response that is dropped unread is told of in debug mode, and one that is closed is not",
  function()
    local base = serve(function() return answer "x" end)
    local program = ([[
      local http = require "rille.http"
      local s = http.Session { limit = 1 }
      local function ask(close)
        local response = s:get("%s", { stream = true })
        if close then response:close() end
      end
      ask(true)
      ask(false)
      collectgarbage()
      collectgarbage()
      s:get("%s")]]):format(base, base)
    local path = test.write(test.tmpdir() .. "/script.lua", program)
    local result = process.run { test.executable(), "--debug", path, timeout = 30 }
    test.eq({ result.code, result.stderr },
      { 0, ("rille: unclosed response: GET %s/\nmade at %s:4\n"):format(base, path) })
    test.eq(process.run({ test.executable(), path, timeout = 30 }).stderr, "")
  end)

test("timeouts bound a streamed body too, and the pauses in it", function()
  local base = serve(function(r)
    r.stream:write "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx"
    async.sleep(5)
  end)
  local s = session()
  for name in pairs { total = true, read = true } do
    local r = s:get(base, { stream = true, timeout = { [name] = 0.02 } })
    local e = test.raises("TimeoutError", r.bytes, r)
    test.eq({ e.phase, e.url }, { name, base .. "/" })
  end
  local e = test.raises("TimeoutError", s.get, s, base, { timeout = { read = 0.02 } })
  test.eq(e.phase, "read")
  test.eq(tostring(s), "Session: 0 connections in use, 0 idle")
end)

test("a server that answers and closes before it has read everything is heard", function()
  local base = serve(function(r)
    r.stream:write "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"
    r.stream:shutdown()
    return false
  end)
  local s = session()
  local left = 400
  local r = s:post(base, {
    body = function()
      left = left - 1
      if left > 0 then return ("x"):rep(100000) end
    end,
  })
  test.eq({ r.status, r:text() }, { 413, "big" })
end)
