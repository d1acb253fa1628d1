--- `require` in Lua, so that a module may wait while it is loaded. As the stock one, but two tasks
-- may ask for the same module at a time: the second waits for the first.
local task = require "rille.core.task"

--- Makes a `require` that loads by a table like `package`.
---@param package table  `loaders` and `loaded`
---@return fun(name: string): any
local function make(package)
  local loading = {} -- name -> { owner = task, done = Future, inner = name the owner waits for }

  local function find(name)
    local loaders = package.loaders
    if type(loaders) ~= "table" then error("'package.loaders' must be a table", 3) end
    local messages = {}
    for i = 1, #loaders do
      local loader = loaders[i](name)
      if type(loader) == "function" then return loader end
      if type(loader) == "string" then messages[#messages + 1] = loader end
    end
    error(("module '%s' not found:%s"):format(name, table.concat(messages)), 3)
  end

  local function load(name, loader)
    local result = loader(name)
    if result ~= nil then package.loaded[name] = result end
    if package.loaded[name] == nil then package.loaded[name] = true end
  end

  -- task -> the one that loads what it asks for
  local waits_for = setmetatable({}, { __mode = "k" })

  local function in_a_loop(owner, me)
    while owner do
      if owner == me then return true end
      owner = waits_for[owner]
    end
  end

  --- Loads a module, once; the loader may wait.
  ---@async
  local function require(name)
    if type(name) == "number" then name = tostring(name) end
    if type(name) ~= "string" then
      error(("bad argument #1 to 'require' (string expected, got %s)"):format(
        name == nil and "no value" or type(name)), 2)
    end
    local loaded = package.loaded[name]
    if loaded ~= nil then return loaded end

    local me = task.current()
    local other = loading[name]
    if other then
      if in_a_loop(other.owner, me) then
        error(("loop or previous error loading module '%s'"):format(name), 2)
      end
      waits_for[me] = other.owner
      local err = task.join(other.done) -- not await, which would pass a cancellation on
      waits_for[me] = nil
      if err ~= nil then task.raise(err) end
      return require(name)
    end

    local loader = find(name)
    local mine = { owner = me, done = task.new_future() }
    loading[name] = mine
    local ok, e = task.protected(load, name, loader)
    loading[name] = nil
    mine.done:set_result()
    if not ok then task.rethrow(e) end
    return package.loaded[name]
  end

  return require
end

require = make(package)

return make
