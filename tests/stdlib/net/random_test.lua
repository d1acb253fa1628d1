-- Random reads of random bytes, cancelled at random: whatever happens, the bytes come once each and
-- in order.
local async, test = require "rille.async", require "support.test"
local errors = require "rille.errors"
local support = require "stdlib.net.support"

local random = math.random

local function random_text(most)
  local parts = {}
  for i = 1, random(0, most) do
    -- Separators of both kinds, and halves of them.
    parts[i] = ({ "a", "b", "\r", "\n", "\r\n", "--", "-", ("x"):rep(random(50)) })[random(8)]
  end
  return table.concat(parts)
end

-- One read; what it has taken off the stream, exactly.
local function random_read(stream)
  local kind = random(4)
  if kind == 1 then return stream:read(random(100)) or false end
  if kind == 2 then return stream:read_exactly(random(0, 60)) end
  local limit = random(3) == 1 and random(40) or nil
  if kind == 3 then
    local separator = ({ "\n", "\r\n", "--", "a" })[random(4)]
    local text = stream:read_until(separator, limit)
    test.eq(text:sub(-#separator), separator)
    assert(text:find(separator, 1, true) == #text - #separator + 1, "an earlier one was left out")
    assert(not limit or #text <= limit)
    return text
  end
  local line = stream:read_line(limit)
  if not line then return false end
  assert(not line:find("\n", 1, true) and (not limit or #line <= limit))
  return line, true
end

local function read_one(stream) return stream:read(1) or false end

local EXPECTED = { IncompleteReadError = true, LimitOverrunError = true }

local function run(seed)
  math.randomseed(seed)
  local near, far = support.pair()
  local sent, got = {}, {}
  local writer = async.spawn(function()
    for i = 1, 60 do
      sent[i] = random_text(20)
      near:write(sent[i])
      if random(3) == 1 then async.sleep(0) end
    end
    near:shutdown()
  end)

  local at_end = false
  local function reader()
    local limited = false
    while not at_end do
      local ok, text, is_line = async.pcall(limited and read_one or random_read, far)
      limited = false
      if ok and not text then
        at_end = true
      elseif ok then
        -- The end of a line is not handed out; the last one may have none.
        got[#got + 1] = is_line and text .. "\n" or text
      elseif EXPECTED[text.kind] then
        if text.partial then got[#got + 1] = text.partial end
        -- Nothing has been taken; something has to be, to get on.
        limited = text.kind == "LimitOverrunError"
      elseif not errors.is(text, "Cancelled") then
        error(text, 0)
      end
    end
  end
  local readers = {}
  for i = 1, 3 do readers[i] = async.spawn(reader) end
  local canceller = async.spawn(function()
    while not at_end do
      readers[random(3)]:cancel()
      for _ = 1, random(3) do async.sleep(0) end
    end
  end)
  -- Who is cancelled just before it returns ends cancelled; any other error counts.
  for _, task in ipairs { writer, canceller, readers[1], readers[2], readers[3] } do
    async.wait { task }
    if not task:cancelled() and task:error() then error(task:error(), 0) end
  end
  sent, got = table.concat(sent), table.concat(got)
  -- A line that the end has cut off got an end of its own here.
  if #got == #sent + 1 then got = got:sub(1, -2) end
  test.eq(got, sent, "seed " .. seed)
  near:close()
  far:close()
end

test("random reads, cancelled at random, lose and repeat nothing", { limit = 3 }, function()
  for seed = 1, math.ceil(200 * math.min(test.SCALE, 1)) do run(seed) end
end)
