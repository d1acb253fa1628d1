local test = require "support.test"

test("nothing is global but rille, arg and what stock LuaJIT has", function()
  local result = test.script [[
    for _, module in ipairs { "rille.async", "rille.errors" } do require(module) end
    local names = {}
    for name in pairs(_G) do names[#names + 1] = name end
    table.sort(names)
    print(table.concat(names, " "))
  ]]
  test.eq(result.stdout, "_G _VERSION arg assert bit collectgarbage coroutine debug dofile error "
    .. "gcinfo getfenv getmetatable io ipairs jit load loadfile loadstring math module newproxy "
    .. "next os package pairs pcall print rawequal rawget rawset require rille select setfenv "
    .. "setmetatable string table tonumber tostring type unpack xpcall\n")
end)

test("the global rille is what require gives, with its version", function()
  local result = test.script [[
    print(rille == require "rille", type(rille), type(rille.version), #rille.version > 0)
  ]]
  test.eq(result.stdout, "true\ttable\tstring\ttrue\n")
end)

test("rille.args lists the arguments of the script", function()
  local code = "print(#rille.args, unpack(rille.args))"
  local result = test.script(code, { args = { "a", "", "--c" } })
  test.eq(result.stdout, "3\ta\t\t--c\n")
  test.eq(test.script("print(#rille.args)").stdout, "0\n")
end)

test("a script runs inside a task", function()
  local result = test.script [[
    local async = require "rille.async"
    print(type(async.current_task():name()), #async.all_tasks())
  ]]
  test.eq(result.stdout, "string\t1\n")
end)

test("a module that is not there is named, with where it was looked for", function()
  local result = test.script 'require "rille.nothing"'
  test.eq(result.code, 1)
  test.contains(result.stderr, "module 'rille.nothing' not found")
  test.contains(result.stderr, "script.lua:1:")
  test.contains(result.stderr, "/rille/nothing.lua'")
end)
