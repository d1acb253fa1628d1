local json, test = require "rille.json", require "support.test"

local random = math.random
local SCALE = tonumber(os.getenv "RILLE_TEST_SCALE") or 1

local function random_string()
  local parts = {}
  for i = 1, random(0, 12) do
    local kind = random(8)
    if kind == 1 then
      parts[i] = string.char(random(0, 31))
    elseif kind == 2 then
      parts[i] = ({ '"', "\\", "/", "\127", "é", "€", "😀", "\0" })[random(8)]
    else
      parts[i] = ("abcdefghijklmnop qrstuvwxyz"):sub(random(10), random(10, 26))
    end
  end
  return table.concat(parts)
end

local function random_number()
  local kind = random(5)
  if kind == 1 then return random(-10, 10) end
  if kind == 2 then return random(-2 ^ 53, 2 ^ 53) end
  if kind == 3 then return (random() - 0.5) * 10 ^ random(-320, 300) end
  if kind == 4 then return -0.0 end
  return random(-1e6, 1e6) / 2 ^ random(0, 20)
end

local function random_value(depth)
  local kind = random(depth > 0 and 9 or 6)
  if kind == 1 then return json.null end
  if kind == 2 then return random(2) == 1 end
  if kind == 3 then return (random(2) * 2 - 3) * (2LL ^ 54LL + random(0, 2 ^ 40)) end
  if kind == 4 then return random_number() end
  if kind <= 6 then return random_string() end
  local t = {}
  if kind <= 8 then
    for i = 1, random(0, 6) do t[i] = random_value(depth - 1) end
    return json.array(t)
  end
  for _ = 1, random(0, 6) do t[random_string()] = random_value(depth - 1) end
  return t
end

local function same(a, b, path)
  if type(a) ~= type(b) then error(path .. ": " .. type(a) .. " became " .. type(b)) end
  if type(a) ~= "table" then
    if a ~= b or (a == 0 and 1 / a ~= 1 / b) then
      error(("%s: %s became %s"):format(path, tostring(a), tostring(b)))
    end
    return
  end
  for key, value in pairs(a) do same(value, b[key], path .. "/" .. tostring(key)) end
  for key in pairs(b) do assert(a[key] ~= nil, path) end
end

test("what is encoded and decoded again is the same, at random", { limit = 2 }, function()
  math.randomseed(42)
  for i = 1, 3000 * SCALE do
    local value = random_value(6)
    local options = ({ false, { indent = 2 }, { sort_keys = true }, { indent = "\t",
      sort_keys = true } })[i % 4 + 1] or nil
    local text = json.encode(value, options)
    local back = json.decode(text)
    if not (type(value) == "cdata" or type(back) == "cdata") then same(value, back, "$") end
    local sorted = json.encode(value, { sort_keys = true })
    test.eq(json.encode(back, { sort_keys = true }), sorted)
  end
end)

