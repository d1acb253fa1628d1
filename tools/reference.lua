-- Renders the reference of the Lua modules, docs/reference/*.md, from the annotations in stdlib/.
-- Usage: rille tools/reference.lua [--check]
-- With --check nothing is written. Either way it ends with status 1 if something public has no
-- annotation, if something annotated does not exist, or if a function takes other options than its
-- annotation names; with --check also if a page differs from what the annotations say now.
local fs = require "rille.fs"
local path = require "rille.path"
local annotations = require "annotations"

local comment_above, parse, join = annotations.comment_above, annotations.parse, annotations.join
local lines_of, signature = annotations.lines_of, annotations.signature

local ROOT = path.normalize(path.join(path.dirname(arg[0]), ".."))
local PAGES = path.join(ROOT, "docs/reference")
local checking = arg[1] == "--check"
annotations.set_root(path.join(ROOT, "stdlib"))

-- The pages: a module, and where in stdlib/ its parts are.
local MODULES = {
  { "async", "async/*.lua", "core/task.lua", "core/protect.lua" },
  { "errors", "errors.lua" },
  { "patterns", "patterns/*.lua" },
  { "worker", "worker/*.lua" },
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
local PROTOCOL = {
  enter = true, exit = true, child_done = true, is_closed = true, was_accepted = true, name = true,
  socket_address = true, peer_address = true,
}

local faults = {}
local function fault(...) faults[#faults + 1] = (...):format(select(2, ...)) end

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
  if list and list ~= "..." and (list ~= "" or #doc.params == 0) then
    return #doc.params == 0 and list == "..." and "" or list
  end
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
    at = info.linedefined
    if not comment_above(lines_of(file), at) then at = declaration(lines_of(file), name) or at end
  end
  local lines = lines_of(file)
  local text = comment_above(lines, at)
  if not text then return nil, file, at end
  local doc = parse(text)
  doc.params_text = parameters(lines, at, doc)
  return doc, file, at
end

-- By name: tables of options and the like, and types that have a name of their own.
local records, aliases = {}, {}

-- The classes that a file declares, with their methods, wherever on the page these are written.
local function collect_classes(page_files)
  local classes, by_variable = {}, {}
  for _, file in ipairs(page_files) do
    local lines = lines_of(file)
    for at, line in ipairs(lines) do
      if line:find "^%s*%-%-%-@class" or line:find "^%-%-%-@alias" then
        local stop = at
        while lines[stop + 1] and lines[stop + 1]:find "^%s*%-%-" do stop = stop + 1 end
        local doc = parse(comment_above(lines, stop + 1))
        local follows = lines[stop + 1]
        local variable = follows:match "^local ([%w_]+)" or follows:match "^([%w_]+) = "
          or doc.class or doc.alias
        local class = { name = doc.class, doc = doc, methods = {}, file = file, at = at, has = {} }
        if doc.alias then
          aliases[doc.alias] = doc
        elseif doc.class:find "^rille%..*%u" then
          records[doc.class] = class
        else
          classes[#classes + 1] = class
          by_variable[file .. ":" .. variable] = class
          by_variable[variable] = by_variable[variable] or class
        end
      end
    end
  end
  for _, file in ipairs(page_files) do
    local lines = lines_of(file)
    for at, line in ipairs(lines) do
      local variable, name = line:match "^function [%w_]-%.?([%w_]+):([%a][%w_]*)%("
      if not variable then variable, name = line:match "^([%w_]+)%.([%a][%w_]*) = [%w_.]+$" end
      local class = variable and (by_variable[file .. ":" .. variable] or by_variable[variable])
      if class and not class.doc.is_internal and not class.has[name] then
        local text = comment_above(lines, at)
        local doc = text and parse(text)
        if doc and join(doc.about) ~= "" then
          doc.params_text = parameters(lines, at, doc)
          class.has[name] = true
          table.insert(class.methods, { name = name, doc = doc })
        elseif line:find "^function" and not PROTOCOL[name] then
          fault("stdlib/%s:%d: %s:%s has no documentation", file, at, class.name, name)
        end
      end
    end
  end
  return classes
end

-- Fields that are functions, as functions: those of one type together. Returns them and the rest.
local function functions_among(fields)
  local found, rest, by_alias = {}, {}, {}
  for _, f in ipairs(fields) do
    local alias = aliases[f.kind]
    local doc = signature(alias and alias.stands_for or f.kind, alias and alias.about or f)
    if not doc then
      rest[#rest + 1] = f
    elseif by_alias[f.kind] and alias then
      table.insert(by_alias[f.kind].names, f.name)
    else
      local entry = { names = { f.name }, doc = doc }
      found[#found + 1], by_alias[f.kind] = entry, entry
    end
  end
  return found, rest
end

-- ---- writing ------------------------------------------------------------------------------------

-- The module whose page is written.
local page_name

-- A type; one of another page's records leads there.
local function type_of(kind)
  local other = kind:match "rille%.(%w+)%.%u"
  local link = other and other ~= page_name and (", see [rille.%s](%s.md)"):format(other, other)
  return ("`%s`%s"):format(kind, link or "")
end

local function describe(name, field)
  local text = join(field)
  return ("%s: %s%s"):format(name, type_of(field.kind), text ~= "" and ", " .. text or "")
end

-- Where a page has written a table of options out, and what is there besides.
local written, but_for = {}, {}

-- Adds the lines for the fields of a record: of options, or of what is returned.
local function write_record(list, record, title, is_result)
  local parent = records[record.doc.parent]
  if parent then
    if written[parent] then
      list[#list + 1] = ("  - those of `%s`"):format(written[parent])
    else
      write_record(list, parent, title, is_result)
      local own = {}
      for i, field in ipairs(record.doc.fields) do own[i] = "`" .. field.name .. "`" end
      but_for[parent] = " but for " .. table.concat(own, ", ")
    end
  end
  written[record] = title
  for _, f in ipairs(record.doc.fields) do
    local name = f.name == "[integer]" and "`[1]`, `[2]` …" or "`" .. f.name .. "`"
    local note = f.optional and is_result and ", or nil"
      or (f.optional or is_result) and "" or ", needed"
    list[#list + 1] = "  - " .. describe(name .. note, f)
  end
end

local function write_entry(out, title, doc, level, first_title)
  out[#out + 1] = ("%s `%s`%s\n"):format(("#"):rep(level), title, doc.waits and " · waits" or "")
  local about = join(doc.about)
  if about ~= "" then out[#out + 1] = about:sub(1, 1):upper() .. about:sub(2) .. "\n" end
  local list = {}
  local function write(name, entry)
    local record = records[entry.kind:gsub("%?$", "")]
    if not record then
      list[#list + 1] = "- " .. describe(name, entry)
      return
    end
    local text = join(entry)
    local is_result = name == "returns"
    list[#list + 1] = ("- %s%s `table`%s%s%s"):format(name, is_result and "" or ":",
      is_result and entry.kind:find "%?$" and " or nil" or "", text ~= "" and ", " .. text or "",
      written[record] and (", as of `%s`%s"):format(written[record], but_for[record] or "") or "")
    if not written[record] then write_record(list, record, first_title or title, is_result) end
  end
  for _, p in ipairs(doc.params) do
    write(("`%s`%s"):format(p.name, p.optional and ", optional" or ""), p)
  end
  for _, r in ipairs(doc.returns) do
    if records[r.kind:gsub("%?$", "")] then
      write("returns", r)
    else
      local text = join(r)
      list[#list + 1] = ("- returns %s%s"):format(type_of(r.kind),
        text ~= "" and ", " .. text or "")
    end
  end
  if doc.Errors then list[#list + 1] = "- errors: " .. join(doc.Errors) end
  if doc.Source then list[#list + 1] = "- as: " .. join(doc.Source) end
  if #list > 0 then out[#out + 1] = table.concat(list, "\n") .. "\n" end
end

-- Several functions of one type.
local function write_functions(out, before, entry)
  local titles = {}
  for i, name in ipairs(entry.names) do
    titles[i] = ("%s%s(%s)"):format(before, name, entry.doc.params_text)
  end
  write_entry(out, table.concat(titles, "`, `"), entry.doc, 3, titles[1])
end

local function write_fields(out, before, fields)
  local list = {}
  for _, f in ipairs(fields) do
    if not f.name:find "^%[" then -- that is a type of keys
      list[#list + 1] = "- " .. describe(("`%s%s`%s"):format(before, f.name,
        f.optional and ", optional" or ""), f)
    end
  end
  if #list > 0 then out[#out + 1] = table.concat(list, "\n") .. "\n" end
end

local function write_class(out, class)
  out[#out + 1] = ("## %s\n"):format(class.name)
  local about = join(class.doc.about)
  if about ~= "" then out[#out + 1] = about .. "\n" end
  if class.doc.parent ~= "" then
    out[#out + 1] = ("What %s has, and:\n"):format(class.doc.parent)
  end
  local functions, fields = functions_among(class.doc.fields)
  write_fields(out, "", fields)
  local variable = class.name:lower()
  for _, entry in ipairs(functions) do
    local has_text = join(entry.doc.about) ~= ""
    if not has_text then fault("%s.%s has no documentation", class.name, entry.names[1]) end
    write_functions(out, variable .. ":", entry)
  end
  for _, method in ipairs(class.methods) do
    write_entry(out, ("%s:%s(%s)"):format(variable, method.name, method.doc.params_text),
      method.doc, 3)
  end
end

-- ---- modules ------------------------------------------------------------------------------------

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

-- What a module's table holds: its functions, documented, and the names of the rest. A table of
-- functions in it (http.shape) counts as part of it.
local function survey(found, module, prefix, module_file, known)
  for _, key in ipairs(names_of(module)) do
    local value, name = module[key], prefix .. key
    if known[name] then
      if known[name] == "function" and type(value) ~= "function" then
        fault("%s is annotated as a function, and is none", name)
      end
    elseif type(value) == "function" then
      local doc, file, at = function_doc(module_file, key, value)
      if doc and join(doc.about) ~= "" then
        if not doc.is_internal then found[#found + 1] = { name = name, doc = doc } end
      else
        fault("rille.%s has no documentation (stdlib/%s:%s)", name, tostring(file), tostring(at))
      end
    elseif type(value) == "table" and not getmetatable(value) then
      survey(found, value, name .. ".", module_file, known)
    else
      fault("rille.%s has no documentation", name)
    end
  end
end

local function render(page)
  local name, page_files, known = page[1], {}, {}
  for i = 2, #page do
    for _, found in ipairs(fs.glob(path.join(ROOT, "stdlib", page[i]))) do
      local file = path.relative(path.join(ROOT, "stdlib"), found)
      page_files[#page_files + 1], known[file] = file, true
    end
  end
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
  page.classes, page.functions = collect_classes(page_files), {}
  page_name, written, but_for = name, {}, {}

  -- What has no place of its own in the source is a field of the class named as the module.
  local own = {}
  for _, class in ipairs(page.classes) do
    if class.name == "rille." .. name then
      for _, f in ipairs(class.doc.fields) do own[#own + 1] = f end
    end
  end
  local grouped, values = functions_among(own)
  local annotated = {}
  for _, f in ipairs(values) do annotated[name .. "." .. f.name] = "value" end
  for _, entry in ipairs(grouped) do
    for _, key in ipairs(entry.names) do annotated[name .. "." .. key] = "function" end
  end
  for key in pairs(annotated) do
    if module[key:match "[^.]+$"] == nil then fault("rille.%s is annotated, but not there", key) end
  end

  survey(page.functions, module, name .. ".", module_file, annotated)
  if #page.functions > 0 or #grouped > 0 then out[#out + 1] = "## Functions\n" end
  for _, f in ipairs(page.functions) do
    write_entry(out, ("%s(%s)"):format(f.name, f.doc.params_text), f.doc, 3)
  end
  for _, entry in ipairs(grouped) do write_functions(out, name .. ".", entry) end
  if #values > 0 then
    out[#out + 1] = "## Values\n"
    write_fields(out, name .. ".", values)
  end
  for _, class in ipairs(page.classes) do
    local is_module = class.name:find "^rille%."
    local is_empty = #class.methods == 0 and #class.doc.fields == 0 and #class.doc.about == 0
    if not is_module and not is_empty and not class.doc.is_internal then write_class(out, class) end
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
  "*Waits* stands by what may put the calling task to sleep. Times are seconds, sizes bytes.\n",
}
for _, page in ipairs(MODULES) do
  local text, about = render(page)
  put(page[1] .. ".md", text)
  contents[#contents + 1] = ("- [rille.%s](%s.md): %s"):format(page[1], page[1],
    about:match "^(.-%.)%f[%s%z]" or about)
end
contents[#contents + 1] = "\nThe global table `rille`, which `require \"rille\"` gives too, has "
  .. "`rille.version` and `rille.args`, the list of the script's arguments."
put("README.md", table.concat(contents, "\n") .. "\n")

require("reference_check")(MODULES, records, PROTOCOL, fault)

for _, text in ipairs(faults) do io.stderr:write(text, "\n") end
if checking then
  for _, file in ipairs(stale) do
    io.stderr:write(file, " is not what the annotations say: run build/rille tools/reference.lua\n")
  end
end
if #faults > 0 or (checking and #stale > 0) then require("rille.process").exit(1) end
