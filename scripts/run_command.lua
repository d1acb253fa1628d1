-- Runs commands to their end: what is fed to them, what they print, how they end. There is no shell
-- in between, so arguments mean themselves.
local process = require "rille.process"

local function report(result)
  local how = result.signal and "by " .. result.signal or "with " .. result.code
  print(("Ended %s, printed %q"):format(how, result.stdout .. result.stderr))
end

report(process.run { "printf", "%s", "Hello, * $HOME `you`" })
report(process.run { "tr", "a-z", "A-Z", input = "what it reads" })
report(process.run { "sh", "-c", "printf $COLOUR", env = { COLOUR = "blue" } })
report(process.run { "sh", "-c", "printf 'no luck' >&2; exit 3", cwd = "/" })
report(process.run { "sh", "-c", "kill -KILL $$" })

-- With `check`, what does not end with 0 is an error.
local _, err = pcall(process.run, { "sh", "-c", "printf 'no luck' >&2; exit 3", check = true })
print(err, err.stderr)

_, err = pcall(process.run, { "no-such-command" })
print(err)
