--- What tests of files share.
local async, fs, test = require "rille.async", require "rille.fs", require "support.test"

local files = {}

function files.shell(command) assert(os.execute(command) == 0, command) end

--- Lets operations on the pool, and the loop, get on.
function files.a_moment() async.sleep(0.02) end

--- How many descriptors this process has, once operations that were given up have ended. Unless
-- `uncollected`, those that nobody holds any more do not count.
function files.descriptors(uncollected)
  local count
  repeat
    local before = count
    if not uncollected then
      collectgarbage()
      collectgarbage()
    end
    files.a_moment()
    count = #fs.list "/proc/self/fd"
  until count == before
  return count
end

--- Waits until there are no more than `before`: operations that were given up end by themselves.
function files.await_descriptors(before, uncollected)
  while #fs.list "/proc/self/fd" > before and files.descriptors(uncollected) > before do
    files.a_moment()
  end
end

--- A fresh folder for many files: in memory, since disks take their time for a hundred thousand.
function files.roomy_tmpdir()
  if not fs.is_dir "/dev/shm" then return test.tmpdir() end
  local dir = fs.mkdtemp "/dev/shm/rille-test-"
  test.defer(function() files.shell("rm -rf -- '" .. dir .. "'") end)
  return dir
end

--- Makes empty files named by their numbers, many at a time.
function files.make_many(dir, count)
  files.shell(("cd '%s' && seq 1 %d | xargs touch"):format(dir, count))
end

function files.is_root() return fs.stat("/proc/self").uid == 0 end

--- The most memory that this process has had, in KiB.
function files.peak_memory()
  return tonumber(fs.read_file("/proc/self/status"):match "VmHWM:%s*(%d+)")
end

--- What an iterator gives, as a list of lists, in its order.
function files.all(iterator)
  local list = {}
  while true do
    local values = { iterator() }
    if values[1] == nil then return list end
    list[#list + 1] = values
  end
end

--- Runs fn(dir) with a folder on a file system of `size` bytes, in a process of its own; says what
-- is missing if that is not permitted.
function files.on_small_disk(code, size)
  local dir = test.tmpdir()
  local script = test.write(dir .. "/script.lua", code)
  local mounted = ("mount -t tmpfs -o size=%d,nr_inodes=100 rille-test '%s/disk'"):format(size, dir)
  fs.mkdir(dir .. "/disk")
  local unshare = files.is_root() and "unshare -m" or "unshare -rm"
  if os.execute(("%s sh -c \"%s\" 2>/dev/null"):format(unshare, mounted)) ~= 0 then return nil end
  local result = test.rille({}, {
    prefix = ("%s sh -c \"%s && exec '%s' '%s' '%s/disk'\" --"):format(
      unshare, mounted, test.executable(), script, dir),
  })
  return result
end

return files
