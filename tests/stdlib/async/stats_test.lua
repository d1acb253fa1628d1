local async = require "rille.async"
local fs = require "rille.fs"
local test = require "support.test"

local function pool_size(value)
  local code = [[io.write(require("rille.async").stats().pool_size)]]
  local result = test.rille({ "-e", code }, { env = { RILLE_POOL_SIZE = value } })
  test.eq(result.code, 0)
  return tonumber(result.stdout), result.stderr
end

test("stats tell what the runtime has in hand", function()
  local before = async.stats()
  for _, name in ipairs {
    "tasks", "timers", "handles", "pool_size", "pool_queued", "abandoned",
  } do
    test.eq(type(before[name]), "number", name)
  end
  local event = async.Event()
  local task = async.spawn(event.wait, event)
  async.sleep(0)
  test.eq(async.stats().tasks, before.tasks + 1)
  event:set()
  task:await()
end)

test("RILLE_POOL_SIZE sets the size of a pool", function()
  test.eq({ pool_size "3" }, { 3, "" })
  test.eq({ pool_size "1" }, { 1, "" })
end)

test("without RILLE_POOL_SIZE a pool has at least four threads", function()
  local size, stderr = pool_size(false)
  assert(size >= 4, size)
  test.eq({ pool_size "" }, { size, stderr })
end)

test("a RILLE_POOL_SIZE that is no size is reported and ignored", function()
  local normal = pool_size(false)
  for _, value in ipairs { "0", "-1", "many", "4 threads", "1.5", "100000" } do
    local size, stderr = pool_size(value)
    test.eq(size, normal)
    test.contains(stderr, ("RILLE_POOL_SIZE is ignored: it is '%s'"):format(value))
  end
end)

test("operations beyond the pool's size wait, and are done in the end", function()
  local path = test.tmpdir() .. "/file"
  fs.write_file(path, "text")
  local size = async.stats().pool_size
  local tasks = {}
  for i = 1, size * 10 do tasks[i] = async.spawn(fs.read_file, path) end
  for _, task in ipairs(tasks) do test.eq(task:await(), "text") end
  test.eq(async.stats().pool_queued, 0)
end)

test("one thread is enough for everything", function()
  local result = test.script([[
    local async, fs, dns = require "rille.async", require "rille.fs", require "rille.dns"
    local tasks = {}
    for i = 1, 50 do
      tasks[i] = async.spawn(i % 2 == 0 and fs.read_file or dns.lookup,
        i % 2 == 0 and "/proc/self/stat" or "localhost")
    end
    for _, task in ipairs(tasks) do assert(#task:await() > 0) end
    print "done"]], { env = { RILLE_POOL_SIZE = "1" } })
  test.eq({ result.code, result.stdout, result.stderr }, { 0, "done\n", "" })
end)

test("where the system gives no thread an operation fails, and says so", function()
  -- No address space is large enough for such a stack.
  local limited = [[sh -c 'ulimit -s 100000000000 2>/dev/null || exit 77; exec "$0" "$@"']]
  local result = test.script([[
    local errors, fs, dns = require "rille.errors", require "rille.fs", require "rille.dns"
    local function check(fn, ...)
      local ok, e = pcall(fn, ...)
      assert(not ok and errors.is(e, "OSError") and e.code == "EAGAIN", tostring(e))
    end
    check(fs.stat, "/tmp")
    check(fs.write_file, "/dev/null", "x")
    check(dns.lookup, "localhost")
    print "told"]], { prefix = limited })
  if result.code == 77 then return end -- the limit must not be raised here
  test.eq({ result.code, result.stdout, result.stderr }, { 0, "told\n", "" })
end)
