local json, test = require "rille.json", require "support.test"
local ffi = require "ffi"

local decode = json.decode

local function is_negative_zero(n) return n == 0 and 1 / n < 0 end

test("literals and null are decoded", function()
  test.eq(decode "true", true)
  test.eq(decode "false", false)
  assert(rawequal(decode "null", json.null))
  test.eq(type(json.null), "userdata")
  test.eq({ decode " [ true , false ,\tnull\r\n] " }, { { true, false, json.null } })
end)

test("every kind of white space may stand between tokens, and none else", function()
  local spaced = (' { "a" : [ 1 , 2 ] } '):gsub(" ", " \t\r\n")
  test.eq(decode(spaced), { a = { 1, 2 } })
  for _, space in ipairs { "\f", "\v", "\0", "\194\160", "\226\128\168" } do
    test.raises("JSONError", decode, "[1," .. space .. "2]")
    test.raises("JSONError", decode, space .. "1")
    test.raises("JSONError", decode, "1" .. space)
  end
end)

test("numbers are decoded to the nearest double", function()
  for text, want in pairs {
    ["0"] = 0, ["10"] = 10, ["-1"] = -1, ["1.5"] = 1.5, ["-1.5e3"] = -1500, ["1E+2"] = 100,
    ["1e-2"] = 0.01, ["0e10"] = 0, ["0.0"] = 0, ["123456789012345"] = 123456789012345,
    ["0.1"] = 0.1, ["3.141592653589793238462643383279"] = math.pi,
    ["1.7976931348623157e308"] = 1.7976931348623157e308, ["5e-324"] = 5e-324,
    ["2.2250738585072014e-308"] = 2.2250738585072014e-308,
    ["2.2250738585072011e-308"] = 2.2250738585072011e-308,
    ["9007199254740993.0"] = 9007199254740992, ["9007199254740992e3"] = 9007199254740992e3,
    ["1e22"] = 1e22, ["1e23"] = 1e23, ["8.41e+21"] = 8.41e21, ["1e-400"] = 0, ["0e999999999"] = 0,
    ["0." .. ("0"):rep(400) .. "1e401"] = 1, ["1" .. ("0"):rep(300) .. "e-300"] = 1,
    ["123456789012345678901234567890e-20"] = 1234567890.1234567890,
    ["0." .. ("0"):rep(1000) .. "1"] = 0, ["1e-99999999999999999999"] = 0,
    ["1.00000000000000011102230246251565"] = 1,
    ["1.00000000000000011102230246251566"] = 1.0000000000000002,
  } do
    local got = decode(text)
    test.eq(type(got), "number", text)
    test.eq(got, want, text)
    test.eq(decode("[" .. text .. "]")[1], want, text)
    if want ~= 0 and text:sub(1, 1) ~= "-" then test.eq(decode("-" .. text), -want, text) end
  end
end)

test("minus zero keeps its sign", function()
  for _, text in ipairs { "-0", "-0.0", "-0e1", "-1e-400", "[-0]", '{"a":-0}' } do
    local got = decode(text)
    if type(got) == "table" then got = got[1] or got.a end
    assert(is_negative_zero(got), text)
  end
  assert(not is_negative_zero(decode "0"))
end)

test("integers up to 2^53 are numbers, those beyond come as int64_t and uint64_t", function()
  for text, want in pairs {
    ["9007199254740992"] = 2 ^ 53, ["-9007199254740992"] = -2 ^ 53,
    ["9007199254740991"] = 2 ^ 53 - 1,
  } do
    test.eq(type(decode(text)), "number")
    test.eq(decode(text), want)
  end
  for text, want in pairs {
    ["9007199254740993"] = 9007199254740993LL, ["-9007199254740993"] = -9007199254740993LL,
    ["9223372036854775807"] = 9223372036854775807LL,
    ["-9223372036854775808"] = -9223372036854775807LL - 1LL,
    ["9007199254740994"] = 9007199254740994LL, ["1000000000000000000"] = 1000000000000000000LL,
    ["4611686018427387904"] = 4611686018427387904LL, ["-9007203549708288"] = -9007203549708288LL,
    ["9223372032559808512"] = 9223372032559808512LL,
  } do
    local got = decode(text)
    assert(ffi.istype("int64_t", got), text)
    assert(got == want, text)
    assert(decode('{"a":[' .. text .. "]}").a[1] == want)
  end
  for text, want in pairs {
    ["9223372036854775808"] = 9223372036854775808ULL,
    ["18446744073709551615"] = 18446744073709551615ULL,
    ["9999999999999999999"] = 9999999999999999999ULL,
    ["18446744069414584320"] = 18446744069414584320ULL,
  } do
    local got = decode(text)
    assert(ffi.istype("uint64_t", got), text)
    assert(got == want, text)
  end
end)

