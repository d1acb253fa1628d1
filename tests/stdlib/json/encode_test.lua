local json, test = require "rille.json", require "support.test"
local ffi = require "ffi"

local encode = json.encode

-- fn(value) fails with a JSONError at `path` whose message has `part`.
local function refused(path, part, value, options)
  local err = test.raises("JSONError", encode, value, options)
  test.eq(err.path, path)
  test.contains(err.message, part)
  return err
end

test("simple values are encoded", function()
  test.eq(encode(true), "true")
  test.eq(encode(false), "false")
  test.eq(encode(json.null), "null")
  test.eq(encode "text", '"text"')
  test.eq(encode { 1, "a", true, json.null, { 2 } }, '[1,"a",true,null,[2]]')
  test.eq(encode { a = { b = { 1 } } }, '{"a":{"b":[1]}}')
end)

test("integers are written as integers, other numbers in as few digits as read back the same",
  function()
    for want, n in pairs {
      ["0"] = 0, ["-0"] = -0.0, ["1"] = 1, ["-1"] = -1, ["100"] = 1e2, ["1000000000000000"] = 1e15,
      ["9007199254740992"] = 2 ^ 53, ["-9007199254740992"] = -2 ^ 53, ["0.1"] = 0.1, ["1.5"] = 1.5,
      ["0.30000000000000004"] = 0.1 + 0.2, ["1e+20"] = 1e20, ["1e-07"] = 1e-7, ["5e-324"] = 5e-324,
      ["1.7976931348623157e+308"] = 1.7976931348623157e308, ["3.141592653589793"] = math.pi,
      ["123456.789"] = 123456.789,
    } do
      test.eq(encode(n), want)
      test.eq(encode { n }, "[" .. want .. "]")
    end
  end)

