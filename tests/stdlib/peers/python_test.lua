-- Rille as the child of others: asyncio starts it, talks to it over its standard streams, closes
-- them, signals it and kills it.
local process = require "rille.process"
local test = require "support.test"

if not process.run({ "sh", "-c", "command -v python3" }).ok then return end

-- A shouting echo, which says on stderr why it has ended.
local CHILD = [[
local async, errors = require "rille.async", require "rille.errors"
local stdio = require "rille.stdio"
async.finally(function()
  local ok, err = pcall(function()
    for line in stdio.stdin:lines() do stdio.stdout:write(line:upper(), "\n") end
  end)
  if errors.is(err, "OSError") then
    stdio.stderr:write(err.code, "\n")
  elseif not ok then
    error(err, 0)
  else
    stdio.stderr:write "the end\n"
  end
end, function()
  async.sleep(0.01)
  stdio.stderr:write "cleaned up\n"
end)
]]

local PRELUDE = [[
import asyncio, signal, sys
from asyncio.subprocess import PIPE
rille, child = sys.argv[1:3]
async def start():
    return await asyncio.create_subprocess_exec(rille, child, stdin=PIPE, stdout=PIPE, stderr=PIPE)
async def finish(process):
    errors = await process.stderr.read()
    return await process.wait(), errors.decode().split()
]]

-- Runs an asyncio program whose last line is "well".
local function python(body)
  local dir = test.tmpdir()
  test.write(dir .. "/child.lua", CHILD)
  local program = PRELUDE .. "async def main():\n" .. body:gsub("[^\n]+", "    %0")
    .. "\n    print('well')\nasyncio.run(main())\n"
  local result = process.run {
    "python3", "-c", program, test.executable(), dir .. "/child.lua", timeout = 60,
  }
  test.eq({ result.stderr, result.stdout }, { "", "well\n" })
end

test("asyncio talks to a Rille child line by line, then closes its input", function()
  python [[
process = await start()
for i in range(200):
    process.stdin.write(b"line %d\n" % i)
    assert await process.stdout.readline() == b"LINE %d\n" % i
process.stdin.close()
assert await process.stdout.read() == b""
code, errors = await finish(process)
assert (code, errors) == (0, ["the", "end", "cleaned", "up"]), (code, errors)
]]
end)

test("megabytes go through a Rille child, which waits while asyncio does not read", function()
  python [[
process = await start()
line = b"x" * 999 + b"\n"
async def feed():
    for _ in range(4000):
        process.stdin.write(line)
        await process.stdin.drain()
    process.stdin.close()
feeder = asyncio.create_task(feed())
await asyncio.sleep(0.2)
assert not feeder.done()
answer = await process.stdout.read()
assert answer == line.upper() * 4000, len(answer)
await feeder
code, errors = await finish(process)
assert (code, errors) == (0, ["the", "end", "cleaned", "up"]), (code, errors)
]]
end)

test("a Rille child whose output nobody takes any more learns of it", function()
  python [[
process = await start()
process.stdin.write(b"a\n")
assert await process.stdout.readline() == b"A\n"
process._transport.get_pipe_transport(1).close()
await asyncio.sleep(0)
process.stdin.write(b"b\n")
code, errors = await finish(process)
assert (code, errors) == (0, ["EPIPE", "cleaned", "up"]), (code, errors)
]]
end)

test("asyncio ends a Rille child by a signal, and its clean-up runs", function()
  python [[
for number in signal.SIGTERM, signal.SIGINT:
    process = await start()
    process.stdin.write(b"a\n")
    assert await process.stdout.readline() == b"A\n"
    process.send_signal(number)
    code, errors = await finish(process)
    assert (code, errors) == (-number, ["cleaned", "up"]), (code, errors)
]]
end)

test("twenty Rille children of one asyncio program", function()
  python [[
async def one(i):
    process = await start()
    for turn in range(10):
        process.stdin.write(b"child %d, turn %d\n" % (i, turn))
        assert await process.stdout.readline() == b"CHILD %d, TURN %d\n" % (i, turn)
    process.stdin.close()
    code, errors = await finish(process)
    assert (code, errors) == (0, ["the", "end", "cleaned", "up"]), (code, errors)
await asyncio.gather(*(one(i) for i in range(20)))
]]
end)
