-- Questions and answers over UDP, where datagrams get lost: this server ignores every question the
-- first time. The client numbers its questions, asks again when no answer comes, and takes no late
-- answer for that of another question.
local async = require "rille.async"
local net = require "rille.net"

local PATIENCE = 0.05 -- seconds for an answer, twice as many at each try
local TRIES = 6

local function serve(socket)
  local asked = {}
  while true do
    local question, from = socket:recv()
    local number, text = question:match "^(%d+) (.*)$"
    if asked[number] then
      socket:send(number .. " " .. text:upper(), from.host, from.port)
    elseif number then
      asked[number] = true
      print(("The network loses question %s"):format(number))
    end
  end
end

local function answer_to(socket, number)
  while true do
    local got, text = socket:recv():match "^(%d+) (.*)$"
    if tonumber(got) == number then return text end
  end
end

local function ask(socket, number, text)
  local patience = PATIENCE
  for _ = 1, TRIES do
    socket:send(number .. " " .. text)
    local came, answer = async.move_on_after(patience, function()
      return answer_to(socket, number)
    end)
    if came then return answer end
    patience = patience * 2
  end
  error(("no answer to question %d"):format(number))
end

local server_socket = net.udp { host = "127.0.0.1" }
local address = server_socket:address()
local server = async.spawn(serve, server_socket)

async.with(net.udp { connect = { host = address.host, port = address.port } }, function(socket)
  for number, text in ipairs { "what is your name?", "what is your quest?" } do
    print(("Answer %d: %s"):format(number, ask(socket, number, text)))
  end

  server:cancel()
  async.wait { server }
  server_socket:close()
  -- The system says that nobody is there to whoever has one peer only.
  local _, err = pcall(ask, socket, 3, "are you still there?")
  print("Answer 3: " .. err.message)
end)