test("every finite number is decoded to what was encoded, and is a number again", function()
  math.randomseed(7)
  local buffer = ffi.new("union { uint32_t i[2]; double d; }")
  local list = { 2 ^ 53 + 2, 2 ^ 60, 2 ^ 63, 2 ^ 64, 1e16, -2 ^ 62, 2 ^ 1023, 2 ^ -1074 }
  while #list < 20000 do
    -- Neither NaN nor infinite: Lua must not get to see the bits of any NaN.
    local low, high = math.random(0, 2 ^ 32 - 1), math.random(0, 2 ^ 32 - 1)
    if bit.band(high, 0x7FF00000) ~= 0x7FF00000 then
      buffer.i[0], buffer.i[1] = low, high
      list[#list + 1] = buffer.d
    end
    list[#list + 1] = math.random(-2 ^ 53, 2 ^ 53)
    list[#list + 1] = math.random(-1e9, 1e9) / 10 ^ math.random(0, 12)
  end
  local got = json.decode(encode(list))
  for i, n in ipairs(list) do
    if got[i] ~= n or type(got[i]) ~= "number" then
      error(("%.17g became %s"):format(n, tostring(got[i])))
    end
  end
end)

test("int64_t and uint64_t are written exactly", function()
  for _, text in ipairs { "9007199254740993", "-9007199254740993", "9223372036854775807",
    "-9223372036854775808", "18446744073709551615", "9223372036854775808" } do
    test.eq(encode(json.decode(text)), text)
    test.eq(encode { a = { json.decode(text) } }, '{"a":[' .. text .. "]}")
  end
  test.eq(encode { 5LL, 7ULL, -1LL }, "[5,7,-1]")
  refused("$[2]", "cdata", { 1, ffi.new "int32_t[2]" })
  refused("$.x", "cdata", { x = 1i })
  refused("$", "cdata", ffi.new "uint8_t")
end)

test("strings are escaped where they have to be", function()
  test.eq(encode '"\\/\b\f\n\r\t', [["\"\\/\b\f\n\r\t"]])
  test.eq(encode "\0\1\31\127", '"\\u0000\\u0001\\u001f\127"')
  test.eq(encode "é€😀\226\128\168", '"é€😀\226\128\168"')
  test.eq(encode { ["a\"\n"] = "x" }, '{"a\\"\\n":"x"}')
  for code = 0, 127 do
    local c = string.char(code)
    test.eq(json.decode(encode(c)), c)
  end
end)

test("what has to be escaped is found at every place of strings of every length", function()
  for length = 0, 70 do
    local plain = ("x"):rep(length)
    test.eq(encode(plain), '"' .. plain .. '"')
    for at = 0, length do
      local before, after = ("x"):rep(at), ("y"):rep(length - at)
      test.eq(encode(before .. "\"" .. after), '"' .. before .. '\\"' .. after .. '"')
      test.eq(encode(before .. "é" .. after), '"' .. before .. 'é' .. after .. '"')
      refused("$", "UTF-8", before .. "\255" .. after)
    end
  end
  local many = ("\1"):rep(100000)
  test.eq(json.decode(encode(many)), many)
end)

test("strings and keys that are not UTF-8 are refused, with their path", function()
  for _, bytes in ipairs { "\128", "\191", "\192\128", "\193\191", "\194", "\194\65",
    "\224\128\128", "\224\159\191", "\226\130", "\237\160\128", "\237\191\191", "\240\143\191\191",
    "\244\144\128\128", "\245\128\128\128", "\254", "\240\159\152" } do
    refused("$.a[2]", "UTF-8", { a = { "é", "x" .. bytes .. "y" } })
    refused("$.a[2]", "UTF-8", { a = { "é", ("x"):rep(40) .. bytes } })
    local err = test.raises("JSONError", encode, { [bytes] = 1 })
    test.contains(err.message, "UTF-8")
    test.contains(err.path, "\\x")
    test.raises("JSONError", json.decode, '"' .. bytes .. '"')
  end
end)

test("an empty table is an object, a marked one is what it is marked as", function()
  test.eq(encode {}, "{}")
  test.eq(encode(json.array {}), "[]")
  test.eq(encode(json.object {}), "{}")
  test.eq(encode { a = {}, }, '{"a":{}}')
  test.eq(encode(json.object(json.array {})), "{}")
  test.eq(encode(json.array(json.object {})), "[]")
end)

test("what was decoded from an array is encoded as one, even when it is emptied", function()
  for _, text in ipairs { "[]", "{}", "[[],{}]", '{"a":[],"b":{}}', "[1]" } do
    test.eq(encode(json.decode(text), { sort_keys = true }), text)
  end
  local list = json.decode '["a"]'
  table.remove(list)
  test.eq(encode(list), "[]")
  table.insert(list, "b")
  test.eq(encode(list), '["b"]')
  list = json.decode "[]"
  list[1] = {}
  test.eq(encode(list), "[{}]")
end)

test("array and object return the very table and leave a script's metatable alone", function()
  local t, meta = {}, { __index = { x = 1 }, __metatable = "locked" }
  assert(rawequal(json.array(t), t))
  assert(rawequal(json.object(t), t))
  local mine = setmetatable({}, meta)
  assert(rawequal(json.array(mine), mine))
  assert(rawequal(debug.getmetatable(mine), meta))
  test.eq(mine.x, 1)
  test.eq(encode(mine), "[]")
  test.eq(encode(json.object(mine)), "{}")
  test.eq(encode(setmetatable({}, {})), "{}")
  test.eq(next(t), nil)
end)

test("metatables do not change what is written", function()
  local asked = function() error "asked" end
  local meta = { __index = asked, __newindex = asked, __len = asked, __pairs = asked,
    __ipairs = asked, __tostring = asked, __call = asked, __eq = asked, __metatable = false }
  test.eq(encode(setmetatable({ 1, 2 }, meta)), "[1,2]")
  test.eq(encode(setmetatable({ a = 1 }, meta), { sort_keys = true }), '{"a":1}')
end)

test("keys 1 to n make an array, in whatever order they came", function()
  local reversed = {}
  for i = 50, 1, -1 do reversed[i] = i end
  local wanted = {}
  for i = 1, 50 do wanted[i] = i end
  test.eq(encode(reversed), "[" .. table.concat(wanted, ",") .. "]")
  local mixed = { a = 1, b = 2, c = 3, d = 4 }
  mixed[2], mixed[1], mixed.a, mixed.b, mixed.c, mixed.d = "y", "x", nil, nil, nil, nil
  test.eq(encode(mixed), '["x","y"]')
  test.eq(encode { { [2] = {}, [1] = { { [2] = 2, [1] = 1 } } } }, "[[[[1,2]],{}]]")
end)

test("holes and mixed keys are errors that name the key", function()
  refused("$", "key 3, but not 2", { 1, nil, 3 })
  refused("$.a", "key 2, but not 1", { a = { [2] = 1 } })
  refused("$[2]", 'key "x"', { 1, { 1, 2, x = 3 } })
  refused("$", 'key "n"', { 1, 2, n = 2 })
  refused("$", "key 7", { x = 1, y = 2, [7] = 3 })
  refused("$", "key 7", { x = 1, y = 2, [7] = 3 }, { sort_keys = true })
  refused("$", "key 1.5", { [1.5] = 1 })
  refused("$", "key 0", { [0] = 1 })
  refused("$", "key -1", { 1, 2, [-1] = 1 })
  refused("$.t", "key true", { t = { [true] = 1 } })
  refused("$", "table", { [{}] = 1 })
  refused("$", "inf", { [math.huge] = 1 })
  refused("$", "key 1", { x = 1, [1] = 3 }, { sort_keys = true })
end)

test("a marked array is as long as n says, else as its largest key; nil is null", function()
  test.eq(encode(json.array { 1, nil, 3 }), "[1,null,3]")
  test.eq(encode(json.array { n = 3 }), "[null,null,null]")
  test.eq(encode(json.array { 1, nil, nil, n = 3 }), "[1,null,null]")
  test.eq(encode(json.array { 1, 2, 3, n = 2 }), "[1,2]")
  test.eq(encode(json.array { n = 0 }), "[]")
  test.eq(encode(json.array { [3] = "c" }), '[null,null,"c"]')
  test.eq(encode(json.array { nil, { nil, n = 1 }, n = 2 }):sub(1, 6), "[null,")
  refused("$", 'key "x"', json.array { 1, x = 2 })
  refused("$", "key 1.5", json.array { [1.5] = 2 })
  refused("$", 'key "n"', json.array { 1, n = "2" })
  refused("$", "-1", json.array { n = -1 })
  refused("$", "1.5", json.array { n = 1.5 })
  refused("$", "1000000000", json.array { [1e9] = 1 })
end)

test("a marked object writes keys that are numbers as strings", function()
  test.eq(encode(json.object { "a", "b" }, { sort_keys = true }), '{"1":"a","2":"b"}')
  test.eq(encode(json.object { "a" }), '{"1":"a"}')
  test.eq(encode(json.object { [1.5] = 1, [-2] = 2, x = 3 }, { sort_keys = true }),
    '{"-2":2,"1.5":1,"x":3}')
  refused("$", "key true", json.object { [true] = 1 })
  refused("$", "key 1 ", json.object { [1] = 1, ["1"] = 2 })
  refused("$[5].x", "function", json.object { [5] = { x = print } })
  refused("$[5]", "function", json.object { [5] = print }, { sort_keys = true })
  refused("$", "infinite", json.object { [1 / 0] = 1 })
end)

test("a table within itself is an error with its path, one that stands twice is not", function()
  local t = { list = { 1 } }
  t.list[2] = { back = t.list }
  refused("$.list[2].back", "contains itself", t)
  local self = {}
  self[1] = self
  refused("$[1]", "contains itself", self)
  local shared = { 1 }
  test.eq(encode { shared, shared, { shared } }, "[[1],[1],[[1]]]")
  -- Longer than any look back goes: the depth ends it.
  local first = {}
  local last = first
  for _ = 1, 5000 do
    last.next = {}
    last = last.next
  end
  last.next = first
  test.raises("JSONError", encode, first, { depth = 20000 })
end)

test("what JSON has no place for is an error with its path", function()
  refused("$.users[3].name", "function", { users = { {}, {}, { name = print } } })
  refused("$", "NaN", 0 / 0)
  refused("$[1]", "infinite", { 1 / 0 })
  refused("$[1]", "infinite", { -1 / 0 })
  refused("$.t", "thread", { t = coroutine.create(print) })
  refused("$.u", "userdata", { u = io.stdout })
  refused("$.u", "userdata", { u = newproxy() })
  refused('$["a b"]["1x"]._y2', "function", { ["a b"] = { ["1x"] = { _y2 = print } } })
  refused('$["\\"\\\\\\x0A"]', "function", { ["\"\\\n"] = print })
  refused("$.a.b", "function", { a = { b = print } }, { sort_keys = true })
  local err = refused("$.a[1]", "function", { a = { print } })
  test.eq(tostring(err), "JSONError: cannot encode a function at $.a[1]")
end)

test("encode(nil) is a bad argument", function()
  test.blames_caller("bad argument #1 to 'encode'", function() encode(nil) end)
  test.blames_caller("bad argument #1 to 'encode'", function() encode() end)
  test.blames_caller("unknown option 'pretty'", function() encode(1, { pretty = true }) end)
  test.blames_caller("'indent' to 'encode'", function() encode(1, { indent = "--" }) end)
  test.blames_caller("'indent' to 'encode'", function() encode(1, { indent = -1 }) end)
  test.blames_caller("'indent' to 'encode'", function() encode(1, { indent = true }) end)
  test.blames_caller("'depth' to 'encode'", function() encode(1, { depth = 0.5 }) end)
  test.blames_caller("bad argument #1 to 'array' (table expected", function() json.array() end)
  test.blames_caller("bad argument #1 to 'object' (table expected", function() json.object(1) end)
end)

test("indent puts each item on a line of its own", function()
  local value = { a = { 1, { b = json.array {} } }, c = {} }
  test.eq(encode(value, { indent = 2, sort_keys = true }), [[
{
  "a": [
    1,
    {
      "b": []
    }
  ],
  "c": {}
}]])
  test.eq(encode({ { 1 } }, { indent = "\t" }), "[\n\t[\n\t\t1\n\t]\n]")
  test.eq(encode({ 1 }, { indent = 0 }), "[\n1\n]")
  test.eq(encode({}, { indent = 2 }), "{}")
  test.eq(encode(5, { indent = 2 }), "5")
  test.eq(encode({ [2] = 2, [1] = 1 }, { indent = 1 }), "[\n 1,\n 2\n]")
  test.eq(encode(json.array { 1, n = 2 }, { indent = 1 }), "[\n 1,\n null\n]")
end)

test("sort_keys writes keys in the order of their bytes", function()
  test.eq(encode({ b = 1, a = 2, B = 3, [""] = 4, ["é"] = 5, aa = { z = 1, y = { x = 1, w = 2 } } },
    { sort_keys = true }), '{"":4,"B":3,"a":2,"aa":{"y":{"w":2,"x":1},"z":1},"b":1,"é":5}')
  test.eq(encode({ { b = 1, a = 2 }, { d = 1, c = 2 } }, { sort_keys = true }),
    '[{"a":2,"b":1},{"c":2,"d":1}]')
  test.eq(encode({ a = 1 }, { sort_keys = false }), '{"a":1}')
end)

test("depth is 1000 unless said otherwise, and stacks do not overflow beyond", function()
  local function nested(n)
    local value = 1
    for i = 1, n do value = i % 2 == 0 and { value } or { a = value, b = 2 } end
    return value
  end
  encode(nested(1000))
  local err = test.raises("JSONError", encode, nested(1001))
  test.contains(err.message, "1000")
  assert(#err.message < 500)
  for _, sort_keys in ipairs { true, false } do
    local options = { depth = 30000, sort_keys = sort_keys }
    for _, n in ipairs { 1499, 1500, 1501, 1502, 30000 } do
      local value = json.decode(encode(nested(n), options), { depth = n })
      for i = n, 1, -1 do
        if i % 2 == 0 then value = value[1] else test.eq(value.b, 2) value = value.a end
      end
      test.eq(value, 1)
    end
  end
  local path = test.raises("JSONError", encode, { x = nested(2000) }, { depth = 1500 }).path
  local parts = select(2, path:gsub("[%.%[]", ""))
  test.eq(parts, 1500)
end)

test("a text of 20 MB is encoded and comes back", { limit = 4 }, function()
  local list = {}
  for i = 1, 200 do list[i] = ("x\n"):rep(25000) .. i end
  local text = encode(list)
  assert(#text > 15000000)
  test.eq(json.decode(text), list)
end)
