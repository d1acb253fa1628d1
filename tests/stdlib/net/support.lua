--- What the tests of rille.net share: pairs of connected streams, and other programs to talk to.
local async = require "rille.async"
local net = require "rille.net"
local raw = require "stdlib.http.raw"
local test = require "support.test"

local M = { open_files = raw.open_files, run = raw.run }

--- A port of 127.0.0.1 that nobody listens on.
function M.dead_port()
  local listener = net.listen {}
  local port = listener:address().port
  listener:close()
  return port
end

--- Two streams that are connected, closed when the test is over: the connecting one first.
function M.pair(options)
  local listener = net.listen(options or {})
  local address = listener:address()
  local near = net.connect { host = address.host, port = address.port, path = address.path }
  local far = listener:accept()
  listener:close()
  test.defer(function()
    near:close()
    far:close()
  end)
  return near, far
end

function M.read_all(stream)
  local parts = {}
  for data in function() return stream:read() end do parts[#parts + 1] = data end
  return table.concat(parts)
end

--- Waits, in real time, until fn() gives something, and returns that.
function M.eventually(fn)
  while true do
    local value = fn()
    if value then return value end
    async.sleep(0.002)
  end
end

local function content(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

local Program = {}
Program.__index = Program

--- Starts a shell command beside this program; it is ended when the test is over. `$DIR` is a fresh
-- folder.
function M.start(command)
  local dir = test.tmpdir()
  -- `timeout` makes a group of what it runs, and is its leader.
  test.write(dir .. "/run", "echo $PPID > $DIR/pid\n" .. command)
  os.execute(([[
    export DIR=%s
    (timeout 60 sh $DIR/run < /dev/null > $DIR/out 2> $DIR/err
      touch $DIR/ended 2> /dev/null) &
    until test -s $DIR/pid; do sleep 0.005; done]]):format(dir))
  local self = setmetatable({ dir = dir, pid = content(dir .. "/pid"):match "%d+" }, Program)
  test.defer(function() self:kill() end)
  return self
end

--- Ends it and all that it has started: they are a group.
function Program:kill() os.execute("kill -s KILL -- -" .. self.pid .. " 2>/dev/null") end

--- What it has written so far.
function Program:output() return content(self.dir .. "/out") or "" end
function Program:errors() return content(self.dir .. "/err") or "" end

--- Waits until its output matches a pattern, and returns the captures.
function Program:expect(pattern)
  return M.eventually(function() return self:output():match(pattern) end)
end

--- Waits until it has ended.
function Program:wait()
  M.eventually(function() return content(self.dir .. "/ended") end)
end

--- Kilobytes of memory that this process has in use.
function M.resident()
  return tonumber(content("/proc/self/status"):match "VmRSS:%s*(%d+)")
end

-- With its first stream libuv opens a descriptor of its own, which would be counted later.
do
  local listener = net.listen {}
  net.connect({ host = "127.0.0.1", port = listener:address().port }):close()
  listener:close()
end

return M
