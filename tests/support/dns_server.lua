--- A small DNS server for tests, over UDP and TCP. What it answers depends on the name's first
-- label; see `answers` below.
local async = require "rille.async"
local net = require "rille.net"
local test = require "support.test"

local TYPES = {
  A = 1, NS = 2, CNAME = 5, PTR = 12, MX = 15, TXT = 16, AAAA = 28, SRV = 33, CAA = 257,
}

local function u8(n) return string.char(n) end
local function u16(n) return string.char(math.floor(n / 256), n % 256) end

local function encode_name(name)
  local parts = {}
  for label in name:gmatch "[^.]+" do parts[#parts + 1] = u8(#label) .. label end
  return table.concat(parts) .. "\0"
end

local function a(ip)
  return (ip:gsub("(%d+)%.?", function(n) return u8(tonumber(n)) end))
end

local function text(...)
  local parts = {}
  for i, part in ipairs { ... } do parts[i] = u8(#part) .. part end
  return table.concat(parts)
end

-- The owner is a pointer to the question's name, unless one is given.
local function record(kind, data, owner)
  return (owner or "\192\12") .. u16(TYPES[kind] or kind) .. u16(1) .. "\0\0\0\60"
    .. u16(#data) .. data
end

-- Gives the message's id, the question as it stands, its name and type.
local function parse(message)
  local labels, at = {}, 13
  while message:byte(at) ~= 0 do
    local size = message:byte(at)
    labels[#labels + 1] = message:sub(at + 1, at + size)
    at = at + 1 + size
  end
  local kind = message:byte(at + 1) * 256 + message:byte(at + 2)
  return message:sub(1, 2), message:sub(13, at + 4), table.concat(labels, "."), kind
end

local function reply(id, flags, question, records, count)
  return id .. u16(0x8180 + flags) .. u16(1) .. u16(count or #records) .. u16(0) .. u16(0)
    .. question .. table.concat(records)
end

local function repeated(item, n)
  local list = {}
  for i = 1, n do list[i] = item end
  return list
end

local SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, TRUNCATED = 2, 3, 4, 5, 0x200

-- By type, for names that have everything.
local everything = {
  [TYPES.A] = { record("A", a "192.0.2.1"), record("A", a "192.0.2.2") },
  [TYPES.AAAA] = { record("AAAA", "\32\1\13\184" .. ("\0"):rep(11) .. "\1") },
  [TYPES.CNAME] = { record("CNAME", encode_name "other.test") },
  [TYPES.NS] = {
    record("NS", encode_name "ns1.test"), record("NS", "\3ns2\192\12"), -- ns2 below the question
  },
  [TYPES.PTR] = { record("PTR", encode_name "host.test") },
  [TYPES.TXT] = {
    record("TXT", text "v=spf1 -all"), record("TXT", text("two ", "parts", "")),
    record("TXT", text ""), record("TXT", text "a\0b\255"),
  },
  [TYPES.MX] = {
    record("MX", u16(10) .. encode_name "mx1.test"),
    record("MX", u16(20) .. encode_name "mx2.test"),
  },
  [TYPES.SRV] = { record("SRV", u16(1) .. u16(2) .. u16(443) .. encode_name "srv.test") },
  [TYPES.CAA] = {
    record("CAA", u8(0) .. text "issue" .. "ca.test"), record("CAA", u8(128) .. text "iodef" .. ""),
  },
}

-- What a server does with a question, by the name's first label. `q`: id, question, name, kind,
-- is_tcp, server. Returns a message, or nothing.
local answers = {}

function answers.all(q) return reply(q.id, 0, q.question, everything[q.kind] or {}) end
function answers.nothere(q) return reply(q.id, NXDOMAIN, q.question, {}) end
function answers.nodata(q) return reply(q.id, 0, q.question, {}) end
function answers.servfail(q) return reply(q.id, SERVFAIL, q.question, {}) end
function answers.notimp(q) return reply(q.id, NOTIMP, q.question, {}) end
function answers.refused(q) return reply(q.id, REFUSED, q.question, {}) end
function answers.silent() end
--- Says what it was asked.
function answers.echo(q) return reply(q.id, 0, q.question, { record("TXT", text(q.name)) }) end
--- An alias, and what it stands for.
function answers.alias(q)
  return reply(q.id, 0, q.question, {
    record("CNAME", encode_name "real.test"), record("A", a "192.0.2.7", encode_name "real.test"),
  })
end
--- An alias alone, whatever the type.
function answers.dangling(q)
  return reply(q.id, 0, q.question, { record("CNAME", encode_name "real.test") })
end
function answers.null(q)
  return reply(q.id, 0, q.question, { record("MX", u16(0) .. "\0") })
end
--- Too large for UDP.
function answers.big(q)
  if not q.is_tcp then return reply(q.id, TRUNCATED, q.question, {}) end
  return reply(q.id, 0, q.question, repeated(record("A", a "192.0.2.9"), 1000))
end
--- Cut short over TCP too: the connection is closed in the middle.
function answers.cut(q)
  if not q.is_tcp then return reply(q.id, TRUNCATED, q.question, {}) end
  return reply(q.id, 0, q.question, everything[TYPES.A]), 20
end
--- Nothing over TCP.
function answers.mute(q)
  if not q.is_tcp then return reply(q.id, TRUNCATED, q.question, {}) end
end
--- Answers the second question about a name only.
function answers.second(q)
  q.server.asked[q.name] = (q.server.asked[q.name] or 0) + 1
  if q.server.asked[q.name] >= 2 then return answers.all(q) end
end

-- Damaged answers to the right question.
answers.junk = function(q) return reply(q.id, 0, q.question, { ("\255"):rep(40) }, 3) end
answers.short = function(q)
  return reply(q.id, 0, q.question, { record("A", a "192.0.2.1"):sub(1, -3) }, 1)
end
answers.fewer = function(q) return reply(q.id, 0, q.question, everything[TYPES.A], 9) end
answers.loop = function(q)
  local at = 12 + #q.question
  return reply(q.id, 0, q.question, { record("NS", "\192" .. u8(at + 12)) })
end
answers.beyond = function(q) return reply(q.id, 0, q.question, { record("NS", "\255\255") }) end
answers.wide = function(q) return reply(q.id, 0, q.question, { record("A", "\1\2\3\4\5") }) end
answers.narrow = function(q) return reply(q.id, 0, q.question, { record("A", "\1\2\3") }) end
answers.overlong = function(q)
  return reply(q.id, 0, q.question, { record("TXT", "\200abc") })
end
answers.empty = function(q) return reply(q.id, 0, q.question, { record(q.kind, "") }) end
--- Arbitrary bytes behind a header and question that are right.
answers.random = function(q)
  local bytes = {}
  for i = 1, math.random(0, 60) do bytes[i] = u8(math.random(0, 255)) end
  return reply(q.id, 0, q.question, bytes, math.random(1, 4))
end

-- No answers, but from the server and with the right id.
answers.babble = function(q) return q.id .. ("\255"):rep(20) end
answers.zeros = function(q) return q.id .. ("\0"):rep(20) end
answers.mirror = function(q) return q.id .. "\1\0\0\1\0\0\0\0\0\0" .. q.question end
answers.stump = function(q) return q.id .. "\129" end
answers.headless = function(q) return q.id .. "\129\128\0\1\0\1\0\0\0\0\5ab" end
-- An error without the question.
answers.bare = function(q) return q.id .. "\129\133" .. ("\0"):rep(8) end
-- Nothing that tells of which question it is.
answers.gibberish = function() return "what?" end

-- Not answers to the question at all, then the real one.
local function after(wrong)
  return function(q)
    q.server.udp:send(wrong(q), q.from.host, q.from.port)
    return answers.all(q)
  end
end
answers.otherid = after(function(q)
  local id = q.id:byte() == 255 and "\0\0" or u8(q.id:byte() + 1) .. q.id:sub(2)
  return reply(id, 0, q.question, { record("A", a "203.0.113.66") })
end)
answers.othername = after(function(q)
  return reply(q.id, 0, encode_name "evil.test" .. q.question:sub(-4),
    { record("A", a "203.0.113.66") })
end)
answers.noise = after(function() return "\1\2\3" end)

local Server = {}
Server.__index = Server

local function answer_to(server, message, is_tcp, from)
  local id, question, name, kind = parse(message)
  server.questions = server.questions + 1
  server.names[#server.names + 1] = name
  if from then server.ports[from.port] = true end
  local label = server.everything or name:match "^[^.]*":lower()
  local q = {
    id = id, question = question, name = name, kind = kind, is_tcp = is_tcp, from = from,
    server = server,
  }
  local address = name:match "^(.*)%.in%-addr%.arpa$" or name:match "^(.*)%.ip6%.arpa$"
  if address then return reply(id, 0, question, { record("PTR", encode_name "host.test") }) end
  return (answers[label] or answers.nothere)(q)
end

function Server:_serve_udp()
  while true do
    local message, from = self.udp:recv()
    local answer = answer_to(self, message, false, from)
    if answer then self.udp:send(answer, from.host, from.port) end
  end
end

local function serve_tcp(self, stream)
  while true do
    local size = stream:read_exactly(2)
    local message = stream:read_exactly(size:byte(1) * 256 + size:byte(2))
    self.tcp_questions = self.tcp_questions + 1
    local answer, sent = answer_to(self, message, true)
    if answer then stream:write((u16(#answer) .. answer):sub(1, sent or -1)) end
    if sent then return end
  end
end

local function start(host)
  local self = setmetatable({
    questions = 0, tcp_questions = 0, names = {}, ports = {}, asked = {},
  }, Server)
  repeat -- both protocols on one port
    self.udp = net.udp { host = host }
    local ok, listener = pcall(net.listen, { host = host, port = self.udp:address().port })
    if ok then self.tcp = listener else self.udp:close() end
  until ok
  self.address = tostring(self.udp:address())
  self.tasks = {
    async.spawn(self._serve_udp, self),
    async.spawn(self.tcp.serve, self.tcp, function(stream)
      -- Clients that hang up are none of the server's business.
      local ok, e = pcall(serve_tcp, self, stream)
      if not ok and async.is_cancelled(e) then error(e, 0) end
    end, { grace = 0 }),
  }
  return self
end

local M = {}

--- Starts a server, which ends with the test. Fields: `address` ("127.0.0.1:port"), `questions` and
-- `tcp_questions` (how many there were), `names` (that were asked for), `ports` (a set: where
-- datagrams came from). With `everything` set to a label it answers whatever it is asked as it
-- would a name with that label.
---@param host? string  127.0.0.1 by default
function M.serve(host)
  local self = start(host or "127.0.0.1")
  test.defer(function()
    for _, task in ipairs(self.tasks) do task:cancel() end
    async.wait(self.tasks)
    self.udp:close()
    self.tcp:close()
  end)
  return self
end

--- Starts a server in a process of its own, which ends with the test. Returns its address.
function M.serve_apart()
  local program = require("stdlib.net.support").start
    [[$RILLE -e 'require("support.dns_server").run()']]
  return program:expect "^(%S+)\n"
end

--- What that process does.
function M.run()
  local self = start "127.0.0.1"
  print(self.address)
  io.stdout:flush()
  async.wait(self.tasks)
end

return M
