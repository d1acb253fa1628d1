local json, errors, test = require "rille.json", require "rille.errors", require "support.test"

local decode = json.decode

test("an error of decoding tells line, column and position of what is wrong", function()
  local err = test.raises("JSONError", decode, '{\n  "a": 1,\n  "b": x\n}')
  test.eq({ err.line, err.column, err.position }, { 3, 8, 20 })
  test.eq(tostring(err), "JSONError: expected a value, got 'x' at line 3, column 8")
  test.eq(errors.is(err, "JSONError"), true)
  test.contains(err.traceback, "error_test.lua")
end)

-- Text, position, and a part of the message.
local FAULTS = {
  -- Texts that end too early: the end.
  { "", 1, "end of the text" }, { " \n ", 4, "end of the text" }, { "[", 2, "end" },
  { "{", 2, "end" }, { "[1", 3, "',' or ']'" }, { "[1,", 4, "a value" }, { '{"a"', 5, "':'" },
  { '{"a":', 6, "a value" }, { '{"a":1', 7, "',' or '}'" }, { '{"a":1,', 8, "a string" },
  { '"', 2, "ends in a string" }, { '["abc', 6, "line 1, column 2" }, { '"a\\', 4, "ends in" },
  { '"\\u12', 6, "ends in" }, { '"\\ud800', 8, "ends in" }, { '"\\ud800\\', 9, "ends in" },
  { '"\\ud800\\udc', 12, "ends in" }, { '{"a', 4, "ends in" }, { "[[[", 4, "end" },
  -- Something stands where it must not.
  { "[1,]", 4, "got ']'" }, { "[,1]", 2, "got ','" }, { "[1,,2]", 4, "got ','" }, { "[,]", 2, "" },
  { '{"a":1,}', 8, "got '}'" }, { "{,}", 2, "got ','" }, { '{"a" 1}', 6, "got '1'" },
  { '{"a"=1}', 5, "got '='" }, { '{"a"::1}', 6, "got ':'" }, { '{"a":1:2}', 7, "" },
  { "[1 2]", 4, "got '2'" }, { '["a" "b"]', 6, "" }, { '{"a":1 "b":2}', 8, "" },
  { "{1:2}", 2, "got '1'" }, { "{null:2}", 2, "null" }, { "{[]:1}", 2, "" }, { "{'a':1}", 2, "" },
  { "{a:1}", 2, "got 'a'" }, { "[1]]", 4, "the end of the text" }, { "1 2", 3, "got '2'" },
  { '"a"b', 4, "got 'b'" }, { '"a"1', 4, "" }, { '"a""b"', 4, "" }, { "[]{}", 3, "" },
  { "{}}", 3, "" },  { "]", 1, "" }, { "}", 1, "" }, { ",", 1, "" }, { ":", 1, "" },
  { "[}", 2, "" }, { "{]", 2, "" },
  { '{"a":1]', 7, "" }, { "[1}", 3, "" }, { "[1:2]", 3, "" }, { "[}]", 2, "" },
  { "[\\]", 2, "" },  { "// x\n1", 1, "" }, { "1/**/", 1, "" }, { "[1] # x", 5, "" },
  { "'a'", 1, "" }, { "`a`", 1, "" },
  -- Words and numbers that are none: where they begin.
  { "nul", 1, "'nul'" }, { "[nope]", 2, "'nope'" }, { "True", 1, "'True'" }, { "TRUE", 1, "" },
  { "truex", 1, "'truex'" }, { "nulll", 1, "" }, { "[true1]", 2, "" }, { "NaN", 1, "'NaN'" },
  { "[Infinity]", 2, "" }, { "-Infinity", 1, "" }, { "undefined", 1, "" }, { "nil", 1, "" },
  { "+1", 1, "got '+'" }, { ".5", 1, "got '.'" }, { "[1.]", 2, "'1.'" }, { "[-]", 2, "'-'" },
  { "01", 1, "'01'" }, { "[-01]", 2, "" }, { "00", 1, "" }, { "1e", 1, "" }, { "1e+", 1, "" },
  { "1.e1", 1, "" }, { "1.2.3", 1, "" }, { "1e1.5", 1, "" }, { "0x10", 1, "'0x10'" },
  { "1a", 1, "" },  { "--1", 1, "" }, { "- 1", 1, "" }, { "1_000", 1, "" }, { "[1,2e]", 4, "" },
  { "1true", 1, "" },
  { '1"a"', 1, "" }, { '[true"a"]', 2, "" }, { "[1[2]]", 3, "" }, { "\239\188\145", 1, "0xEF" },
  -- In strings: the very byte or escape.
  { '["a\nb"]', 4, "control character" }, { '"\t"', 2, "0x09" }, { '"ab\0c"', 4, "0x00" },
  { '"abcdefghijklmnopqrstuvwxyz\31"', 28, "control" }, { '["ok","\1"]', 8, "control" },
  { '"a\\qb"', 3, "escape" }, { '"\\x41"', 2, "escape" }, { "\"\\'\"", 2, "escape" },
  { '"\\U0041"', 2, "escape" }, { '"\\\n"', 2, "escape" }, { '"a\\u12"', 3, "four" },
  { '"\\u12G4"', 2, "four" }, { '"\\u-123"', 2, "four" }, { '"\\u 123"', 2, "four" },
  { '"x\\ud800"', 3, "surrogate" }, { '"\\ud800x"', 2, "surrogate" },
  { '"\\ud800\\n"', 2, "surrogate" }, { '"\\ud800\\u0041"', 2, "surrogate" },
  { '"\\ud800\\ud800"', 2, "surrogate" }, { '"xy\\udc00"', 4, "surrogate" },
  { '"\\udfff\\ud800"', 2, "surrogate" }, { '{"\\ud800":1}', 3, "surrogate" },
  { '"\255"', 2, "UTF-8" }, { '["é\128"]', 5, "UTF-8" }, { '"\192\175"', 2, "UTF-8" },
  { '"\237\160\128"', 2, "UTF-8" }, { '"a\244\144\128\128"', 3, "UTF-8" },
  { '"\226\130"', 2, "UTF-8" }, { '"\226\130', 2, "UTF-8" }, { '{"\254":1}', 3, "UTF-8" },
  { '"abcdefghijklmnopqrstuvwxyz0123456789é\200"', 40, "UTF-8" },
  -- What simdjson sees first is not always what stands first.
  { '[x, "\255"]', 2, "'x'" }, { '[1,] "a', 4, "" }, { '["\\q", "\1"]', 3, "escape" },
  { '["\255", "\1"]', 3, "UTF-8" }, { '["\1", "\255"]', 3, "control" },
  { "\255", 1, "0xFF" }, { "[\255]", 2, "0xFF" }, { "1\255", 1, "" },
  -- Others.
  { "\239\187\191{}", 1, "byte order mark" }, { "\239\187\191", 1, "byte order mark" },
  { "[\239\187\1911]", 2, "0xEF" }, { "\254\255\0[", 1, "" }, { "[\0\0]", 2, "0x00" },
  { "\0", 1, "" },  { "1\0", 1, "" }, { "[1]\0", 4, "0x00" }, { "\f1", 1, "0x0C" },
  { "[1\v]", 2, "" },
  { "[\194\160]", 2, "0xC2" }, { "*", 1, "" }, { "<a>", 1, "" }, { "[1\26\26]", 2, "" },
  { "[1, 99999999999999999999]", 5, "64 bits" }, { "[1e400]", 2, "range" },
  { "-99999999999999999999", 1, "64 bits" },
}

