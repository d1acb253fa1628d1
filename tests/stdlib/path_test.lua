local path, fs, test = require "rille.path", require "rille.fs", require "support.test"

-- Compares fn(arguments...) with the last of each row.
local function table_of(fn, rows)
  for _, row in ipairs(rows) do
    local n = #row
    test.eq(fn(unpack(row, 1, n - 1)), row[n], table.concat(row, ", ", 1, n - 1))
  end
end

test("join puts slashes between, and normalizes", function()
  test.eq(path.join(), ".")
  table_of(path.join, {
    { "/a", "/b", "/a/b" }, { "a", "b", "c", "a/b/c" }, { "a/", "b", "a/b" }, { "", "." },
    { "", "a", "a" }, { "a", "..", "." }, { "a", "../..", ".." }, { "/", "..", "/" },
    { "/a", "../../b", "/b" }, { "a", "./b", "a/b" }, { "", "", "." }, { "a", "", "b", "a/b" },
    { "", "/b", "/b" }, { "a//", "//b", "a/b" }, { 1, 2, "1/2" },
  })
end)

test("normalize takes out what says nothing", function()
  table_of(path.normalize, {
    { "a/", "a" }, { "", "." }, { ".", "." }, { "./", "." }, { "/", "/" }, { "//", "/" },
    { "/.", "/" }, { "/..", "/" }, { "a/./b//c/../d", "a/b/d" }, { "..", ".." },
    { "../a/..", ".." }, { "a/../..", ".." }, { "a/../../b", "../b" }, { "/a/../../b", "/b" },
    { "...", "..." }, { "a/.b", "a/.b" }, { "./a", "a" }, { "a/b/..", "a" }, { "..//..", "../.." },
  })
end)

test("dirname is the path without its last component", function()
  table_of(path.dirname, {
    { "a", "." }, { "", "." }, { "/a", "/" }, { "/a/b", "/a" }, { "/a/b/", "/a" }, { "a/b", "a" },
    { "a//b", "a/" }, { "a/", "." }, { "/", "/" }, { "////", "/" }, { "/a//", "/" }, { "./a", "." },
    { "../a", ".." }, { "..", "." }, { "//a", "//" }, { "/a//b", "/a/" }, { "///a", "//" },
  })
end)

test("basename is the last component, with an extension taken off", function()
  table_of(path.basename, {
    { "/a/b/", "b" }, { "/a/b", "b" }, { "b", "b" }, { "", "" }, { "/", "" }, { "//", "" },
    { "a.lua", ".lua", "a" }, { "a.lua", "lua", "a." }, { "/x/a.lua/", ".lua", "a" },
    { ".lua", ".lua", ".lua" }, { "a.lua", "", "a.lua" }, { "a.lua", ".c", "a.lua" },
    { "aa", "aa", "aa" }, { "..", ".." },
  })
end)

test("extname is what follows the last dot, with it", function()
  table_of(path.extname, {
    { ".bashrc", "" }, { "a.lua", ".lua" }, { "a.tar.gz", ".gz" }, { "a", "" }, { "", "" },
    { "a.", "." }, { "/x.d/a", "" }, { "/x.d/a.c/", ".c" }, { ".a.b", ".b" }, { "..", "" },
    { "...", "." }, { "..a", ".a" }, { "a..", "." }, { "/.", "" }, { "/", "" },
  })
end)

test("relative is the way from one path to another", function()
  local cwd = fs.cwd()
  local here = path.basename(cwd)
  table_of(path.relative, {
    { "/a/b", "/a/c", "../c" }, { "/a", "/a/b/c", "b/c" }, { "/a/b/c", "/a", "../.." },
    { "/a", "/a", "" }, { "/", "/a", "a" }, { "/a", "/", ".." }, { "/a/bc", "/a/b", "../b" },
    { "a", "b", "../b" }, { "a/./b/..", "a/c", "c" }, { "", "", "" }, { "", "a", "a" },
    { "a", cwd .. "/b", "../b" }, { cwd, "x/y", "x/y" }, { "..", "a", here .. "/a" },
    { "/..", "/a", "a" },
  })
end)

test("is_absolute and resolve know the root", function()
  table_of(path.is_absolute, {
    { "/", true }, { "/a", true }, { "a/b", false }, { "", false }, { "./a", false },
  })
  test.eq(path.resolve(), fs.cwd())
  test.eq(path.resolve("a", "../b"), fs.cwd() .. "/b")
  test.eq(path.resolve("x", "/a", "b/", "..", "c"), "/a/c")
end)

test("names that are no UTF-8 pass as they are", function()
  test.eq(path.join("\255a", "\254"), "\255a/\254")
  test.eq(path.basename "x/\255.\254", "\255.\254")
  test.eq(path.extname "x/\255.\254", ".\254")
end)

test("what is no path is a bad argument at the caller's line", function()
  for _, name in ipairs {
    "join", "dirname", "basename", "extname", "normalize", "relative", "is_absolute", "resolve",
  } do
    local fn = path[name]
    test.raises(("bad argument #1 to '%s' %%(string expected, got nil%%)"):format(name), fn, nil)
    test.raises(("bad argument #1 to '%s' %%(string expected, got table%%)"):format(name), fn, {})
    test.raises(("bad argument #1 to '%s' %%(the path contains a NUL"):format(name), fn, "a\0b")
  end
  test.raises("bad argument #2 to 'join'", path.join, "a", false)
  test.raises("bad argument #2 to 'relative'", path.relative, "a")
  test.raises("bad argument #2 to 'basename'", path.basename, "a", {})
  test.blames_caller("bad argument #1 to 'dirname'", function() path.dirname(nil) end)
end)
