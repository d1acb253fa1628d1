--- What the jobs of several threads print.
local test = require "support.test"

local SCRIPT = [[
local async = require "rille.async"
local worker = require "rille.worker"
async.with(worker.Pool { size = 4 }, function(pool)
  pool:map({ 1, 2, 3, 4 }, function(job)
    for line = 1, 20000 do print("job", job, "line", line, nil, true) end
  end)
end)
]]

test("lines that threads print at once stay whole", function()
  local result = test.script(SCRIPT)
  test.eq(result.stderr, "")
  local lines = 0
  for line in result.stdout:gmatch "[^\n]*\n" do
    lines = lines + 1
    test.matches(line, "^job\t%d\tline\t%d+\tnil\ttrue\n$")
  end
  test.eq(lines, 80000)
end)