-- Python prints what it has read: each number as the 16 hexadecimal digits of the double or the
-- integer's own, each string in hexadecimal, so that nothing is lost on the way back.
local PRINTER = [[
import json, random, struct, sys
out, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random.seed(seed)

def text():
    pool = ['a', 'b', ' ', '"', '\\', '/', '\n', '\t', '\x00', '\x1f', '\x7f', '\u00e9', '\u20ac',
            '\U0001f600', '\u2028', '\ufffe', 'key', 'value' * 5]
    return ''.join(random.choice(pool) for _ in range(random.randint(0, 20)))

def number():
    kind = random.randint(0, 5)
    if kind == 0: return random.randint(-100, 100)
    if kind == 1: return random.randint(-2**63, 2**64 - 1)
    if kind == 2: return random.choice([2**53, 2**53 + 1, -2**53 - 1, 2**63, 2**64 - 1, -2**63, 0])
    if kind == 3: return random.uniform(-1e3, 1e3)
    if kind == 4: return random.choice([-0.0, 5e-324, 1.7976931348623157e308, 1e-310])
    while True:
        d = struct.unpack('<d', random.getrandbits(64).to_bytes(8, 'little'))[0]
        if d == d and abs(d) != float('inf'): return d

def value(depth):
    kind = random.randint(0, 8 if depth > 0 else 5)
    if kind == 0: return None
    if kind == 1: return random.random() < 0.5
    if kind <= 3: return number()
    if kind <= 5: return text()
    if kind <= 7: return [value(depth - 1) for _ in range(random.randint(0, 6))]
    return {text(): value(depth - 1) for _ in range(random.randint(0, 6))}

def shown(v):
    if v is None: return 'null'
    if v is True: return 'true'
    if v is False: return 'false'
    if isinstance(v, int) and abs(v) > 2**53: return 'i' + str(v)
    if isinstance(v, (int, float)): return 'd' + struct.pack('>d', float(v)).hex()
    if isinstance(v, str): return 's' + v.encode('utf-8').hex()
    if isinstance(v, list): return '[' + ','.join(map(shown, v)) + ']'
    return '{' + ','.join(sorted(shown(k) + ':' + shown(x) for k, x in v.items())) + '}'

with open(out, 'w', encoding='utf-8', newline='\n') as f:
    for i in range(count):
        v = value(5)
        t = json.dumps(v, ensure_ascii=random.random() < 0.5,
                       separators=random.choice([(',', ':'), (', ', ': ')]))
        assert '\n' not in t
        f.write(t + '\n' + shown(json.loads(t)) + '\n')
]]

local function hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local ffi = require "ffi"
local box = ffi.new "union { double d; uint8_t b[8]; }"

local function shown(v)
  if v == json.null then return "null" end
  if type(v) == "boolean" then return tostring(v) end
  if type(v) == "cdata" then return "i" .. tostring(v):gsub("U?LL$", "") end
  if type(v) == "string" then return "s" .. hex(v) end
  if type(v) == "number" then
    box.d = v
    local digits = {}
    for i = 7, 0, -1 do digits[#digits + 1] = ("%02x"):format(box.b[i]) end
    return "d" .. table.concat(digits)
  end
  local parts = {}
  if json.encode(v):sub(1, 1) == "[" then
    for i = 1, #v do parts[i] = shown(v[i]) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for key, value in pairs(v) do parts[#parts + 1] = shown(key) .. ":" .. shown(value) end
  table.sort(parts)
  return "{" .. table.concat(parts, ",") .. "}"
end

test("random documents of Python's are decoded as Python does, and encoded so that it agrees",
  { limit = 3 }, function()
    local dir = test.tmpdir()
    test.write(dir .. "/make.py", PRINTER)
    local count = math.floor(2000 * SCALE)
    assert(os.execute(("python3 %s/make.py %s/documents 7 %d"):format(dir, dir, count)) == 0)
    local ours, n = {}, 0
    local lines = io.lines(dir .. "/documents")
    for text in lines do
      local want = lines()
      local value = json.decode(text)
      local got = shown(value)
      if got ~= want then error(("%s\n  is    %s\n  should be %s"):format(text, got, want)) end
      n = n + 1
      ours[n] = json.encode(value)
    end
    test.eq(n, count)
    -- Python reads what we write as the same values.
    test.write(dir .. "/ours", table.concat(ours, "\n") .. "\n")
    test.write(dir .. "/compare.py", [[
import json, sys
theirs = open(sys.argv[1], encoding='utf-8', newline='\n').read().split('\n')[0:-1:2]
ours = open(sys.argv[2], encoding='utf-8', newline='\n').read().split('\n')[:-1]
assert len(theirs) == len(ours)
for a, b in zip(theirs, ours):
    assert json.loads(a) == json.loads(b), (a, b)
]])
    assert(os.execute(("python3 %s/compare.py %s/documents %s/ours"):format(dir, dir, dir)) == 0)
  end)
