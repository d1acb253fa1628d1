-- What a peer puts into its fields costs no more than its length: each case would take minutes if
-- that were looked at again and again.
local async, test = require "rille.async", require "support.test"
local http, net = require "rille.http", require "rille.net"
local cookies = require "rille.http.cookies"
local fields = require "rille.http.fields"
local raw = require "stdlib.http.raw"

local TIMES = 60

test("trim takes away what is around a text, and nothing else", function()
  for text, want in pairs {
    [""] = "", [" "] = "", ["\t \t"] = "", a = "a", [" a"] = "a", ["a\t "] = "a",
    [" a  b "] = "a  b", ["a\n"] = "a\n",
  } do
    test.eq(fields.trim(text), want)
  end
end)

test("fields with much space between two words", function()
  local app = http.App()
  app:get("/", function(req) return (next(req.cookies)) or "none" end)
  app:websocket("/ws", function() end)
  app:static("/files", "tests/stdlib/http")
  local server = app:serve { compress = { min_bytes = 0 } }
  test.defer(function() server:close(0) end)
  local peer = raw.connect(server.port)
  local gap = "a" .. (" "):rep(30000) .. "b"
  local function ask(path, lines)
    peer:send(("GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n"):format(path, lines))
    return peer:read_response():match "^HTTP/1.1 (%d+)"
  end
  for _ = 1, TIMES do
    test.eq(ask("/", "Cookie: n=" .. gap), "200")
    test.eq(ask("/", "Accept-Encoding: gzip;" .. gap), "200")
    test.eq(ask("/ws", "Upgrade: websocket\r\nConnection: " .. gap), "426")
    local path = "/files/field_cost_test.lua"
    test.eq(ask(path, "Range: bytes=" .. gap), "200")
    test.eq(ask(path, "If-None-Match: " .. gap), "200")
    test.eq(ask(path, "Accept-Encoding: br;" .. gap), "200")
  end
end)

test("numbers with many digits that are none", function()
  local app = http.App()
  app:get("/{n}", function(req) return tostring(req.params.n) end, { params = { n = "number" } })
  async.with(app:test_client(), function(client)
    for _ = 1, TIMES do test.eq(client:get("/" .. ("1"):rep(8000) .. "x").status, 422) end
    for text, want in pairs {
      ["1"] = "1", ["-1.5"] = "-1.5", ["+2."] = "2", ["1e2"] = "100", ["1.5E-1"] = "0.15",
      ["1e"] = 422, [".5"] = 422, ["1.2.3"] = 422, ["0x10"] = 422, ["inf"] = 422, ["--1"] = 422,
    } do
      local response = client:get("/" .. text)
      test.eq(response.status == 200 and response:text() or response.status, want, text)
    end
  end)
end)

test("cookies that a server sets", function()
  local gap = (" "):rep(60000)
  local base
  local listener = net.listen {}
  local server = async.spawn(listener.serve, listener, function(stream)
    while pcall(stream.read_until, stream, "\r\n\r\n") do
      stream:write(("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a=b%sc; x=y%sz\r\n\r\n")
        :format(gap:sub(1, 2000), gap))
    end
  end)
  base = "http://127.0.0.1:" .. listener:address().port
  async.with(http.Session(), function(session)
    for _ = 1, TIMES do test.eq(session:get(base).status, 200) end
    test.eq(#session.cookies:get "a", 2002)
  end)
  test.eq(cookies.read { "n=v" .. gap .. "w" }, {})
  listener:close(0)
  async.wait { server }
end)
