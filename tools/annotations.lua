--- The annotations in stdlib/: read, taken apart, and looked up by what they stand above.
local fs = require "rille.fs"
local path = require "rille.path"

local M = {}

local root, files = nil, {}

--- Where stdlib/ is.
function M.set_root(folder) root = folder end

--- The lines of a file of stdlib/.
function M.lines_of(name)
  if not files[name] then files[name] = fs.read_lines(path.join(root, name)) end
  return files[name]
end

--- The comment that ends right above a line: its lines without dashes, or nil.
function M.comment_above(lines, at)
  local first = at
  while first > 1 and lines[first - 1]:find "^%s*%-%-" do first = first - 1 end
  -- What stands above the first `---` belongs to something else.
  while first < at and not lines[first]:find "^%s*%-%-%-" do first = first + 1 end
  if first == at then return nil end
  local text = {}
  for i = first, at - 1 do text[#text + 1] = (lines[i]:gsub("^%s*%-%-%-?%s?", "")) end
  return text
end

--- A type and what is said of it: types may hold blanks only within brackets, and behind `fun():`.
function M.split_type(text)
  local depth, i = 0, 1
  while i <= #text do
    local c = text:sub(i, i)
    if c:find "[%(<{]" then
      depth = depth + 1
    elseif c:find "[%)>}]" then
      depth = depth - 1
    elseif c == " " and depth == 0 and not text:sub(1, i - 1):find "[:,]$"
      and text:sub(1, i - 1) ~= "async" then
      break
    end
    i = i + 1
  end
  return text:sub(1, i - 1), (text:sub(i):gsub("^%s+", ""))
end
local split_type = M.split_type

--- The parts of a text between commas that stand in no brackets.
function M.split_commas(text)
  local parts, depth, first = {}, 0, 1
  for i = 1, #text do
    local c = text:sub(i, i)
    if c:find "[%(<{]" then
      depth = depth + 1
    elseif c:find "[%)>}]" then
      depth = depth - 1
    elseif c == "," and depth == 0 then
      parts[#parts + 1], first = text:sub(first, i - 1), i + 1
    end
  end
  if text:find "%S" then parts[#parts + 1] = text:sub(first) end
  for i, part in ipairs(parts) do parts[i] = part:match "^%s*(.-)%s*$" end
  return parts
end

-- A name, perhaps with "?", its type, and what is said of it.
local function named(rest)
  local name, more = rest:match "^(%S+)%s*(.*)$"
  local kind, about = split_type(more)
  return { about, name = name:gsub("%?$", ""), optional = name:find "%?$" ~= nil, kind = kind }
end

--- Parts a comment into its sentences, parameters, results, fields, errors and source.
function M.parse(text)
  local doc = { about = {}, params = {}, returns = {}, fields = {} }
  local target = doc.about -- where the next line of running text goes
  for _, line in ipairs(text) do
    local tag, rest = line:match "^@(%a+)%s*(.*)$"
    if tag == "param" then
      target = named(rest)
      table.insert(doc.params, target)
    elseif tag == "return" then
      local kind, about = split_type(rest)
      target = { kind = kind, about }
      table.insert(doc.returns, target)
    elseif tag == "field" then
      target = named(rest)
      table.insert(doc.fields, target)
    elseif tag == "async" then
      doc.waits = true
    elseif tag == "package" then
      doc.is_internal = true
    elseif tag == "class" then
      doc.class, doc.parent = rest:match "^([%w_.]+):?%s*([%w_.]*)"
    elseif tag == "alias" then
      doc.alias = rest:match "^[%w_.]+"
    elseif line:find "^| " then
      doc.stands_for = line:sub(3)
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

--- A function's type as a function's documentation, or nil:
-- fun(self: Thing, url: string, options?: table): X
function M.signature(kind, about)
  local waits, list, result = kind:match "^(%a*)%s*fun(%b()):?%s*(.*)$"
  if not list then return nil end
  local doc = { about = about, params = {}, returns = {}, fields = {}, waits = waits == "async" }
  local names = {}
  for _, part in ipairs(M.split_commas(list:sub(2, -2))) do
    local name, optional, type_of = part:match "^([%w_.]+)(%??):?%s*(.*)$"
    if name ~= "self" then
      names[#names + 1] = name
      doc.params[#doc.params + 1] = { name = name, kind = type_of ~= "" and type_of or "any",
        optional = optional == "?" }
    end
  end
  if result ~= "" then doc.returns[1] = { kind = result } end
  doc.params_text = table.concat(names, ", ")
  return doc
end

--- The lines of a text as one.
function M.join(lines) return (table.concat(lines, " "):gsub("%s+", " "):gsub("^ ", "")) end

return M
