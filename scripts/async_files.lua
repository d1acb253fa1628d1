-- Writes several files at once, reads them back at once, and counts what is in them.
-- From "Asyncio Concurrency Patterns" (Example 5: Async File I/O). The files are real, in a fresh
-- folder; the lines show their names without the folder. (The document counts a line more than
-- there are, the empty piece after the last line's end; its numbers are kept.)
local async = require "rille.async"
local fs = require "rille.fs"
local tempdir = require "lib.tempdir"

local FILES = { "test1.txt", "test2.txt", "test3.txt" }

local function count(text, pattern)
  return select(2, text:gsub(pattern, ""))
end

local function process_file(path)
  local content = fs.read_file(path)
  return {
    lines = count(content, "\n") + 1,
    words = count(content, "%S+"),
    chars = #content,
  }
end

async.with(tempdir(), function(dir)
  async.map(FILES, function(name)
    fs.write_file(dir .. "/" .. name, ("Content of file %s\n"):format(name):rep(10))
  end)

  local results = async.map(FILES, function(name) return process_file(dir .. "/" .. name) end)

  for i, result in ipairs(results) do
    print(("%s: %d lines, %d words, %d chars"):format(
      FILES[i], result.lines, result.words, result.chars))
  end
end)
