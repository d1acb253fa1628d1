-- examples/modules/resolver, opposite a name server of our own.
local async, net, errors = require "rille.async", require "rille.net", require "rille.errors"
local resolver_module = require "resolver"

local server = net.udp { host = "127.0.0.1", port = 0 }
local queries = 0
local serving = async.spawn(function()
  while true do
    local query, from = server:recv()
    queries = queries + 1
    local name = query:sub(13):match "^[^%z]*%z"
    if not name:find "silent" then
      local question = query:sub(13, 12 + #name + 4)
      -- The answer's name is a pointer to the question's; A, IN, 60 s, 192.0.2.7.
      server:send(query:sub(1, 2) .. "\129\128\0\1\0\1\0\0\0\0" .. question
        .. "\192\12\0\1\0\1\0\0\0\60\0\4\192\0\2\7", from.host, from.port)
    end
  end
end)

local address = "127.0.0.1:" .. server:address().port
local resolver = resolver_module.open(address)
assert(resolver:lookup "example.test" == "192.0.2.7")
local all = async.gather {
  function() return resolver:lookup "one.test" end,
  function() return resolver:lookup "two.test" end,
}
assert(all[1] == "192.0.2.7" and all[2] == "192.0.2.7")
assert(queries == 3)

-- A wait that is given up; closing ends what is still under way.
assert(not pcall(async.wait_for, resolver.lookup, 0.01, resolver, "silent.test"))
local waiting = async.spawn(resolver.lookup, resolver, "silent.test")
async.sleep(0)
resolver:close()
local ok, e = pcall(waiting.await, waiting)
assert(not ok and errors.is(e, "LookupError"), tostring(e))
ok, e = pcall(resolver.lookup, resolver, "late.test")
assert(not ok and errors.is(e, "InvalidStateError"))
async.with(resolver_module.open(address), function(r) assert(r:lookup "x.test" == "192.0.2.7") end)

-- One that nobody closes, with a lookup under way at the end.
local left = resolver_module.open(address)
async.spawn(left.lookup, left, "silent.test")
async.sleep(0)
serving:cancel()
server:close()
print "all is well"
