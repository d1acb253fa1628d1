--- Scripts that are not trusted, run by the executable.
local test = require "support.test"

local sandbox = {}

local PRELUDE = [[
local errors, async = require "rille.errors", require "rille.async"
local function refused(part, fn, ...)
  local ok, e = pcall(fn, ...)
  assert(not ok, "it was not refused")
  assert(errors.is(e, "PermissionError"), tostring(e))
  assert(e.code == "EACCES", tostring(e.code))
  assert(tostring(e):find(part, 1, true), tostring(e))
end
local function fails(part, fn, ...)
  local ok, e = pcall(fn, ...)
  assert(not ok and tostring(e):find(part, 1, true), tostring(e))
end
]]

--- Runs a script with `--sandbox` and further options; it has `refused(part, fn, ...)`,
-- `fails(part, fn, ...)`, `errors` and `async`, and must end well. Gives what it printed.
function sandbox.run(code, options, opts)
  opts = opts or {}
  opts.options = { "--sandbox" }
  for _, option in ipairs(options or {}) do opts.options[#opts.options + 1] = option end
  local result = test.script(PRELUDE:gsub("\n", " ") .. code, opts)
  if result.code ~= 0 then
    error(("status %s, signal %s\n%s%s"):format(tostring(result.code), tostring(result.signal),
      result.stdout, result.stderr), 2)
  end
  return result.stdout
end

--- A folder `granted` and a folder `secret` beside it, with a file in each.
function sandbox.folders()
  local dir = test.tmpdir()
  assert(os.execute(("mkdir '%s/granted' '%s/secret'"):format(dir, dir)) == 0)
  test.write(dir .. "/granted/file", "for all")
  test.write(dir .. "/secret/file", "for none")
  return dir, dir .. "/granted", dir .. "/secret"
end

return sandbox