test("numbers beyond 64 bits or a double's range are errors, or what 'big' says", function()
  for text, want in pairs {
    ["18446744073709551616"] = 18446744073709551616,
    ["-9223372036854775809"] = -9223372036854775809,
    ["123456789012345678901234567890"] = 123456789012345678901234567890,
    ["1e309"] = math.huge, ["-1e309"] = -math.huge, ["1e99999999999999999999"] = math.huge,
    ["1.8e308"] = math.huge, [("9"):rep(400)] = math.huge,
    ["-" .. ("9"):rep(400) .. ".5"] = -math.huge,
  } do
    local err = test.raises("JSONError", decode, "[1, " .. text .. "]")
    test.eq({ err.line, err.column, err.position }, { 1, 5, 5 })
    test.eq(decode(text, { big = "double" }), want)
    test.eq(decode("[1, " .. text .. "]", { big = "string" }), { 1, text })
  end
  assert(ffi.istype("int64_t", decode("9007199254740993", { big = "string" })))
end)

test("strings are decoded, with every escape", function()
  for text, want in pairs {
    [""] = "", ["a"] = "a", ["\\\"\\\\\\/\\b\\f\\n\\r\\t"] = "\"\\/\b\f\n\r\t",
    ["\\u0000"] = "\0", ["a\\u0000b"] = "a\0b", ["\\u00e9"] = "é", ["\\u20AC"] = "€",
    ["\\ud83d\\ude00"] = "😀", ["\\uD834\\uDD1E!"] = "𝄞!", ["\\uFFFF"] = "\239\191\191",
    ["\\udbff\\udfff"] = "\244\143\191\191", ["\\u007f"] = "\127", ["\\u0080"] = "\194\128",
    ["\\u07ff\\u0800"] = "\223\191\224\160\128", ["é€😀"] = "é€😀", ["\127"] = "\127",
    ["\\\\\\\\"] = "\\\\", ["\\\\u0041"] = "\\u0041", ["/"] = "/",
    ["0123456789abcdef0123456789abcdef\\n0123456789abcdef"] =
      "0123456789abcdef0123456789abcdef\n0123456789abcdef",
  } do
    test.eq(decode('"' .. text .. '"'), want)
    test.eq(decode('{"' .. text .. '" :["' .. text .. '" , "x"]}'), { [want] = { want, "x" } })
  end
end)

test("escapes at every place of strings of every length are found", function()
  for length = 0, 70 do
    for at = 0, length, 7 do
      local before, after = ("x"):rep(at), ("y"):rep(length - at)
      test.eq(decode('["' .. before .. '","' .. before .. "\\n" .. after .. '","' .. after .. '"]'),
        { before, before .. "\n" .. after, after })
    end
  end
end)

test("arrays and objects nest, and keep what is in them", function()
  test.eq(decode '{"a":{"b":[[],[[]],{}]},"":1,"n":null,"1":2}',
    { a = { b = { {}, { {} }, {} } }, [""] = 1, n = json.null, ["1"] = 2 })
  test.eq(decode "[]", {})
  test.eq(decode "{}", {})
end)

test("of keys that stand twice the last counts", function()
  test.eq(decode '{"a":1,"b":2,"a":3}', { a = 3, b = 2 })
  test.eq(decode '{"a":1,"\\u0061":{"a":[]},"a":null}', { a = json.null })
end)

