-- Writes the modules of the standard library as one C++ source; see stdlib/embed.cmake.
-- Usage: luajit embed.lua STDLIB_FOLDER FILE_WITH_MODULE_PATHS OUTPUT.cpp
local folder, list, output = ...

--- stdlib/async/init.lua is rille.async, stdlib/async/queue.lua is rille.async.queue.
local function module_name(path)
  return "rille." .. path:gsub("%.lua$", ""):gsub("/init$", ""):gsub("/", ".")
end

local modules = {}
for file in io.lines(list) do
  if file ~= "" then
    local path = file:sub(#folder + 2)
    local source = assert(io.open(file, "rb")):read("*a")
    local chunk, message = loadstring(source, "=rille/" .. path)
    if not chunk then
      -- In the form of a compiler's message, so that editors find the line.
      io.stderr:write(file, message:match(":%d+:.*") or (": " .. message), "\n")
      os.exit(1)
    end
    modules[#modules + 1] = { name = module_name(path), path = path, code = string.dump(chunk) }
  end
end
table.sort(modules, function(a, b) return a.name < b.name end)

local function literal(bytes)
  local lines = {}
  for at = 1, #bytes, 64 do
    -- Always three digits: a shorter escape would take in a digit that follows it.
    local line = bytes:sub(at, at + 63):gsub(".", function(c)
      if c:find("[%w%p ]") and not c:find('["\\?]') then return c end
      return ("\\%03o"):format(c:byte())
    end):gsub("%z", "\\000")
    lines[#lines + 1] = '"' .. line .. '"'
  end
  return table.concat(lines, "\n    ")
end

local out = { '// Written by tools/embed.lua.\n#include "embedded.h"\n\nnamespace rille {\n\n' }
out[#out + 1] = "const EmbeddedModule kEmbeddedModules[] = {\n"
for i, module in ipairs(modules) do
  local twin = modules[i - 1]
  if twin and twin.name == module.name then
    io.stderr:write(("stdlib/%s and stdlib/%s are both the module %s\n"):format(
      twin.path, module.path, module.name))
    os.exit(1)
  end
  out[#out + 1] = ('    {"%s", "stdlib/%s",\n    %s,\n    %d},\n'):format(
    module.name, module.path, literal(module.code), #module.code)
end
-- C++ has no empty arrays: the last entry is never counted.
out[#out + 1] = "    {nullptr, nullptr, nullptr, 0}};\n"
out[#out + 1] = ("const std::size_t kEmbeddedModuleCount = %d;\n\n"):format(#modules)
out[#out + 1] = "}  // namespace rille\n"

local file = assert(io.open(output, "wb"))
assert(file:write(table.concat(out)))
assert(file:close())
