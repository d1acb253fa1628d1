-- One connection for many tasks: each request carries a number, and the answers come in any order.
-- One task reads them and hands each to the task that waits for it. Who gives up waiting harms
-- nobody: its answer is dropped when it comes; and when the connection ends, all learn of it.
local async = require "rille.async"
local errors = require "rille.errors"
local net = require "rille.net"

-- The server: answers each line "NUMBER QUESTION" when it is ready, the longer ones later.
local function answer_all(stream)
  async.group(function(group)
    for line in stream:lines() do
      local number, word = line:match "^(%d+) (.*)$"
      if word == "quit" then return group:cancel() end
      group:spawn(function()
        async.sleep(#word / 60)
        stream:write(number, " ", word:reverse(), "\n")
      end)
    end
  end)
end

local Client = {}
Client.__index = Client

local function new_client(stream)
  local client = setmetatable({ stream = stream, waiting = {}, count = 0 }, Client)
  client.reader = async.spawn(client.read_all, client)
  return client
end

function Client:read_all()
  for line in self.stream:lines() do
    local number, answer = line:match "^(%d+) (.*)$"
    local future = self.waiting[tonumber(number)]
    if future then future:set_result(answer) end
  end
  for _, future in pairs(self.waiting) do
    future:set_error(errors.new("ConnectionError", "the server has ended the connection"))
  end
end

function Client:ask(question)
  self.count = self.count + 1
  local number, future = self.count, async.Future()
  self.waiting[number] = future
  return async.finally(function()
    self.stream:write(number, " ", question, "\n")
    return future:await()
  end, function()
    self.waiting[number] = nil
  end)
end

async.group(function(group)
  local listener = net.listen {}
  group:spawn(listener.serve, listener, answer_all)
  local stream = net.connect { host = "127.0.0.1", port = listener:address().port }
  local client = new_client(stream)

  local order = {}
  async.map({ "a long question", "short", "neither one" }, function(question)
    local answer = client:ask(question)
    order[#order + 1] = answer
  end)
  print("In the order of their coming: " .. table.concat(order, ", "))

  local in_time = async.move_on_after(0.001, function() client:ask "??" end)
  print("Came in time: " .. tostring(in_time))
  print("The next one gets its own answer: " .. client:ask "next")

  for _, result in ipairs(async.gather({
    function() return client:ask(("endless "):rep(500)) end,
    function() return client:ask "quit" end,
  }, { return_errors = true })) do
    print(result)
  end

  client.reader:await()
  stream:close()
  listener:close()
end)
