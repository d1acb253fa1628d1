-- Counts the words of all files below a folder: rille scripts/word_count.lua [FOLDER] Without a
-- folder it counts these scripts. Files are read concurrently, at most 16 at a time; files with a
-- NUL byte are taken for binary and left out. Ends with status 1 if there is no such folder.
local async = require "rille.async"
local fs = require "rille.fs"
local process = require "rille.process"

local AT_ONCE = 16
local TOP = 10

-- Everything below `root` that can be counted, and what cannot be looked at, with why.
local function find_files(root)
  local files, skipped, seen = {}, {}, {}

  local function visit(path)
    local ok, stat = pcall(fs.stat, path)
    if not ok then
      skipped[#skipped + 1] = stat.message
    elseif stat.type == "file" then
      files[#files + 1] = path
    elseif stat.type == "directory" then
      local id = stat.dev .. ":" .. stat.ino
      if seen[id] then return end -- links may lead in a circle
      seen[id] = true
      local names
      ok, names = pcall(fs.list, path)
      if not ok then
        skipped[#skipped + 1] = names.message
        return
      end
      async.map(names, function(name) visit(path .. "/" .. name) end, { limit = AT_ONCE })
    end
  end

  visit(root)
  return files, skipped
end

local function count_words(text, counts)
  local words = 0
  for word in text:gmatch "[%a\128-\255']+" do
    word = word:lower()
    counts[word] = (counts[word] or 0) + 1
    words = words + 1
  end
  return words
end

local function count_files(files, skipped)
  local counts, total = {}, { files = 0, words = 0, bytes = 0 }
  async.map(files, function(path)
    local ok, text = pcall(fs.read_file, path)
    if not ok then
      skipped[#skipped + 1] = text.message
    elseif not text:find("\0", 1, true) then
      total.files = total.files + 1
      total.bytes = total.bytes + #text
      total.words = total.words + count_words(text, counts)
    end
  end, { limit = AT_ONCE })
  return counts, total
end

local function top_words(counts)
  local words = {}
  for word in pairs(counts) do words[#words + 1] = word end
  table.sort(words, function(a, b)
    if counts[a] ~= counts[b] then return counts[a] > counts[b] end
    return a < b
  end)
  return words
end

local root = arg[1] or arg[0]:match "^(.*)/" or "."
local ok, stat = pcall(fs.stat, root)
if not ok then
  io.stderr:write("word_count: ", stat.message, "\n")
  return process.exit(1)
elseif stat.type ~= "directory" then
  io.stderr:write("word_count: not a folder: ", root, "\n")
  return process.exit(1)
end

local start = async.time()
local files, skipped = find_files(root)
local counts, total = count_files(files, skipped)
local words = top_words(counts)

for i = 1, math.min(TOP, #words) do print(("%8d  %s"):format(counts[words[i]], words[i])) end
print(("%d words, %d different, in %d files of %s (%d bytes) in %.2f seconds"):format(
  total.words, #words, total.files, root, total.bytes, async.time() - start))
for _, message in ipairs(skipped) do io.stderr:write("skipped: ", message, "\n") end
