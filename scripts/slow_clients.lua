-- A server that protects itself: so many connections at once, so many bytes in a line, so much time
-- to say something. The limit of time holds for the whole line: who sends a byte now and then does
-- not get more of it.
local async = require "rille.async"
local errors = require "rille.errors"
local net = require "rille.net"

local MOST_CLIENTS = 2
local LONGEST_LINE = 1000
local PATIENCE = 0.4

local function serve_lines(stream)
  while true do
    local line
    async.timeout(PATIENCE, function() line = stream:read_line(LONGEST_LINE) end)
    if not line then return end
    stream:write("You said ", line, "\n")
  end
end

local function handle(stream)
  local ok, err = pcall(serve_lines, stream)
  if ok then return end
  if errors.is(err, "TimeoutError") then
    stream:write "Too slow\n"
  elseif errors.is(err, "LimitOverrunError") then
    stream:write "Too long\n"
  else
    error(err, 0)
  end
end

-- Sends the parts, each `pause` after the one before, and gives the answer.
local function say(port, parts, pause)
  return async.with(net.connect { host = "127.0.0.1", port = port }, function(stream)
    local sending = async.spawn(pcall, function() -- the server may end the connection meanwhile
      for _, part in ipairs(parts) do
        stream:write(part)
        async.sleep(pause)
      end
    end)
    local answer = stream:read_line()
    sending:cancel()
    async.wait { sending }
    return answer
  end)
end

async.group(function(group)
  local listener = net.listen {}
  local port = listener:address().port
  group:spawn(listener.serve, listener, handle, { limit = MOST_CLIENTS })

  local drops = {}
  for i = 1, 1000 do drops[i] = "x" end
  local answers = async.gather {
    function() return say(port, { "hello\n" }, 0) end,
    function() return say(port, drops, 0.02) end,
    function() return say(port, { ("x"):rep(5000), "\n" }, 0) end,
    function() return say(port, { "I ", "waited\n" }, 0) end,
  }
  for _, answer in ipairs(answers) do print(answer) end
  listener:close()
end)