test("depth is 1000 unless said otherwise", function()
  local function nested(n) return ("["):rep(n) .. ("]"):rep(n) end
  local function objects(n) return ('{"a":'):rep(n) .. "1" .. ("}"):rep(n) end
  decode(nested(1000))
  decode(objects(1000))
  local err = test.raises("JSONError", decode, nested(1001))
  test.eq({ err.line, err.column, err.position }, { 1, 1001, 1001 })
  test.contains(err.message, "1000")
  test.raises("JSONError", decode, objects(1001))
  decode(nested(2), { depth = 2 })
  test.eq(test.raises("JSONError", decode, '[1,{"a":{}}]', { depth = 2 }).column, 9)
  decode("1", { depth = 1 })
end)

test("100000 levels neither overflow a stack nor get lost", function()
  local n = 100000
  local text = ('{"a":[1,'):rep(n) .. "true" .. (',2],"b":3}'):rep(n)
  local value = decode(text, { depth = 2 * n })
  for _ = 1, n do
    test.eq(value.b, 3)
    value = value.a
    test.eq({ value[1], value[3], #value }, { 1, 2, 3 })
    value = value[2]
  end
  test.eq(value, true)
  test.raises("JSONError", decode, ("["):rep(1e6))
  test.raises("JSONError", decode, ("["):rep(1e6), { depth = 1e7 })
  test.raises("JSONError", decode, ('{"a":'):rep(1e6), { depth = 1e7 })
end)

test("items on both sides of the depth that the stack holds are in place", function()
  for n = 1495, 1505 do
    local parts, close = {}, {}
    for i = 1, n do
      local object = i % 3 == 0
      parts[i] = object and ('{"x":%d,"v":'):format(i) or ("[%d,"):format(i)
      close[n - i + 1] = object and (',"y":%d}'):format(-i) or (",%d]"):format(-i)
    end
    local value = decode(table.concat(parts) .. "[[],{}]" .. table.concat(close), { depth = 2000 })
    for i = 1, n do
      if i % 3 == 0 then
        assert(value.x == i and value.y == -i)
        value = value.v
      else
        assert(value[1] == i and value[3] == -i)
        value = value[2]
      end
    end
    test.eq(value, { {}, {} })
  end
end)

test("decode takes a string, and options that it knows", function()
  test.blames_caller("bad argument #1 to 'decode' (string expected, got nil)",
    function() decode(nil) end)
  test.blames_caller("bad argument #1 to 'decode' (string expected, got table)",
    function() decode {} end)
  test.blames_caller("'big' to 'decode'", function() decode("1", { big = "int" }) end)
  test.blames_caller("unknown option 'bigint'", function() decode("1", { bigint = "double" }) end)
  test.blames_caller("'depth' to 'decode'", function() decode("1", { depth = 0 }) end)
  test.eq(decode("1", { depth = math.huge }), 1)
  test.eq(decode(12), 12)
end)

test("a large text is decoded", { limit = 4 }, function()
  local part = '{"id":12345678,"name":"some name","tags":["a","b"],"score":1.25,"ok":true}'
  local text = "[" .. (part .. ","):rep(100000) .. part .. "]"
  local value = decode(text)
  test.eq(#value, 100001)
  test.eq(value[100001], value[1])
  test.eq(json.encode(value, { sort_keys = true }), json.encode(decode(text), { sort_keys = true }))
end)

test("a finalizer may decode and encode while the collector runs in a decode", function()
  local runs = 0
  local function litter()
    local proxy = newproxy(true)
    getmetatable(proxy).__gc = function()
      runs = runs + 1
      assert(json.encode(decode '{"x":[1,"\\n",{}]}') == '{"x":[1,"\\n",{}]}')
    end
  end
  local text = "[" .. ('{"a":["\\t",1.5]},'):rep(20000) .. "1]"
  for _ = 1, 5 do
    for _ = 1, 100 do litter() end
    local value = decode(text)
    test.eq(#value, 20001)
    test.eq(value[20000], { a = { "\t", 1.5 } })
  end
  collectgarbage()
  assert(runs > 0)
end)

test("a finalizer may decode when the program ends, whatever has been closed by then", function()
  local run = test.script([[
    local json = require "rille.json"
    for i = 1, 20 do
      local proxy = newproxy(true)
      getmetatable(proxy).__gc = function() assert(json.encode(json.decode "[1]") == "[1]") end
      _G["kept" .. i] = proxy
    end
    print(json.encode(json.decode '{"a":1}'))
  ]])
  test.eq({ run.code, run.stdout, run.stderr }, { 0, '{"a":1}\n', "" })
end)