test("each fault is found at its place, whatever stands before and behind", function()
  for _, fault in ipairs(FAULTS) do
    local text, position, part = unpack(fault)
    local name = ("%q"):format(text)
    local ok, err = pcall(decode, text)
    if ok or not errors.is(err, "JSONError") then error(name .. ": " .. tostring(err)) end
    local lines = select(2, text:sub(1, position - 1):gsub("\n", "")) + 1
    test.eq({ err.line, err.position }, { lines, position }, name)
    test.contains(err.message, part)
    -- The same one line further down, and in the middle of something large.
    if text:sub(1, 3) ~= "\239\187\191" then
      local before = ("\n"):rep(50) .. "   "
      err = test.raises("JSONError", decode, before .. text)
      test.eq(err.position, position + #before, name)
      -- A bracket too many is not, there.
      local list = "[" .. ('"abc",\n'):rep(100)
      if text:find "^%s*$" == nil and text ~= "[1]]" then
        err = test.raises("JSONError", decode, list .. text)
        test.eq(err.position, position + #list, name)
      end
    end
  end
end)

-- What JSON is, and what it is not: texts of the kinds that parsers often get wrong.
local VALID = {
  "[]", "[[]]", "[{}]", "{}", '{"":0}', '{"a":{"b":{"c":[]}}}', "[1]", " [1] ", "0", "-0", "-1",
  "1e5", "1E5", "1e+5", "1E-5", "0e1", "0e+1", "0.1", "1.0", "-0.1e-1", "123.456e78", "1e-1000",
  "null", "true", "false", '""', '"a"', " null ", "\n\t\r null", '"\\u0000"', '"\\uD801\\udc37"',
  '"\\uFFFE"', '"\\/\\"\\\\\\b\\f\\n\\r\\t"', '"\127"', '"\226\128\168\226\128\169"',
  '"\239\187\191"', '"\244\143\191\191"', '"\239\191\191"', '{"a":1,"a":1}', '{"a":1,"a":2}',
  '{"\\u0000":1}', "[1,2,3]", "[null,1,\"1\",{}]", "[1\n]", "[ ]", "{ }", '{ "a" : 1 }',
  "[[[[[[[[[[]]]]]]]]]]", '["\\u0012","\\u002c"]', '["/*"]', '"\\\\u"', "[-0.0]",
  "[9007199254740993]", '"\\ud83d\\udE39\\ud83d\\uDC8D"', '["asd "]', '[1,"2",3e0,true]',
  '{"x":[{"id":"xxxxxxxx"}],"id":"y"}', "[18446744073709551615,-9223372036854775808]",
}

test("valid texts are decoded, invalid ones refused, also with white space around them", function()
  for _, text in ipairs(VALID) do
    for _, around in ipairs { "%s", " %s", "%s\n", "\t\r%s  ", "[%s]", '{"k":%s}', "[[%s],1]" } do
      local ok, err = pcall(decode, (around:gsub("%%s", function() return text end)))
      if not ok then error(("%q: %s"):format(text, tostring(err))) end
    end
  end
  for _, fault in ipairs(FAULTS) do
    for _, around in ipairs { " %s", "%s\n", '{"k":%s}' } do
      local text = around:gsub("%%s", function() return fault[1] end)
      if pcall(decode, text) then error(("%q was taken"):format(text)) end
    end
  end
end)

test("every text that is cut off is refused at its end, or where its last token begins", function()
  local text = ' {"a":[1.5e+3,true,null,{"b\\u00e9\\ud83d\\ude00":"\\n€"}],\n"c":-0,"d":{}} '
  decode(text)
  for size = 0, #text - 2 do
    local err = test.raises("JSONError", decode, text:sub(1, size))
    assert(err.position <= size + 1 and err.position >= size - 4, err.message)
  end
end)

-- Texts that differ from a valid one in a few bytes: whatever comes, it is a value or a JSONError
-- that points into the text.
test("a text that was changed at random is decoded or refused", { limit = 2 }, function()
  math.randomseed(20260101)
  local random = math.random
  local seeds = { table.concat(VALID, "\n"), '{"a":[1,2,{"b":"c\\u00e9"}],"d":null}' }
  for _, text in ipairs(VALID) do seeds[#seeds + 1] = '{"k":[' .. text .. "," .. text .. "]}" end
  for _, fault in ipairs(FAULTS) do seeds[#seeds + 1] = "[" .. fault[1] .. ',"x"]' end
  local bytes = '[]{},:"\\\\ \n0123456789+-.eEtrufalsn/bu\0\1\127\128\191\194\226\240\255'
  local taken, refused = 0, 0
  for _ = 1, 30000 * (tonumber(os.getenv "RILLE_TEST_SCALE") or 1) do
    local text = seeds[random(#seeds)]
    for _ = 1, random(3) do
      local at, with = random(0, #text), random(#bytes)
      local kind = random(4)
      if kind == 1 then
        text = text:sub(1, at) .. bytes:sub(with, with) .. text:sub(at + 1)
      elseif kind == 2 then
        text = text:sub(1, at) .. text:sub(at + 2)
      elseif kind == 3 then
        text = text:sub(1, at) .. bytes:sub(with, with) .. text:sub(at + 2)
      else
        text = text:sub(1, at) .. text:sub(random(0, #text))
      end
    end
    local ok, value = pcall(decode, text)
    if ok then
      taken = taken + 1
      local again = json.encode(value, { sort_keys = true })
      test.eq(json.encode(decode(again), { sort_keys = true }), again)
    else
      refused = refused + 1
      assert(errors.is(value, "JSONError") and value.position >= 1
        and value.position <= #text + 1 and value.message:find "^%S", tostring(value))
      assert(not value.message:find("not JSON", 1, true), text)
    end
  end
  assert(taken > 100 and refused > 1000)
end)
