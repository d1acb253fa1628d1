local async, errors, test = require "rille.async", require "rille.errors", require "support.test"

-- Waits to be cancelled, so that each of several children has its turn to fail.
local function fail_when_cancelled(value)
  pcall(async.sleep, 1000)
  error(value, 0)
end

-- An ErrorGroup of the given errors, in this order.
local function group_of(...)
  local values = { ... }
  return test.raises("ErrorGroup", async.group, function(g)
    for _, value in ipairs(values) do g:spawn(fail_when_cancelled, value) end
    async.sleep(0)
    g:cancel()
  end)
end

local function kinds(group)
  if group == nil then return nil end
  local list = {}
  for i, err in ipairs(group.errors) do
    if errors.is(err, "ErrorGroup") then
      list[i] = kinds(err)
    else
      list[i] = type(err) == "table" and err.kind or err
    end
  end
  return list
end

local function is_text(err) return type(err) == "string" end

local timeout = errors.new("TimeoutError", "late")
local invalid = errors.new("InvalidStateError", "odd")

test("an ErrorGroup is an error whose errors are listed", function()
  local group = group_of(timeout, invalid)
  assert(errors.is(group, "ErrorGroup"))
  test.eq(group.kind, "ErrorGroup")
  test.eq(type(group.message), "string")
  test.eq(kinds(group), { "TimeoutError", "InvalidStateError" })
end)

test("the text of an ErrorGroup begins with its kind", function()
  test.matches(tostring(group_of(timeout)), "^ErrorGroup: ")
end)

test("split by kind gives what matches and the rest, both in order", function()
  local match, rest = group_of(timeout, invalid, "text", timeout):split "TimeoutError"
  assert(errors.is(match, "ErrorGroup") and errors.is(rest, "ErrorGroup"))
  test.eq(kinds(match), { "TimeoutError", "TimeoutError" })
  test.eq(kinds(rest), { "InvalidStateError", "text" })
end)

test("split by a predicate asks it about each error", function()
  local match, rest = group_of(timeout, "text"):split(is_text)
  test.eq(kinds(match), { "text" })
  test.eq(kinds(rest), { "TimeoutError" })
end)

test("split gives nil where nothing matches, and where nothing is left", function()
  local match, rest = group_of(timeout):split "OSError"
  test.eq(match, nil)
  test.eq(kinds(rest), { "TimeoutError" })
  match, rest = group_of(timeout):split "TimeoutError"
  test.eq(kinds(match), { "TimeoutError" })
  test.eq(rest, nil)
end)

test("split keeps the shape of nested groups", function()
  local match, rest = group_of(group_of(timeout, invalid), timeout):split "TimeoutError"
  test.eq(kinds(match), { { "TimeoutError" }, "TimeoutError" })
  test.eq(kinds(rest), { { "InvalidStateError" } })
end)

test("split leaves the group itself as it was", function()
  local group = group_of(timeout, invalid)
  group:split "TimeoutError"
  test.eq(kinds(group), { "TimeoutError", "InvalidStateError" })
end)

test("subgroup gives what matches, or nil", function()
  local group = group_of(timeout, invalid, group_of(timeout))
  test.eq(kinds(group:subgroup "TimeoutError"), { "TimeoutError", { "TimeoutError" } })
  test.eq(kinds(group:subgroup(is_text)), nil)
end)

test("the parts of a split keep the cause of the group", function()
  local former = errors.new("OSError", "former")
  local group = test.raises("ErrorGroup", async.finally, function() error(former) end, function()
    error(group_of(timeout, invalid))
  end)
  local match, rest = group:split "TimeoutError"
  assert(rawequal(match.cause, former) and rawequal(rest.cause, former))
end)

test("split and subgroup name their wrong argument and themselves", function()
  local group = group_of(timeout)
  test.raises("bad argument #1 to 'split'", group.split, group, nil)
  test.raises("bad argument #1 to 'subgroup'", group.subgroup, group, 1)
end)
