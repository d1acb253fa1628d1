--- What tests of files share.
local async, fs, test = require "rille.async", require "rille.fs", require "support.test"

local files = {}

function files.shell(command) assert(os.execute(command) == 0, command) end

--- Makes a FIFO and gives its path.
function files.fifo()
  local path = test.tmpdir() .. "/fifo"
  files.shell("mkfifo '" .. path .. "'")
  return path
end

--- Makes a file and gives its path.
function files.file_with(text) return test.write(test.tmpdir() .. "/file", text) end

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

-- Runs `code` in a process that has mounts of its own, made by the shell's `mount`; nil if that is
-- not permitted here.
local function with_mounts(mount, code, ...)
  local script = test.write(test.tmpdir() .. "/script.lua", code)
  local unshare = files.is_root() and "unshare -m" or "unshare -rm"
  if os.execute(("%s sh -c \"%s\" 2>/dev/null"):format(unshare, mount)) ~= 0 then
    print "# mounting is not permitted here"
    return nil
  end
  local args = {}
  for i, arg in ipairs { test.executable(), script, ... } do args[i] = ("'%s'"):format(arg) end
  return test.rille({}, {
    prefix = ("%s sh -c \"%s && exec %s\" --"):format(unshare, mount, table.concat(args, " ")),
  })
end

--- Runs `code` in a process of its own with a folder on a file system of `size` bytes and 100 files
-- at most, whose path is `arg[1]`. Gives nil if that is not permitted here.
function files.on_small_disk(code, size)
  local disk = test.tmpdir() .. "/disk"
  fs.mkdir(disk)
  local mount = ("mount -t tmpfs -o size=%d,nr_inodes=100 rille-test '%s'"):format(size, disk)
  return with_mounts(mount, code, disk)
end

--- The same without a /proc, and with a folder in the place of the small disk.
function files.without_proc(code)
  return with_mounts("mount -t tmpfs rille-test /proc", code, test.tmpdir())
end

return files
