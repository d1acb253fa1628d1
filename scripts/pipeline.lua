-- A pipeline as a shell makes it: sort | uniq -c | sort -rn, each reading what the one before it
-- writes. The bytes go from process to process; this program only feeds the first and reads from
-- the last.
local async = require "rille.async"
local process = require "rille.process"

local WORDS = [[the cat and the dog and the bird sat on the wall and sang to the moon]]

-- Starts the commands; gives the stream to write to, the one to read from, and all processes.
local function pipeline(commands)
  local processes, previous = {}, "pipe"
  for i, command in ipairs(commands) do
    command.stdin, command.stdout = previous, "pipe"
    processes[i] = process.spawn(command)
    if i > 1 then previous:close() end -- it belongs to the process now
    previous = processes[i].stdout
  end
  return processes[1].stdin, previous, processes
end

local input, output, processes = pipeline {
  { "sort" },
  { "uniq", "-c" },
  { "sort", "-k1,1nr", "-k2" },
  { "head", "-n", 4 },
}

async.gather {
  function()
    for word in WORDS:gmatch "%a+" do input:write(word, "\n") end
    input:close()
  end,
  function()
    for line in output:lines() do print(line) end
  end,
}

for _, p in ipairs(processes) do
  local status = p:wait()
  assert(status.ok or status.signal == "SIGPIPE") -- as when head has seen enough
end
