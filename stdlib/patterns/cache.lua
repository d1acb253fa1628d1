--- Values that are dear to get, kept for a time. However many ask for one that is not there, it is
-- loaded once.
local core = require "rille.core.scheduler"
local errors = require "rille.errors"
local check = require "rille.core.check"
local List = require "rille.core.list"
local shared = require "rille.patterns.shared"
local support = require "rille.patterns.support"

local time = core.time
local setmetatable, type = setmetatable, type

---@class Cache
local Cache = {}
Cache.__index = Cache
Cache.__name = "Cache"

-- An entry stands in two lists: by age itself, and by its last use with a node.
local function drop(self, entry)
  self._entries[entry.key] = nil
  self._by_age:remove(entry)
  self._by_use:remove(entry.use)
  self._size = self._size - 1
end

-- All live equally long, so the oldest expire first.
local function drop_expired(self)
  local oldest = self._by_age.head
  if not oldest or oldest.expires == math.huge then return end
  local now = time()
  while oldest and oldest.expires <= now do
    drop(self, oldest)
    oldest = self._by_age.head
  end
end

local function store(self, key, value)
  drop_expired(self)
  local entry = self._entries[key]
  if entry then drop(self, entry) end
  if self._size >= self._max then drop(self, self._by_use.head.entry) end
  local ttl = self._ttl
  entry = { key = key, value = value, expires = ttl == math.huge and ttl or time() + ttl }
  entry.use = { entry = entry }
  self._entries[key] = entry
  self._by_age:append(entry)
  self._by_use:append(entry.use)
  self._size = self._size + 1
end

local function name_of(key) return ("a cache's load of '%s'"):format(support.text_of(key)) end

local function load(self, key, loader)
  local loads = self._loads
  return shared.start(shared.within(self._env), name_of(key), function(work)
    local value = loader(key)
    -- After delete() or set() it is out of date, though good enough for those who asked before.
    if loads[key] == work then store(self, key, value) end
    return value
  end, function(work)
    if loads[key] == work then loads[key] = nil end
  end)
end

local function check_key(key, name)
  if key == nil or key ~= key then
    check.bad(1, name, "a key expected, got " .. (key == nil and "nil" or "NaN"))
  end
end

--- The value of a key; one that is not there is loaded. Whoever asks for it meanwhile waits for the
-- same load. An error goes to all who wait and is not kept: who asks next loads again. One who is
-- cancelled leaves the load to the others; the last one's cancellation ends it.
---@async
---@param key any  neither nil nor NaN
---@param loader? fun(key: any): any  what it returns first is the value, nil too; it runs in a task
-- of its own, in the context of who asked first. Without it nothing is loaded, and get does not
-- wait
---@return any  the value; nil if it is not there and there is no loader
-- Errors: those of the loader; Cancelled.
-- Source: aiocache, async_lru, golang.org/x/sync/singleflight.
function Cache:get(key, loader)
  check_key(key, "get")
  if loader ~= nil and type(loader) ~= "function" then check.callable(loader, 2, "get") end
  local entry = self._entries[key]
  if entry then
    local expires = entry.expires
    if expires == math.huge or expires > time() then
      if self._max < math.huge then
        self._by_use:remove(entry.use)
        self._by_use:append(entry.use)
      end
      return entry.value
    end
  end
  if loader == nil then return nil end
  local work = self._loads[key]
  if not work then
    work = load(self, key, loader)
    self._loads[key] = work
  elseif work:is_own() then
    errors._raise("InvalidStateError", ("get: %s asks for itself"):format(name_of(key)))
  end
  return (work:await())
end

--- Puts a value in, in place of what was there or is being loaded.
---@param key any
---@param value any
function Cache:set(key, value)
  check_key(key, "set")
  self._loads[key] = nil
  store(self, key, value)
end

--- Takes a value out. One that is being loaded is not kept.
---@param key any
---@return boolean  whether it was there
function Cache:delete(key)
  check_key(key, "delete")
  self._loads[key] = nil
  drop_expired(self)
  local entry = self._entries[key]
  if not entry then return false end
  drop(self, entry)
  return true
end

local function make_empty(self)
  self._entries, self._loads, self._size = {}, {}, 0
  self._by_age, self._by_use = List.new(), List.new()
end

--- Takes everything out. What is being loaded is not kept.
function Cache:clear()
  -- The loads under way look into the table they were started from.
  for key in pairs(self._loads) do self._loads[key] = nil end
  make_empty(self)
end

--- How many values are in it.
---@return integer
function Cache:size()
  drop_expired(self)
  return self._size
end

local OPTIONS = { ttl = true, max = true }

---@class rille.patterns.CacheOptions
---@field ttl? number  seconds for which a value counts, from when it was there; for ever by default
---@field max? integer  how many values are kept, those used last; no limit by default

--- Makes an empty cache.
---@param options? rille.patterns.CacheOptions
---@return Cache
return function(options)
  local o = check.options(options, OPTIONS, 1, "Cache")
  local self = setmetatable({
    _ttl = support.seconds("ttl", o.ttl, math.huge, "Cache"),
    _max = support.count("max", o.max, math.huge, "Cache"),
    _env = shared.environment(),
  }, Cache)
  make_empty(self)
  return self
end
