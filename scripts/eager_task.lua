-- An eager task runs at once up to its first wait: if it never waits, as with a cache hit, it is
-- done before spawn_eager returns.
-- From "python-asyncio" (Eager Task Factory). The document prints nothing; the sleep is ten times
-- shorter.
local async = require "rille.async"

local cache = { a = "value_a", b = "value_b" }

local function cached_operation(key)
  if cache[key] then return cache[key] end
  async.sleep(0.1)
  return "fetched_" .. key
end

for _, key in ipairs { "a", "c" } do
  local task = async.spawn_eager(cached_operation, key)
  local when = task:done() and "at once" or "after a wait"
  print(("%s: %s, %s"):format(key, task:await(), when))
end
