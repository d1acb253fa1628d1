-- Connections and requests of HTTP/2 that are cancelled wherever they wait; what they leave behind.
local async, test = require "rille.async", require "support.test"
local http = require "rille.http"
local raw = require "stdlib.http.raw"
local frames = require "stdlib.http.frames"

if not frames.are_spoken() then return end

-- The tasks that a server makes: all but its own and the one that runs the scenario.
local function cancel_everywhere(most, scenario)
  local own = async.current_task()
  raw.cancel_everywhere(most, function(task)
    return task ~= own and not task:name():find "^HTTP server"
  end, scenario)
end

-- Speaks to a server and reads what comes, whatever that is.
local function talk(server, fn)
  local peer = frames.connect(server.port)
  pcall(fn, peer)
  while true do
    local f = peer:read()
    if not f then break end
    if f.type == "DATA" then
      pcall(peer.window, peer, 0, #f.payload)
      pcall(peer.window, peer, f.id, #f.payload)
    end
    if f.ends or f.type == "RST_STREAM" then
      pcall(peer.send, peer, "GOAWAY", 0, 0, ("\0"):rep(8))
    end
  end
  peer:close()
end

test("streams that are cancelled are closed", function()
  cancel_everywhere(10, function()
    local server, counts = raw.serve_streams()
    talk(server, function(peer) peer:get(1) end)
    server:close(0)
    test.eq(counts.closed, counts.opened)
  end)
end)

test("bodies that are read, whole and in pieces", function()
  cancel_everywhere(10, function()
    local server = http.serve { handler = function(req)
      if req.path == "/chunks" then
        local size = 0
        for chunk in req:chunks() do size = size + #chunk end
        return tostring(size)
      end
      return req:body()
    end }
    talk(server, function(peer)
      peer:post(1):post(3, { [":path"] = "/chunks" })
      for _ = 1, 3 do
        peer:data(1, ("x"):rep(10000)):data(3, "abc")
        -- It has come when this has been answered.
        peer:send("PING", 0, 0, "12345678"):wait_for("PING", true)
      end
      peer:data(1, "", 1):data(3, "", 1)
    end)
    server:close(0)
  end)
end)

test("large answers, limits and a watch over the client", function()
  cancel_everywhere(12, function()
    local server = http.serve { handler = function(req)
      async.sleep(0)
      return req.path == "/large" and ("x"):rep(300000) or "small"
    end, cancel_on_disconnect = true, handler_timeout = 10, access_log = function() end }
    talk(server, function(peer) peer:get(1, { [":path"] = "/large" }):get(3) end)
    server:close(0)
  end)
end)

test("a connection that is cancelled takes its requests with it", function()
  local log = test.log()
  local started = async.Event()
  local server = http.serve { handler = function()
    started:set()
    local _, e = pcall(async.sleep, 100)
    log(async.is_cancelled(e))
    error(e, 0)
  end }
  local peer = frames.connect(server.port):get(1):get(3)
  started:wait()
  test.turns()
  for child in pairs(server._children) do child:cancel() end
  assert(not peer:wait_for "none")
  test.eq(log, { "true", "true" })
  server:close(0)
end)

test("close, called while requests begin, run and end", function()
  local before = raw.open_files()
  for turns = 0, 12 do
    local server = http.serve { handler = function(req)
      async.sleep(0)
      return req:body()
    end }
    local closing = async.spawn(function()
      for _ = 1, turns do async.sleep(0) end
      server:close()
    end)
    local ok, peer = pcall(frames.connect, server.port)
    if ok then
      pcall(function() peer:get(1):post(3):data(3, "x", 1):get(5) end)
      peer:wait_for "none"
      peer:close()
    end
    closing:await()
  end
  raw.open_files(before)
end)

test("clients that die in the middle of everything leave nothing", function()
  local before = raw.open_files()
  local server = http.serve { handler = function(req)
    if req.path == "/large" then return ("x"):rep(1000000) end
    if req.path == "/stream" then
      return http.response { stream = function()
        async.sleep(0)
        return ("x"):rep(1000)
      end }
    end
    return #req:body() .. ""
  end }
  local function all(n)
    for i = 1, n do
      local peer = frames.connect(server.port)
      peer:get(1, { [":path"] = "/large" }):get(3, { [":path"] = "/stream" }):post(5)
      peer:data(5, "abc")
      for _ = 1, i % 7 do async.sleep(0) end
      if i % 2 == 0 then
        peer.socket:abort()
      else
        peer:close()
      end
    end
  end
  all(math.max(20, 200 * test.SCALE))
  server:close(0)
  raw.open_files(before)
end)
