--- The documents: what stands in them as code runs, or at least compiles, and links lead somewhere.
-- A block of Lua is run to its end, a part of a program ("```lua part") or a server, which has no
-- end, only compiled; C and C++ are compiled against the public headers.
local async, fs, process = require "rille.async", require "rille.fs", require "rille.process"
local path = require "rille.path"
local test = require "support.test"

local RILLE = fs.realpath(os.getenv "RILLE" or "build/rille")
local ROOT = path.normalize(path.join(path.dirname(arg[0]), ".."))

local documents = fs.glob(path.join(ROOT, "*.md"))
for _, pattern in ipairs { "docs/*.md", "docs/reference/*.md", "examples/*.md", "examples/*/*.md",
  "scripts/*.md", "bench/*.md" } do
  for _, file in ipairs(fs.glob(path.join(ROOT, pattern))) do documents[#documents + 1] = file end
end

-- The blocks of code of a document: { info, line, text }.
local function blocks_of(file)
  local blocks, block = {}, nil
  local number = 0
  for _, line in ipairs(fs.read_lines(file)) do
    number = number + 1
    local info = line:match "^%s*```(.*)$"
    if info and block then
      block.text = table.concat(block, "\n") .. "\n"
      blocks[#blocks + 1], block = block, nil
    elseif info then
      block = { info = info, line = number + 1 }
    elseif block then
      block[#block + 1] = line
    end
  end
  return blocks
end

local function flags_of(...)
  local flags = {}
  for flag in process.run { "pkg-config", "--cflags", ..., check = true }.stdout:gmatch "%S+" do
    flags[#flags + 1] = flag
  end
  return flags
end

local function compile(compiler, standard, language, text)
  local command = {
    compiler, standard, "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
    "-I" .. path.join(ROOT, "runtime/include"), input = text,
  }
  for _, flag in ipairs(flags_of("luajit", "libuv")) do command[#command + 1] = flag end
  for _, last in ipairs { "-x", language, "-" } do command[#command + 1] = last end
  local result = process.run(command)
  assert(result.code == 0, result.stderr)
end

-- What stands behind `-->` has been printed, in that order. Two spaces are a tab, "..." is
-- anything.
local function check_output(text, output)
  local at = 1
  for said in text:gmatch "%-%->%s*([^\n]*)" do
    for part in (said:gsub("  +", "\t") .. "..."):gmatch "(.-)%s*%.%.%." do
      local first, last = output:find(part, at, true)
      assert(first, ("'%s' is not printed, or not there, but:\n%s"):format(said, output))
      at = last + 1
    end
  end
end

local RUNNERS = {}

function RUNNERS.lua(block, name)
  local is_server = block.text:find ":serve[%s%(]" and not block.text:find "close"
  assert(loadstring(block.text, "=" .. name))
  if is_server or block.info:find "part" then return end
  local folder = fs.mkdtemp()
  async.finally(function()
    local result = process.run { RILLE, "-", input = block.text, cwd = folder, timeout = 20 }
    assert(result.code == 0, ("status %s\n%s"):format(tostring(result.code), result.stderr))
    check_output(block.text, result.stdout)
  end, function() fs.remove(folder, { recursive = true }) end)
end

function RUNNERS.c(block) compile("gcc", "-std=gnu11", "c", block.text) end
function RUNNERS.cpp(block) compile("g++", "-std=c++20", "c++", block.text) end

for _, file in ipairs(documents) do
  for _, block in ipairs(blocks_of(file)) do
    local run = RUNNERS[block.info:match "^%S+"]
    if run then
      local name = ("%s:%d"):format(path.relative(ROOT, file), block.line)
      test(name .. ": the code works", { limit = 6 }, function() run(block, name) end)
    end
  end
end

-- The anchors of a document's headings, as GitHub makes them.
local function anchors_of(file)
  local anchors = {}
  for heading in ("\n" .. test.read(file):gsub("```.-```", "")):gmatch "\n#+ ([^\n]+)" do
    anchors[heading:lower():gsub("[^%w%s_-]", ""):gsub(" ", "-")] = true
  end
  return anchors
end

test("the documents link to files and headings that are there", function()
  for _, file in ipairs(documents) do
    local text = test.read(file):gsub("```.-```", ""):gsub("`[^`\n]*`", "")
    for target, anchor in text:gmatch "%]%(([^)#:%s]*)#?([^):%s]*)%)" do
      local there = target == "" and file or path.join(path.dirname(file), target)
      assert(fs.exists(there), ("%s links to %s"):format(file, target))
      if anchor ~= "" then
        assert(anchors_of(there)[anchor], ("%s links to %s#%s"):format(file, target, anchor))
      end
    end
  end
end)

test("the list of scripts names all of them", function()
  local text = test.read(path.join(ROOT, "scripts/README.md"))
  for _, name in ipairs(fs.list(path.join(ROOT, "scripts"))) do
    if name:find "%.lua$" then assert(text:find("(" .. name .. ")", 1, true), name) end
  end
end)

test("the reference says what the annotations say, of everything public", { limit = 6 }, function()
  local result = process.run { RILLE, path.join(ROOT, "tools/reference.lua"), "--check" }
  assert(result.code == 0, result.stderr)
end)
