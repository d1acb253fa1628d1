local fs = require "rille.fs"
local test = require "support.test"

local function word_count(...)
  return test.rille { "scripts/word_count.lua", ... }
end

test("word_count counts the words of all files below a folder", function()
  local dir = test.tmpdir()
  fs.mkdir(dir .. "/inner")
  fs.mkdir(dir .. "/inner/most")
  test.write(dir .. "/a.txt", "The cat and the dog.\n")
  test.write(dir .. "/inner/b.txt", "A dog's life, the best life")
  test.write(dir .. "/inner/most/c", "caf\195\169 THE")
  test.write(dir .. "/empty", "")
  test.write(dir .. "/binary", "the\0the")

  local result = word_count(dir)
  test.eq(result.stderr, "")
  test.eq(result.code, 0)
  local lines = {}
  for line in result.stdout:gmatch "[^\n]+" do lines[#lines + 1] = line end
  test.eq(lines[1], "       4  the")
  test.eq(lines[2], "       2  life")
  test.eq(lines[3], "       1  a")
  test.eq(lines[9], "       1  dog's")
  test.contains(lines[10], ("13 words, 9 different, in 4 files of %s (57 bytes) in "):format(dir))
  test.eq(#lines, 10)
end)

test("word_count follows links without going round in circles", function()
  local dir = test.tmpdir()
  test.write(dir .. "/a.txt", "one two")
  assert(os.execute(("ln -s . '%s/circle'; ln -s nowhere '%s/dangling'"):format(dir, dir)) == 0)

  local result = word_count(dir)
  test.eq(result.code, 0)
  test.contains(result.stdout, "2 words, 2 different, in 1 files")
  test.contains(result.stderr, "skipped: no such file or directory")
  test.contains(result.stderr, dir .. "/dangling")
end)

test("word_count of a missing folder says so and ends with status 1", function()
  local dir = test.tmpdir() .. "/missing"
  local result = word_count(dir)
  test.eq(result.code, 1)
  test.eq(result.stdout, "")
  test.contains(result.stderr, "word_count: no such file or directory")
  test.contains(result.stderr, dir)
end)

test("word_count of a file says that it is no folder", function()
  local path = test.write(test.tmpdir() .. "/file", "one two")
  local result = word_count(path)
  test.eq(result.code, 1)
  test.eq(result.stderr, "word_count: not a folder: " .. path .. "\n")
end)
