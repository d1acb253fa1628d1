-- Renders the reference of the Lua modules, docs/reference/*.md, from the annotations in stdlib/.
-- Usage: rille tools/reference.lua [--check]
-- With --check nothing is written: it ends with status 1 if a page differs from what the
-- annotations say now, or if something public has none.
local fs = require "rille.fs"
local path = require "rille.path"

local ROOT = path.normalize(path.join(path.dirname(arg[0]), ".."))
local PAGES = path.join(ROOT, "docs/reference")
local checking = arg[1] == "--check"

-- The pages: a module, and where else in stdlib/ its parts are.
local MODULES = {
  { "async", "async/*.lua", "core/task.lua", "core/protect.lua" },
  { "errors", "errors.lua" },
  { "patterns", "patterns/*.lua" },
  { "worker", "worker.lua", "worker/*.lua" },
  { "fs", "fs/*.lua" },
  { "path", "path.lua" },
  { "process", "process/*.lua" },
  { "signal", "signal.lua" },
  { "stdio", "stdio.lua" },
  { "net", "net/*.lua" },
  { "tls", "tls/*.lua" },
  { "dns", "dns.lua" },
  { "http", "http/*.lua" },
  { "websocket", "websocket/*.lua" },
  { "json", "json.lua" },
}

-- Methods that others of Rille's own parts call.
local PROTOCOL = { enter = true, exit = true, child_done = true }

local faults = {}
local function fault(...) faults[#faults + 1] = (...):format(select(2, ...)) end

-- ---- annotations --------------------------------------------------------------------------------

local files = {}

-- The lines of a file of stdlib/.
local function lines_of(name)
  if not files[name] then files[name] = fs.read_lines(path.join(ROOT, "stdlib", name)) end
  return files[name]
end

-- The comment that ends right above a line: its lines without dashes, or nil.
local function comment_above(lines, at)
  local first = at
  while first > 1 and lines[first - 1]:find "^%s*%-%-" do first = first - 1 end
  -- What stands above the first `---` belongs to something else.
  while first < at and not lines[first]:find "^%s*%-%-%-" do first = first + 1 end
  if first == at then return nil end
  local text = {}
  for i = first, at - 1 do text[#text + 1] = (lines[i]:gsub("^%s*%-%-%-?%s?", "")) end
  return text
end

-- A type and what is said of it: types may hold blanks only within brackets.
local function split_type(text)
  local depth, i = 0, 1
  while i <= #text do
    local c = text:sub(i, i)
    if c:find "[%(<{]" then
      depth = depth + 1
    elseif c:find "[%)>}]" then
      depth = depth - 1
    elseif c == " " and depth == 0 and not text:sub(1, i - 1):find "[:,]$" then
      break
    end
    i = i + 1
  end
  return text:sub(1, i - 1), (text:sub(i):gsub("^%s+", ""))
end

-- Parts a comment into its sentences, parameters, results, errors and source.
local function parse(text)
  local doc = { about = {}, params = {}, returns = {}, fields = {} }
  local target = doc.about -- where the next line of running text goes
  for _, line in ipairs(text) do
    local tag, rest = line:match "^@(%a+)%s*(.*)$"
    if tag == "param" then
      local name, more = rest:match "^(%S+)%s*(.*)$"
      local kind, about = split_type(more)
      target = { about, name = name:gsub("%?$", ""), optional = name:find "%?$", kind = kind }
      table.insert(doc.params, target)
    elseif tag == "return" then
      local kind, about = split_type(rest)
      target = { kind = kind, about }
      table.insert(doc.returns, target)
    elseif tag == "field" then
      local name, more = rest:match "^(%S+)%s*(.*)$"
      local kind, about = split_type(more)
      target = { name = name, kind = kind, about }
      table.insert(doc.fields, target)
    elseif tag == "async" then
      doc.waits = true
    elseif tag == "package" then
      doc.is_internal = true
    elseif tag == "class" then
      doc.class = rest:match "^[%w_.]+"
    elseif not tag then
      local label, after = line:match "^(%u%l+):%s*(.*)$"
      if label == "Errors" or label == "Source" then
        doc[label] = { after }
        target = doc[label]
      else
        table.insert(target, line)
      end
    end
  end
  return doc
end

local function join(lines) return (table.concat(lines, " "):gsub("%s+", " "):gsub("^ ", "")) end

-- ---- finding things -----------------------------------------------------------------------------

-- A pattern's magic is taken out of a name.
local function plain(name) return (name:gsub("%p", "%%%0")) end

-- The line that declares a name of a module's table, and how it begins.
local function declaration(lines, name)
  local n = plain(name)
  for at, line in ipairs(lines) do
    if line:find("^%s*function [%w_]+%." .. n .. "%(") or line:find("^[%w_]+%." .. n .. " = ")
      or line:find("^%s+" .. n .. " = function%(") then
      if comment_above(lines, at) then return at end
    end
  end
end

-- The parameters as they are written in a declaration, which may take several lines.
local function parameters(lines, at, doc)
  local text = lines[at]
  local list = text:match "function%s*[%w_.:]*%((.-)%)"
  if not list and text:find "function" then list = (text .. lines[at + 1]):match "%((.-)%)" end
  if list and (list ~= "" or #doc.params == 0) then return list end
  local names = {}
  for _, p in ipairs(doc.params) do names[#names + 1] = p.name end
  return table.concat(names, ", ")
end

-- A function's documentation: of the place where its module names it, else of where it begins.
local function function_doc(module_file, name, fn)
  local at = declaration(lines_of(module_file), name)
  local file = module_file
  if not at then
    local info = debug.getinfo(fn, "S")
    file = info.source:match "^=rille/(.+)$"
    if not file then return nil end
    at = declaration(lines_of(file), name) or info.linedefined
  end
  local lines = lines_of(file)
  local text = comment_above(lines, at)
  if not text then return nil, file, at end
  local doc = parse(text)
  doc.params_text = parameters(lines, at, doc)
  doc.file, doc.at = file, at
  return doc
end

-- The classes that a file declares, with their methods, wherever on the page these are written.
local function collect_classes(page_files)
  local classes, by_variable = {}, {}
  for _, file in ipairs(page_files) do
    local lines = lines_of(file)
    for at, line in ipairs(lines) do
      if line:find "^%s*%-%-%-@class" then
        local stop = at
        while lines[stop + 1] and lines[stop + 1]:find "^%s*%-%-" do stop = stop + 1 end
        local doc = parse(comment_above(lines, stop + 1))
        local variable = lines[stop + 1]:match "^local ([%w_]+)" or doc.class
        local class = { name = doc.class, doc = doc, methods = {}, file = file, at = at }
        classes[#classes + 1] = class
        by_variable[file .. ":" .. variable] = class
        by_variable[variable] = by_variable[variable] or class
      end
    end
  end
  for _, file in ipairs(page_files) do
    local lines = lines_of(file)
    for at, line in ipairs(lines) do
      local variable, name = line:match "^function ([%w_]+):([%a][%w_]*)%("
      if not variable then variable, name = line:match "^([%w_]+)%.([%a][%w_]*) = [%w_.]+$" end
      local class = variable and (by_variable[file .. ":" .. variable] or by_variable[variable])
      if class and not class.doc.is_internal then
        local text = comment_above(lines, at)
        local doc = text and parse(text)
        if doc and join(doc.about) ~= "" then
          doc.params_text = parameters(lines, at, doc)
          table.insert(class.methods, { name = name, doc = doc })
        elseif line:find "^function" and not PROTOCOL[name] then
          fault("stdlib/%s:%d: %s:%s has no documentation", file, at, class.name, name)
        end
      end
    end
  end
  return classes
end

-- ---- writing ------------------------------------------------------------------------------------

local function escape_cell(text) return (text:gsub("|", "\\|")) end

local function write_entry(out, title, doc, level)
  out[#out + 1] = ("%s `%s`%s\n"):format(("#"):rep(level), title, doc.waits and " · waits" or "")
  local about = join(doc.about)
  if about ~= "" then out[#out + 1] = about .. "\n" end
  local list = {}
  for _, p in ipairs(doc.params) do
    local text = join(p)
    list[#list + 1] = ("- `%s`%s: `%s`%s"):format(p.name, p.optional and ", optional" or "",
      escape_cell(p.kind), text ~= "" and ", " .. text or "")
  end
  for _, r in ipairs(doc.returns) do
    local text = join(r)
    list[#list + 1] = ("- returns `%s`%s"):format(escape_cell(r.kind),
      text ~= "" and ", " .. text or "")
  end
  if doc.Errors then list[#list + 1] = "- errors: " .. join(doc.Errors) end
  if doc.Source then list[#list + 1] = "- as: " .. join(doc.Source) end
  if #list > 0 then out[#out + 1] = table.concat(list, "\n") .. "\n" end
end

local function write_class(out, class)
  out[#out + 1] = ("## %s\n"):format(class.name)
  local about = join(class.doc.about)
  if about ~= "" then out[#out + 1] = about .. "\n" end
  local list = {}
  for _, f in ipairs(class.doc.fields) do
    local text = join(f)
    list[#list + 1] = ("- `%s`: `%s`%s"):format(f.name, escape_cell(f.kind),
      text ~= "" and ", " .. text or "")
  end
  if #list > 0 then out[#out + 1] = table.concat(list, "\n") .. "\n" end
  local variable = class.name:lower()
  for _, method in ipairs(class.methods) do
    write_entry(out, ("%s:%s(%s)"):format(variable, method.name, method.doc.params_text),
      method.doc, 3)
  end
end

-- A field that is a function, as a function's documentation: fun(url: string, options?: table): X.
local function field_doc(field)
  local list, result = field.kind:match "^fun%((.*)%):?%s*(.*)$"
  if not list then return nil end
  local doc = { about = field, params = {}, returns = {}, waits = true }
  local names = {}
  for p, kind in list:gmatch "([%w_]+)%??: *([^,]+)" do
    names[#names + 1] = p
    doc.params[#doc.params + 1] = { name = p, kind = kind, optional = list:find(p .. "?", 1, true) }
  end
  if result ~= "" then doc.returns[1] = { kind = result } end
  doc.params_text = table.concat(names, ", ")
  return doc
end

-- The names of a module's table, those that it loads when they are first asked for too.
local function names_of(module)
  local names = {}
  local seen = {}
  local function add(name)
    if type(name) == "string" and not name:find "^_" and not seen[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
  for name in pairs(module) do add(name) end
  local meta = getmetatable(module)
  if meta and type(meta.__index) == "function" then
    for i = 1, 60 do
      local upvalue, value = debug.getupvalue(meta.__index, i)
      if upvalue == "HOME" then
        for name in pairs(value) do add(name) end
      end
    end
  end
  table.sort(names)
  return names
end

local function render(name, ...)
  local page_files, known = {}, {}
  for _, pattern in ipairs { ... } do
    for _, found in ipairs(fs.glob(path.join(ROOT, "stdlib", pattern))) do
      local file = path.relative(path.join(ROOT, "stdlib"), found)
      if not known[file] then
        known[file] = true
        page_files[#page_files + 1] = file
      end
    end
  end
  if #page_files == 0 then return nil end
  local module_file = known[name .. ".lua"] and name .. ".lua" or name .. "/init.lua"
  local module = require("rille." .. name)
  local out = { ("# rille.%s\n"):format(name) }
  local lines = lines_of(module_file)
  local last = 1
  while lines[last]:find "^%-%-" do last = last + 1 end
  local header = parse(comment_above(lines, last))
  -- A module that is a class, such as rille.stdio, has its tags there too.
  local about = join(header.about):gsub("^rille%.%w+: ", "")
  out[#out + 1] = about:sub(1, 1):upper() .. about:sub(2) .. "\n"
  local classes = collect_classes(page_files)
  -- Functions that are made in a loop are fields of the class that is named as the module.
  local fields = {}
  for _, class in ipairs(classes) do
    if class.name == "rille." .. name then
      for _, f in ipairs(class.doc.fields) do fields[f.name] = field_doc(f) end
    end
  end
  local functions = {}
  for _, key in ipairs(names_of(module)) do
    local value = module[key]
    if type(value) == "function" then
      local doc, file, at = function_doc(module_file, key, value)
      if not doc and fields[key] then
        doc = fields[key]
      end
      if doc and join(doc.about) ~= "" then
        functions[#functions + 1] = { key = key, doc = doc }
      else
        fault("rille.%s.%s has no documentation (stdlib/%s:%s)", name, key, tostring(file),
          tostring(at))
      end
    end
  end
  if #functions > 0 then out[#out + 1] = "## Functions\n" end
  for _, f in ipairs(functions) do
    write_entry(out, ("%s.%s(%s)"):format(name, f.key, f.doc.params_text), f.doc, 3)
  end
  for _, class in ipairs(classes) do
    local is_module = class.name:find "^rille%." -- its fields stand among the functions
    local is_empty = #class.methods == 0 and #class.doc.fields == 0
    local is_shown = not is_module and not is_empty and not class.doc.is_internal
    if is_shown then write_class(out, class) end
  end
  return table.concat(out, "\n"), about
end

local stale = {}
local function put(file, text)
  local whole = path.join(PAGES, file)
  if not (fs.exists(whole) and fs.read_file(whole) == text) then
    stale[#stale + 1] = path.relative(ROOT, whole)
    if not checking then fs.write_file(whole, text) end
  end
end

if not checking then fs.mkdir(PAGES, { parents = true }) end
local contents = {
  "# Reference\n",
  "Written by `tools/reference.lua` from the annotations in `stdlib/`, which editors read too.",
  "*Waits* stands by what may put the calling task to sleep.\n",
}
for _, spec in ipairs(MODULES) do
  local text, about = render(unpack(spec))
  if text then
    put(spec[1] .. ".md", text)
    contents[#contents + 1] = ("- [rille.%s](%s.md): %s"):format(spec[1], spec[1],
      about:match "^(.-[.:]) " or about)
  end
end
put("README.md", table.concat(contents, "\n") .. "\n")

for _, text in ipairs(faults) do io.stderr:write(text, "\n") end
if checking then
  for _, file in ipairs(stale) do
    io.stderr:write(file, " is not what the annotations say: run build/rille tools/reference.lua\n")
  end
end
if #faults > 0 or (checking and #stale > 0) then require("rille.process").exit(1) end
