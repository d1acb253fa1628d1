local async, fs, test = require "rille.async", require "rille.fs", require "support.test"
local files = require "support.files"

local shell, descriptors = files.shell, files.descriptors

-- "type name" of each event up to the first that fits `last`, also in its form "type name<from".
local function until_event(watch, last)
  local list = {}
  for event in watch do
    local text = event.type .. " " .. tostring(event.name)
    if event.from then text = text .. "<" .. event.from:match "[^/]*$" end
    list[#list + 1] = text
    if text == last then return list end
  end
  error("there was no " .. last .. " but " .. test.show(list))
end

-- Leaves out what the test is not about.
local function without_changes(list)
  local rest = {}
  for _, text in ipairs(list) do
    if not text:find "^change" then rest[#rest + 1] = text end
  end
  return rest
end

local function count(list, text)
  local n = 0
  for _, entry in ipairs(list) do n = n + (entry == text and 1 or 0) end
  return n
end

test("a watch is in force when the call returns", function()
  local dir = test.tmpdir()
  local watch = fs.watch(dir)
  test.write(dir .. "/a", "text")
  local event = watch()
  test.eq(event, { type = "create", name = "a", path = dir .. "/a" })
  event = watch()
  test.eq(event, { type = "change", name = "a", path = dir .. "/a" })
  watch:close()
end)

test("a watch tells what is made, changed, renamed and deleted", function()
  local dir = test.tmpdir()
  test.write(dir .. "/old", "")
  local watch = fs.watch(dir .. "/")
  fs.mkdir(dir .. "/folder")
  fs.write_file(dir .. "/folder/unseen", "")
  fs.write_file(dir .. "/old", "text")
  fs.chmod(dir .. "/old", "600")
  fs.rename(dir .. "/old", dir .. "/new")
  fs.symlink("none", dir .. "/link")
  fs.remove(dir .. "/new")
  test.eq(until_event(watch, "delete new"), {
    "create folder", "change old", "rename new<old", "create link", "delete new",
  })
  fs.rename(dir .. "/folder", dir .. "/moved")
  test.eq(watch(), {
    type = "rename", name = "moved", path = dir .. "/moved", from = dir .. "/folder",
  })
  watch:close()
end)

test("what is moved out is deleted, and what is moved in is created", function()
  local dir = test.tmpdir()
  shell(("cd '%s'; mkdir in out; touch in/a in/b out/c"):format(dir))
  local watch = fs.watch(dir .. "/in")
  shell(("cd '%s'; mv in/a out; mv in/b out; mv out/c in; mv out/a in"):format(dir))
  test.eq(until_event(watch, "create a"), { "delete a", "delete b", "create c", "create a" })
  watch:close()
end)

test("two watches of a runtime each get what is theirs", function()
  local dir = test.tmpdir()
  fs.mkdir(dir .. "/a")
  fs.mkdir(dir .. "/b")
  local one, two, both = fs.watch(dir .. "/a"), fs.watch(dir .. "/b"), fs.watch(dir .. "/a")
  fs.write_file(dir .. "/a/x", "")
  fs.rename(dir .. "/a/x", dir .. "/b/y")
  test.eq(until_event(one, "delete x"), { "create x", "delete x" })
  test.eq(until_event(two, "create y"), { "create y" })
  one:close()
  fs.write_file(dir .. "/a/z", "")
  test.eq(until_event(both, "create z"), { "create x", "delete x", "create z" })
  two:close()
  both:close()
end)

test("a file can be watched", function()
  local dir = test.tmpdir()
  local path = test.write(dir .. "/file", "")
  local watch = fs.watch(path)
  fs.write_file(dir .. "/other", "")
  fs.write_file(path, "text", { append = true })
  test.eq(watch(), { type = "change", name = "file", path = path })
  fs.chmod(path, "600")
  test.eq(watch().type, "change")
  local open = fs.open(path)
  fs.remove(path)
  test.eq(watch(), { type = "delete", name = "file", path = path }, "though it is still open")
  test.eq(watch(), nil)
  open:close()
end)

test("if the watched thing goes, that is the last event", function()
  local dir = test.tmpdir()
  local before = descriptors(true)
  local function setup()
    shell(("rm -rf '%s/'*; mkdir '%s/w'; touch '%s/w/f'"):format(dir, dir, dir))
    return dir .. "/w"
  end
  for _, recursive in ipairs { true, false } do
    local watch = fs.watch(setup(), { recursive = recursive })
    fs.remove(dir .. "/w", { recursive = true })
    local list = until_event(watch, "delete w")
    test.eq(list[1], "delete f")
    test.eq(watch(), nil)
    test.eq(watch(), nil)
    watch = fs.watch(setup(), { recursive = recursive })
    fs.rename(dir .. "/w", dir .. "/v")
    test.eq(until_event(watch, "rename w"), { "rename w" })
    test.eq(watch(), nil)
  end
  local watch = fs.watch(setup() .. "/f")
  fs.write_file(dir .. "/w/f", "new", { atomic = true })
  test.eq(without_changes(until_event(watch, "delete f")), { "delete f" }, "replaced")
  test.eq(watch(), nil)
  files.await_descriptors(before, true)
end)

test("a recursive watch covers folders that are there and that come later", function()
  local dir = test.tmpdir()
  shell(("mkdir -p '%s/a/b'; ln -s . '%s/a/round'"):format(dir, dir))
  local watch = fs.watch(dir, { recursive = true })
  fs.write_file(dir .. "/a/b/f", "")
  test.eq(watch(), { type = "create", name = "a/b/f", path = dir .. "/a/b/f" })
  fs.mkdir(dir .. "/a/b/c/d", { parents = true })
  fs.write_file(dir .. "/a/b/c/d/g", "")
  test.eq(without_changes(until_event(watch, "create a/b/c/d/g")),
    { "create a/b/c", "create a/b/c/d", "create a/b/c/d/g" })
  fs.remove(dir .. "/a/b/c/d/g")
  fs.rename(dir .. "/a/b/c", dir .. "/x")
  fs.write_file(dir .. "/x/d/h", "")
  test.eq(until_event(watch, "create x/d/h"), { "delete a/b/c/d/g", "rename x<c", "create x/d/h" })
  fs.remove(dir .. "/x", { recursive = true })
  test.eq(until_event(watch, "delete x"), { "delete x/d/h", "delete x/d", "delete x" })
  watch:close()
end)

test("a recursive watch forgets what is moved out, and covers what is moved in", function()
  local dir = test.tmpdir()
  shell(("cd '%s'; mkdir -p in/a/b out/c/d; touch out/c/d/e"):format(dir))
  local watch = fs.watch(dir .. "/in", { recursive = true })
  shell(("cd '%s'; mv in/a out; touch out/a/b/unseen; mv out/c in"):format(dir))
  test.eq(without_changes(until_event(watch, "create c/d/e")),
    { "delete a", "create c", "create c/d", "create c/d/e" })
  shell(("cd '%s'; touch in/c/d/f"):format(dir))
  test.eq(watch().name, "c/d/f")
  watch:close()
end)

test("a watch of a relative path stays where it is when the working directory changes", function()
  local dir, former = test.tmpdir(), fs.cwd()
  test.defer(function() fs.chdir(former) end)
  shell(("mkdir '%s/w' && touch '%s/f'"):format(dir, dir))
  fs.chdir(dir)
  local folder, file = fs.watch("w", { recursive = true }), fs.watch "f"
  fs.chdir "/"
  fs.mkdir(dir .. "/w/new")
  fs.write_file(dir .. "/w/new/file", "")
  fs.chmod(dir .. "/f", "600")
  test.eq(folder(), { type = "create", name = "new", path = "w/new" })
  test.eq(folder().name, "new/file")
  test.eq(file().type, "change")
  folder:close()
  file:close()
end)

test("no file in a folder that is just being made is missed, or told twice", function()
  local dir = test.tmpdir()
  local watch = fs.watch(dir, { recursive = true })
  local folders, inside = 30, 20
  -- Another process makes them as fast as it can, while the watch covers one after the other.
  shell(("(cd '%s'; for i in $(seq %d); do mkdir -p $i/sub; for j in $(seq %d); do "
    .. ": > $i/sub/$j; done; done; : > end) &"):format(dir, folders, inside))
  local list = until_event(watch, "create end")
  -- What was found by looking may come after the end.
  fs.write_file(dir .. "/last", "")
  for _, text in ipairs(until_event(watch, "create last")) do list[#list + 1] = text end
  for i = 1, folders do
    test.eq(count(list, "create " .. i), 1, "folder " .. i)
    test.eq(count(list, ("create %d/sub"):format(i)), 1, "folder within " .. i)
    for j = 1, inside do
      test.eq(count(list, ("create %d/sub/%d"):format(i, j)), 1, ("file %d in %d"):format(j, i))
    end
  end
  watch:close()
end)

test("more than can be kept is an overflow, and the watch goes on", { limit = 3 }, function()
  local dir = files.roomy_tmpdir()
  local watch = fs.watch(dir, { recursive = true })
  -- This process stands still meanwhile, so nobody takes the system's events.
  files.make_many(dir, 20000)
  shell(("mkdir '%s/late'"):format(dir))
  local overflow
  for event in watch do
    if event.type == "overflow" then
      overflow = event
      break
    end
  end
  test.eq({ overflow.path, overflow.name }, { dir, nil })
  fs.write_file(dir .. "/end", "")
  until_event(watch, "create end")
  fs.write_file(dir .. "/late/file", "")
  until_event(watch, "create late/file")
  watch:close()
end)

test("a wait for an event that is cancelled loses none", function()
  local dir = test.tmpdir()
  local watch = fs.watch(dir)
  for round = 1, 20 do
    local waiter = async.spawn(watch)
    test.turns(round % 4)
    local writer = async.spawn(fs.mkdir, dir .. "/" .. round)
    test.turns(round % 5)
    waiter:cancel()
    async.wait { waiter, writer }
    local event = waiter:cancelled() and watch() or waiter:result()
    test.eq(event.name, tostring(round))
  end
  test.eq(async.move_on_after(0.01, watch), false)
  fs.mkdir(dir .. "/end")
  test.eq(watch().name, "end")
  watch:close()
end)

test("several tasks share a watch, and each event goes to one", function()
  local dir = test.tmpdir()
  local watch, seen = fs.watch(dir), {}
  local waiters = {}
  for i = 1, 5 do
    waiters[i] = async.spawn(function()
      local event = watch()
      seen[#seen + 1] = event.name
    end)
  end
  async.sleep(0)
  for i = 1, 5 do fs.mkdir(dir .. "/" .. i) end
  async.wait(waiters)
  test.eq(seen, { "1", "2", "3", "4", "5" })
  watch:close()
end)

test("closing a watch wakes those who wait in it, and it gives nothing any more", function()
  local dir = test.tmpdir()
  local before = descriptors(true)
  local watch = fs.watch(dir)
  local waiters = { async.spawn(watch), async.spawn(watch) }
  files.a_moment()
  watch:close()
  for _, waiter in ipairs(waiters) do
    local err = test.raises("InvalidStateError", waiter.await, waiter)
    test.contains(err.message, dir)
  end
  watch:close()
  test.eq(watch(), nil)
  files.await_descriptors(before, true)
end)

test("a watch that ends by itself, fails, is cancelled or dropped holds nothing", function()
  local dir = test.tmpdir()
  shell(("mkdir -p '%s/a/b/c'"):format(dir))
  local before = descriptors(true)
  test.eq(test.raises("OSError", fs.watch, dir .. "/none").code, "ENOENT")
  files.await_descriptors(before, true)
  async.with(fs.watch(dir, { recursive = true }), function() end)
  files.await_descriptors(before, true)
  local kept = {}
  local task = async.spawn(function()
    kept[1] = fs.watch(dir, { recursive = true })
    for _ in kept[1] do end
  end)
  files.a_moment()
  assert(descriptors(true) > before)
  task:cancel()
  async.wait { task }
  files.await_descriptors(before, true)
  for turns = 0, 6 do
    task = async.spawn(fs.watch, dir, { recursive = true })
    test.turns(turns)
    task:cancel()
    async.wait { task }
    if not task:cancelled() then task:result():close() end
  end
  files.await_descriptors(before, true)
  fs.watch(dir)
  files.await_descriptors(before)
end)

test("a hundred and fifty watches are no more than one for the system's limit", function()
  local dir = test.tmpdir()
  local watches = {}
  for i = 1, 150 do
    fs.mkdir(dir .. "/" .. i)
    watches[i] = fs.watch(dir .. "/" .. i)
  end
  for i = 1, 150 do fs.write_file(("%s/%d/f"):format(dir, i), "") end
  for i = 1, 150 do
    test.eq(watches[i]().path, ("%s/%d/f"):format(dir, i))
    watches[i]:close()
  end
end)

test("names that are no UTF-8 are told as they are", function()
  local dir = test.tmpdir()
  local watch = fs.watch(dir)
  fs.mkdir(dir .. "/\255\n")
  test.eq(watch(), { type = "create", name = "\255\n", path = dir .. "/\255\n" })
  watch:close()
end)

test("a watch does not hold up the program's end, and waiting is no deadlock", function()
  local result = test.script([[
    local async, fs = require "rille.async", require "rille.fs"
    local watch = fs.watch(arg[1], { recursive = true })
    async.spawn(watch)
    io.popen("sleep 0.05; mkdir " .. arg[1] .. "/new")
    print(fs.watch(arg[1])().name)
  ]], { args = { test.tmpdir() } })
  test.eq(result.stdout, "new\n", result.stderr)
  test.eq({ result.code, result.stderr }, { 0, "" })
end)

test("a watch that nothing holds up says what it waits for", function()
  local dir = test.tmpdir()
  local watch = fs.watch(dir)
  local task = async.spawn(watch)
  async.sleep(0)
  local report = require "rille.core.report"
  test.contains(report.waits_for(task), ("watch of '%s'"):format(dir))
  task:cancel()
  async.wait { task }
  watch:close()
end)
