--- The other end of the line, byte by byte: for what no well-behaved client or server would send.
local async = require "rille.async"
local http = require "rille.http"
local net = require "rille.net"
local test = require "support.test"

local raw = {}

local Peer = {}
Peer.__index = Peer

local function wrap(socket) return setmetatable({ socket = socket, input = "" }, Peer) end

--- Connects to a port; closed when the test is over.
function raw.connect(port)
  local peer = wrap(net.connect { host = "127.0.0.1", port = port })
  test.defer(function() peer:close() end)
  return peer
end

function Peer:send(bytes)
  self.socket:write(bytes)
  return self
end

-- Reads more; false at the end.
function Peer:more()
  local data = self.socket:read()
  if not data then return false end
  self.input = self.input .. data
  return true
end

function Peer:take(n)
  local bytes = self.input:sub(1, n)
  self.input = self.input:sub(n + 1)
  return bytes
end

--- Everything up to and with the first occurrence of `text`; to the end if there is none.
function Peer:read_until(text)
  while true do
    local _, last = self.input:find(text, 1, true)
    if last then return self:take(last) end
    if not self:more() then return self:take(#self.input) end
  end
end

--- Everything to the end.
function Peer:read_all()
  while self:more() do end
  return self:take(#self.input)
end

-- A response without its Date field, which differs from run to run.
local function undated(text) return (text:gsub("Date: [^\r\n]*\r\n", "")) end

--- One response, without its Date field; "" if there is none.
---@param no_body? boolean  it answers a HEAD request
function Peer:read_response(no_body)
  local head = self:read_until "\r\n\r\n"
  local length = tonumber(head:match "Content%-Length: (%d+)") or 0
  if no_body then length = 0 end
  while #self.input < length and self:more() do end
  return undated(head .. self:take(length))
end

--- What the server answers to some bytes, without its Date field.
function raw.answer(port, bytes) return raw.connect(port):send(bytes):read_response() end

--- Tells the server that nothing more comes.
function Peer:finish() self.socket:shutdown() end

function Peer:close() self.socket:close() end

--- Ends the connection with a reset.
function Peer:abort() self.socket:abort() end

--- A server that handles one connection after another with `fn(peer)`, and closes each afterwards.
---@return integer port
function raw.serve(fn)
  local listener = net.listen { port = 0 }
  local task = async.spawn(function()
    while true do
      local peer = wrap(listener:accept())
      async.finally(function() fn(peer) end, function() peer:close() end)
    end
  end)
  local port = listener:address().port
  test.defer(function()
    task:cancel()
    async.wait { task }
    listener:close()
    if not task:cancelled() and task:error() then error(task:error(), 0) end
  end)
  return port
end

--- Starts a server for this test alone and gives its base URL and itself.
function raw.start(options)
  local server = require("rille.http").serve(options)
  test.defer(function() server:close(0) end)
  return "http://127.0.0.1:" .. server.port, server
end

--- The same with a handler; gives the port.
function raw.handle(handler, options)
  options = options or {}
  options.handler = handler
  return select(2, raw.start(options)).port
end

--- Head and body of all that the server sends, without its Date field.
function raw.whole(peer) return undated(peer:read_all()):match "^(.-\r\n\r\n)(.*)$" end

--- The reports of errors in handlers since the last call, as texts.
function raw.reported()
  local list = {}
  for i, report in ipairs(test.reports()) do
    list[i] = report.message .. ": " .. tostring(report.error)
  end
  return list
end

--- Runs a shell command while this program goes on, and waits for its end.
---@return string output, integer status
function raw.run(command)
  local dir = test.tmpdir()
  test.write(dir .. "/run", command)
  os.execute(("(timeout 60 sh %s/run > %s/out 2>&1; echo $? > %s/rc.part; mv %s/rc.part %s/rc) &")
    :format(dir, dir, dir, dir, dir))
  local status
  repeat
    async.sleep(0.005)
    local file = io.open(dir .. "/rc")
    if file then
      status = tonumber(file:read "*a")
      file:close()
    end
  until status
  return test.read(dir .. "/out"), status
end

-- How many files and sockets this process has open, and perhaps one more: the shell's end of the
-- pipe may not be closed yet.
local function count_files()
  local stat = io.open "/proc/self/stat"
  local pid = stat:read "*n"
  stat:close()
  local pipe = io.popen("ls /proc/" .. pid .. "/fd")
  local n = 0
  for _ in pipe:lines() do n = n + 1 end
  pipe:close()
  return n
end

--- How many files and sockets are open, once what was closed is closed. With `before`, fails
-- unless it is that many again.
function raw.open_files(before)
  local least = math.huge
  for _ = 1, before and 200 or 5 do
    least = math.min(least, count_files())
    if least == before then break end
    async.sleep(0.002)
  end
  if before then test.eq(least, before, "open files") end
  return least
end

--- Runs fn(...) in a task that is cancelled at its n-th wait, `turns` turns after that has begun.
---@return boolean  whether there was such a wait
---@return Task
function raw.cancel_at(n, turns, fn, ...)
  local probe = require "rille.core.probe"
  local waits, victim = 0, nil
  probe.on_wait(function(task)
    if task ~= victim then return end
    waits = waits + 1
    if waits ~= n then return end
    local function cancel(left)
      if left > 0 then return async.call_soon(cancel, left - 1) end
      victim:cancel "here"
    end
    cancel(turns)
  end)
  victim = async.spawn(fn, ...)
  async.wait { victim }
  probe.on_wait(nil)
  return waits >= n, victim
end

--- Runs a scenario again and again; each time one of the tasks that `is_meant` is cancelled at the
-- n-th wait of them all, at once or some turns later. Looks afterwards for what was left behind.
function raw.cancel_everywhere(most, is_meant, scenario)
  local probe = require "rille.core.probe"
  scenario() -- what is opened once for all is not counted
  local before = raw.open_files()
  local reached = 0
  for n = 1, most do
    for turns = 0, 3 do
      local waits = 0
      probe.on_wait(function(task)
        if not is_meant(task) then return end
        waits = waits + 1
        if waits ~= n then return end
        reached = reached + 1
        local function cancel(left)
          if left > 0 then return async.call_soon(cancel, left - 1) end
          task:cancel()
        end
        cancel(turns)
      end)
      local ok, e = pcall(scenario)
      probe.on_wait(nil)
      if not ok then error(e, 0) end
    end
  end
  assert(reached > most, "most waits were not reached: " .. reached)
  test.turns()
  -- Debug mode gives advice as well, without an error.
  for _, report in ipairs(test.reports()) do test.eq(report.error, nil) end
  raw.open_files(before)
end

--- A server whose answers are streams of 600,000 bytes, and how many of these it has opened and
-- closed: both wait.
function raw.serve_streams()
  local counts = { opened = 0, closed = 0 }
  local server = http.serve { handler = function()
    local n = 0
    counts.opened = counts.opened + 1
    return http.response { stream = {
      chunks = function()
        return function()
          async.sleep(0)
          n = n + 1
          return n < 4 and ("x"):rep(200000) or nil
        end
      end,
      close = function()
        async.sleep(0)
        counts.closed = counts.closed + 1
      end,
    } }
  end }
  return server, counts
end

return raw
