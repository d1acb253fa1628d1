--- A program in a terminal: what a test types, and what is shown.
local process = require "rille.process"

local DIRECTORY = package.searchpath("support.test", package.path):match "^(.*)/"

local Terminal = {}
Terminal.__index = Terminal

--- Starts a command in a terminal of 80 columns and 24 rows.
---@param command string[]
---@param env? table  in place of the environment
local function open(command, env)
  local spec = { "python3", DIRECTORY .. "/terminal.py", 80, 24, stdin = "pipe", stdout = "pipe",
    env = env, group = true }
  for _, word in ipairs(command) do spec[#spec + 1] = word end
  return setmetatable({ proc = process.spawn(spec), shown = "" }, Terminal)
end

function Terminal:type(keys) self.proc.stdin:write(keys) end

--- Waits until the text is shown, and gives all that was shown up to it since the last call.
function Terminal:expect(text)
  while true do
    local _, last = self.shown:find(text, 1, true)
    if last then
      local before = self.shown:sub(1, last)
      self.shown = self.shown:sub(last + 1)
      return before
    end
    local more = self.proc.stdout:read()
    if not more then error(("expected %q before the end, got:\n%s"):format(text, self.shown), 2) end
    self.shown = self.shown .. more
  end
end

--- Waits for the end. Gives what was shown since the last call, and the status.
function Terminal:rest()
  for more in function() return self.proc.stdout:read() end do self.shown = self.shown .. more end
  return self.shown, self.proc:wait()
end

function Terminal:close() self.proc:close() end

return open
